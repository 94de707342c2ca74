"""Readings: what is read back of the drawings of a sweep, each thing once. Keeps nothing itself; knows no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glyph_pipeline.experiments.legibility import MEASURES, Sample, Transcribe, random_read_back, rates, text_read_back
from glyph_pipeline.experiments.sweep import SweepCase
from glyph_pipeline.tokens.vision import FAMILIES


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing to read back: of a case, one of legibility.MEASURES. ``id`` names all that its outcome depends on.

    The random strings are the same for every document, so documents drawn alike share that reading.
    """

    id: str
    case: SweepCase
    measure: str
    family: str
    sample: Sample

    def read(self, transcribe: Transcribe) -> dict[str, int]:
        """Draw and read: the fields of a ReadBack. Raises MissingExtraError and ReadError."""
        config, family = self.case.combination.config, FAMILIES[self.family]
        assert config is not None, "what can't be drawn can't be read"
        if self.measure == "random":
            return random_read_back(config, family, transcribe)
        return text_read_back(self.case.document, config, self.sample, family, transcribe)


def readings(case: SweepCase, family: str, sample: Sample) -> dict[str, Reading]:
    """What is to be read of a case, by measure."""
    names = {"text": f"{case.key}-{family}-{sample.pages}x{sample.lines}", "random": f"{case.style}-{family}-random"}
    return {measure: Reading(names[measure], case, measure, family, sample) for measure in MEASURES}


def error_rates(wanted: Mapping[str, Reading], read: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The error rates of a case, of what was read by id."""
    return rates(
        {measure: {key: read[reading.id][key] for key in ("pages", "characters", "errors")} for measure, reading in wanted.items()}
    )


def missing(wanted: Sequence[Mapping[str, Reading]], done: Mapping[str, Any]) -> list[Reading]:
    """What is still to be read, each thing once, in order."""
    every = {reading.id: reading for of_case in wanted for reading in of_case.values()}
    return [reading for id, reading in every.items() if id not in done]
