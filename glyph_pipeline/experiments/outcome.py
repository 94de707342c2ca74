"""Outcome: what a search has found, measured once more on a larger sample, and whether anything beats the default. Proposes nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from glyph_pipeline.experiments.intervals import Estimate, difference
from glyph_pipeline.experiments.objective import Measured, Objective
from glyph_pipeline.experiments.pareto import front
from glyph_pipeline.experiments.search import Records, key_of, trials_in_front
from glyph_pipeline.rendering.config import RenderConfig

_TAG = re.compile("<[^>]*>")
# Measured again at most, besides the front and the default: what may be as good as the default at a higher ratio.
_MOST_CONTENDERS = 12


@dataclass(frozen=True, slots=True)
class Member:
    """A configuration with its final numbers. ``trial`` is its record in the search, ``confirmed`` whether the numbers are those of the
    larger sample, ``against`` its error less the default's."""

    trial: Mapping[str, Any]
    measured: Measured
    confirmed: bool
    against: Estimate

    @property
    def id(self) -> str:
        """The id of its record."""
        return str(self.trial["id"])

    @property
    def config(self) -> RenderConfig:
        """Its configuration."""
        return RenderConfig(**self.trial["config"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON: ratio, error with its interval and counts, where it came from."""
        return {
            "id": self.id,
            "trial": self.trial["trial"],
            "proposed": self.trial["proposed"],
            "changes": dict(self.trial["changes"]),
            **self.measured.to_dict(),
            "interval": [round(self.measured.error.low, 6), round(self.measured.error.high, 6)],
            "confirmed": self.confirmed,
            "searched": {key: self.trial[key] for key in ("error", "counts")},
            "error_less_default": {name: round(value, 6) for name, value in asdict(self.against).items()},
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """``default``, the ``front`` of the final numbers (highest ratio first), and ``better``: those of all that were looked at again
    which have a higher ratio than the default at no higher error, highest ratio first."""

    default: Member
    front: tuple[Member, ...]
    better: tuple[Member, ...]
    looked_at: int
    unit: str

    def answer(self) -> str:
        """Whether there is a configuration with a higher ratio than the default's at no higher error, in words."""
        base = self.default.measured
        told = f"the default has ratio {base.ratio:.2f} and error {percent(base.error.rate)}"
        if not self.better:
            return f"No: of {self.looked_at:,} configurations none has a higher ratio than the default at no higher error; {told}."
        best = self.better[0]
        text = (
            f"Yes: {len(self.better)} of {self.looked_at:,}. The highest ratio among them is {best.measured.ratio:.2f} with error "
            f"{percent(best.measured.error.rate)} ({words(best.trial['changes'])}); {told}."
        )
        sure = next((member for member in self.better if member.against.high <= 0), None)
        if sure is best:
            text += " The difference of the errors is beyond chance."
        else:
            text += (
                f" The difference of the errors may be chance: it lies between {signed(best.against.low)} and {signed(best.against.high)}."
            )
            if sure is not None:
                text += (
                    f" Beyond chance is that of ratio {sure.measured.ratio:.2f} with error {percent(sure.measured.error.rate)} "
                    f"({words(sure.trial['changes'])})."
                )
        return text + self._worse(best)

    def _worse(self, member: Member) -> str:
        """What the mean hides: the measures in which a better member is behind the default."""
        base = self.default.measured.counts
        behind = [(name, count) for name, count in member.measured.counts.items() if count.rate > base[name].rate]
        return "".join(
            f" Its {name} error alone is higher, {percent(count.rate)} ({count.errors:,} of {count.of:,}) against "
            f"{percent(base[name].rate)} ({base[name].errors:,} of {base[name].of:,})."
            for name, count in behind
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "answer": self.answer(),
            "better": [member.id for member in self.better],
            "default": self.default.to_dict(),
            "front": [member.to_dict() for member in self.front],
        }


def outcome(
    trials: Sequence[Mapping[str, Any]],
    default: RenderConfig,
    objective: Objective,
    confirmed: Records,
    on_step: Callable[[int, int], None] = lambda number, count: None,
) -> Outcome | None:
    """Measure the front, the default and what may be as good as that once more; None if the default can't be drawn.

    ``confirmed`` keeps what was measured; ``on_step`` is told how many of how many are under way.
    """
    by_id = {str(record["id"]): record for record in trials if record["status"] == "ok"}
    base = by_id.get(key_of(default))
    if base is None:
        return None
    chosen = {str(record["id"]): record for record in [base, *trials_in_front(trials), *_contenders(by_id, base)]}
    sample = objective.confirmed_by()
    finals: dict[str, tuple[Measured, bool]] = {}
    for number, (id, record) in enumerate(chosen.items(), 1):
        on_step(number, len(chosen))
        name = f"{id}-{_digest(sample)}"
        if sample and name not in confirmed:
            again = objective.confirm(RenderConfig(**record["config"]))
            if again is not None:
                confirmed.add({"id": name, "status": "ok", "trial": record["trial"], **again.to_dict(), "sample": sample})
        known = sample and name in confirmed
        finals[id] = (Measured.of(confirmed[name] if known else record), bool(known))
    standard = finals[str(base["id"])][0]
    members = [Member(chosen[id], measured, known, difference(measured.error, standard.error)) for id, (measured, known) in finals.items()]
    best = [members[place] for place in front([(member.measured.ratio, member.measured.error.rate) for member in members])]
    better = [m for m in members if m.measured.ratio > standard.ratio and m.measured.error.rate <= standard.error.rate]
    better.sort(key=lambda member: (-member.measured.ratio, member.measured.error.rate))
    return Outcome(members[0], tuple(best), tuple(better), len(by_id), objective.unit)


def _contenders(by_id: Mapping[str, Mapping[str, Any]], base: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What has a higher ratio than the default and was not shown to be worse: the least wrong of them first."""
    standard = Measured.of(base).error
    higher = [record for record in by_id.values() if record["ratio"] > base["ratio"]]
    open_ = [record for record in higher if difference(Measured.of(record).error, standard).low <= 0]
    return sorted(open_, key=lambda record: (record["error"], -record["ratio"]))[:_MOST_CONTENDERS]


def percent(rate: float) -> str:
    """A share in percent, with two figures where it is small."""
    return f"{rate:.1%}" if rate >= 0.1 else f"{rate:.2%}" if rate >= 0.001 or not rate else f"{rate:.3%}"


def signed(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{share * 100:+.2f} points"


def words(changes: Mapping[str, Any]) -> str:
    """Changes as a person reads them."""
    return ", ".join(f"{key} {shown(value)}" for key, value in changes.items()) or "the default"


def shown(value: Any) -> str:
    """A value, of a newline mark only what is drawn."""
    return _TAG.sub("", value).strip() or value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _digest(sample: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(sample, sort_keys=True).encode()).hexdigest()[:8]
