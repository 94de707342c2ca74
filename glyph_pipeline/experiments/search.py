"""Search: which configuration to measure next, by a genetic algorithm with several objectives. Reads no page and no command line."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glyph_pipeline.batch.recordlines import free_name, records_of
from glyph_pipeline.batch.store import ResultStore
from glyph_pipeline.errors import ConfigError, GlyphError, MissingExtraError, OutputError
from glyph_pipeline.experiments.critic import PROPOSALS, Critic, prompt
from glyph_pipeline.experiments.objective import Objective
from glyph_pipeline.experiments.pareto import front
from glyph_pipeline.experiments.space import Point, Space, same_drawing
from glyph_pipeline.rendering.config import RenderConfig

DEFAULT = "default"
"""Who proposed the configuration that all others are compared with."""

# Of an impossible configuration, for the optimiser: worse than anything that can be drawn.
_WORST = (0.0, 1.0)
# So many proposals in a row that are known already, and the next one is drawn by lot among the others.
_REPEATS = 10
_DRAWS = 1000
_RECENT = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search goes: ``trials`` configurations in total, no new one begun after ``seconds`` of this run, ``population`` of a
    generation of NSGA-II, ``every`` how many trials the critic is asked."""

    trials: int = 60
    seconds: float | None = None
    population: int = 12
    seed: int = 0
    every: int = 10


class Records:
    """The lines of a ResultStore, by id, in the order in which they were written."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._records = records_of(store.path)

    def __contains__(self, id: str) -> bool:
        return id in self._records

    def __getitem__(self, id: str) -> Mapping[str, Any]:
        return self._records[id]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._records.values())

    def add(self, record: Mapping[str, Any]) -> None:
        """Write one; when this returns it is on the disk. Raises OutputError."""
        self._store.add(record)
        self._records[record["id"]] = record


class _Held:
    """The journal's lock, which the lock on the trials makes needless; one that a killed run left behind would hold up the next."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


@dataclass
class Search:
    """A search in a space, kept in two files: ``records`` (what was measured, the truth) and ``journal`` (Optuna's study).

    The journal holds nothing that could not be made anew: what the sampler proposes depends on seed, number and what was measured
    before only, so that a search that was interrupted goes on as if it had not been.

    ``default`` is measured first, then the presets that lie in the space. ``notice`` is told what a person should know,
    ``on_trial`` each new record. Make it, and run it, while the store of ``records`` is open.
    """

    space: Space
    default: RenderConfig
    objective: Objective
    plan: Plan
    records: Records
    journal: Path
    critic: Critic | None = None
    said: Records | None = None
    notice: Callable[[str], None] = lambda words: None
    on_trial: Callable[[Mapping[str, Any]], None] = lambda record: None
    _planned: list[tuple[str, Point]] = field(default_factory=list, init=False)
    _told: set[Point] = field(default_factory=set, init=False)
    _finished: int = field(default=0, init=False)
    _repeats: int = field(default=0, init=False)

    def run(self) -> None:
        """Measure until there are ``plan.trials`` records, the time is over or the space is exhausted.

        Raises MissingExtraError, OutputError, and what the objective raises; what was measured by then is in the records.
        """
        began = time.monotonic()
        study = self._study()
        if key_of(self.default) not in self.records:
            self._measured(self.default, {}, DEFAULT)
        self._planned = [(DEFAULT if name == self.space.preset else f"preset {name}", point) for name, point in self.space.presets()]
        for record in self.said or ():
            self._planned += [("critic", self.space.point(entry["changes"])) for entry in record["proposals"] if "refused" not in entry]
        while len(self.records) < self.plan.trials:
            if self.plan.seconds is not None and time.monotonic() - began >= self.plan.seconds:
                self.notice(f"The {self.plan.seconds:g} s of --time are over.")
                return
            if len(self._told) >= self.space.size:
                self.notice(f"All {self.space.size:,} configurations of the space are measured.")
                return
            self._ask_critic()
            self._step(study)

    def _step(self, study: Any) -> None:
        """One proposal, measured unless it was before, and told to the study."""
        optuna = _optuna()
        study.sampler = optuna.samplers.NSGAIISampler(population_size=self.plan.population, seed=_seed(self.plan.seed, self._finished))
        with _journal_errors(self.journal):
            if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
                self._enqueue(study)
            trial = study.ask()
            point = tuple(self._place(trial, key) for key in self.space.axes)
        who = next((name for name, planned in self._planned if planned == point), "search")
        values = self._values(point, who)
        with _journal_errors(self.journal):
            study.tell(trial, list(values))
        self._finished += 1
        self._repeats = self._repeats + 1 if point in self._told else 0
        self._told.add(point)

    def _enqueue(self, study: Any) -> None:
        """What is planned comes first; what is new by lot, where the sampler only repeats itself."""
        point = next((point for _, point in self._planned if point not in self._told), None)
        if point is None and self._repeats >= _REPEATS:
            point = self._by_lot()
        if point is not None:
            study.enqueue_trial(dict(zip(self.space.axes, point, strict=True)))

    def _by_lot(self) -> Point | None:
        chance = random.Random(_seed(self.plan.seed, self._finished))
        for _ in range(_DRAWS):
            point = tuple(chance.randrange(len(values)) for values in self.space.axes.values())
            if point not in self._told:
                return point
        return next((point for point in self.space.points() if point not in self._told), None)

    def _place(self, trial: Any, key: str) -> int:
        """A value's place on its axis, as the trial suggests it."""
        count = len(self.space.axes[key])
        if self.space.ordered(key):
            return int(trial.suggest_int(key, 0, count - 1))
        return int(trial.suggest_categorical(key, list(range(count))))

    def _values(self, point: Point, who: str) -> tuple[float, float]:
        """(ratio, error) of a point for the optimiser, measured if they are not known."""
        changes = self.space.differing(point)
        try:
            config = self.space.config(point)
            key = key_of(config)
        except ConfigError as e:
            key = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:24]
            if key not in self.records:
                self._failed(key, changes, who, e, None)
            return _WORST
        record = self.records[key] if key in self.records else self._measured(config, changes, who)
        return (record["ratio"], min(1.0, record["error"])) if record["status"] == "ok" else _WORST

    def _measured(self, config: RenderConfig, changes: Mapping[str, Any], who: str) -> Mapping[str, Any]:
        key = key_of(config)
        try:
            measured = self.objective.measure(config)
        except ConfigError as e:
            return self._failed(key, changes, who, e, config)
        record = {
            "id": key,
            "status": "ok",
            "trial": len(self.records),
            "proposed": who,
            "changes": dict(changes),
            **measured.to_dict(),
            "config": config.to_dict(),
        }
        return self._kept(record)

    def _failed(self, key: str, changes: Mapping[str, Any], who: str, error: ConfigError, config: RenderConfig | None) -> Mapping[str, Any]:
        self.notice(f"Trial {len(self.records)} can't be drawn: {error.message}")
        record = {
            "id": key,
            "status": "failed",
            "trial": len(self.records),
            "proposed": who,
            "changes": dict(changes),
            "failure": str(error),
            "config": None if config is None else config.to_dict(),
        }
        return self._kept(record)

    def _kept(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        self.records.add(record)
        self.on_trial(record)
        return record

    # -- the critic ------------------------------------------------------------------------------------------------------------

    def _ask_critic(self) -> None:
        """Every so many trials, once; the proposals that lie in the space and are new come next."""
        id = f"after {len(self.records)}"
        if self.critic is None or self.said is None or len(self.records) % self.plan.every or id in self.said:
            return
        drawn = [record for record in self.records if record["status"] == "ok"]
        best = [drawn[place] for place in front([(record["ratio"], record["error"]) for record in drawn])]
        asked = prompt(self.space, best, drawn[-_RECENT:])
        try:
            said = self.critic.ask(asked)
        except GlyphError as e:
            self.notice(f"The critic can't be asked: {e} The search goes on without it.")
            self.critic = None
            return
        entries: list[dict[str, Any]] = []
        for changes in said.proposals:
            entry: dict[str, Any] = {"changes": dict(changes)}
            try:
                if len(entries) == PROPOSALS:
                    raise ConfigError(f"it is more than {PROPOSALS}")
                point = self.space.point(changes)
                if point in self._told or any(point == planned for _, planned in self._planned):
                    raise ConfigError("it was tried before")
                self._planned.append(("critic", point))
            except ConfigError as e:
                entry["refused"] = str(e)
            entries.append(entry)
        refused = [entry["refused"] for entry in entries if "refused" in entry]
        if not entries:
            self.notice("The critic said nothing that can be used; see critic.jsonl.")
        elif refused:
            self.notice(f"{len(refused)} of the critic's {len(entries)} proposals can't be used; the first: {refused[0]}")
        self.said.add(
            {
                "id": id,
                "status": "ok",
                "model": self.critic.model,
                "proposals": entries,
                "text": said.text,
                "reasoning": said.reasoning,
                "asked": asked,
            }
        )

    # -- the study -------------------------------------------------------------------------------------------------------------

    def _study(self) -> Any:
        """The study in the journal. One that can't be read is put aside and made anew from the records, which cost nothing again."""
        optuna = _optuna()
        with _journal_errors(self.journal):
            if self.journal.exists():
                _cut_torn_line(self.journal)
                try:
                    study = self._opened(optuna)
                    self._load(optuna, study)
                    return study
                except Exception as e:  # Optuna raises KeyError, ValueError and others at what it did not write
                    if isinstance(e, OSError):
                        raise
                    aside = free_name(self.journal, "found")
                    self.journal.rename(aside)
                    self.notice(f"{str(self.journal)!r} can't be read ({e}); it is {str(aside)!r} now and is made anew from the trials.")
            return self._opened(optuna)

    def _opened(self, optuna: Any) -> Any:
        journal = optuna.storages.journal
        storage = journal.JournalStorage(journal.JournalFileBackend(str(self.journal), lock_obj=_Held()))
        return optuna.create_study(
            storage=storage, study_name="glyph-compress search", directions=["maximize", "minimize"], load_if_exists=True
        )

    def _load(self, optuna: Any, study: Any) -> None:
        """What the study was told by earlier runs. A trial that was under way is given up: the same is proposed again."""
        self._told, self._finished = set(), 0
        for trial in study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.RUNNING:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            elif trial.state == optuna.trial.TrialState.COMPLETE:
                self._told.add(tuple(int(trial.params[key]) for key in self.space.axes))
                self._finished += 1


def key_of(config: RenderConfig) -> str:
    """The id of a configuration's record: the same for all that draw the same."""
    return hashlib.sha256(json.dumps(same_drawing(config).to_dict(), sort_keys=True).encode()).hexdigest()[:24]


def require() -> None:
    """Raises MissingExtraError if Optuna is not installed: known before anything is measured."""
    _optuna()


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise MissingExtraError("A search", "experiments", package="optuna") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _seed(seed: int, number: int) -> int:
    """A seed of its own for each proposal, so that a search that goes on later draws what it would have drawn."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")


def _cut_torn_line(journal: Path) -> None:
    """What a crash left of a last line would spoil the next one."""
    data = journal.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with journal.open("r+b") as file:
            file.truncate(end)


@contextlib.contextmanager
def _journal_errors(journal: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise OutputError(
            f"{str(journal)!r} can't be written: {e.strerror or e}.", hint="Make room, then run the same command again: it goes on."
        ) from e


def trials_in_front(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records that no other beats in ratio and error, highest ratio first; of those that are alike, the first measured."""
    drawn = [record for record in records if record["status"] == "ok"]
    found: dict[tuple[float, float], Mapping[str, Any]] = {}
    for place in front([(record["ratio"], record["error"]) for record in drawn]):
        found.setdefault((drawn[place]["ratio"], drawn[place]["error"]), drawn[place])
    return list(found.values())
