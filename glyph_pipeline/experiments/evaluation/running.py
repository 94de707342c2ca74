"""Running: a benchmark's samples as items of a batch, and their rows, which are done once. Knows no file format and no command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

from glyph_pipeline.batch.items import BatchItem
from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.document import Document
from glyph_pipeline.errors import ConfigError, InputError
from glyph_pipeline.experiments.evaluation.sample import Benchmark, Sample
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.fonts import find_font

Drawing = RenderConfig | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """A way of drawing: its name, and the configuration, or the changes to the preset that a text gets. ``error``: why there is none."""

    name: str
    drawing: Drawing
    changes: Mapping[str, Any]
    error: ConfigError | None = None

    def config_for(self, text: str) -> RenderConfig:
        """The configuration of a text. Raises ConfigError."""
        return self.drawing if isinstance(self.drawing, RenderConfig) else RenderConfig.for_texts([text], self.drawing)


@dataclass(frozen=True, slots=True)
class Case:
    """A sample (without its text, of which ``text`` is a hash) in one way. ``key``: a hash of all that the outcome depends on but who reads."""

    sample: Sample
    text: str
    way: Way
    config: Mapping[str, Any]
    key: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A case and who reads it. ``id`` tells its row: it ends with a hash of all that the outcome depends on."""

    id: str
    case: Case

    @property
    def sample(self) -> Sample:
        """What is asked, without its text."""
        return self.case.sample

    @property
    def way(self) -> Way:
        """How it is drawn."""
        return self.case.way


def survey(benchmark: Benchmark, ways: Sequence[Way], on_sample: Callable[[int], object] = lambda count: None) -> list[Case]:
    """Every sample in every way, way by way; ``on_sample`` is told after each how many were read.

    Raises what reading the samples raises, and FontError.
    """
    fonts: dict[tuple[str, bool], str] = {}
    cases: list[Case] = []
    for count, sample in enumerate(benchmark.samples(), 1):
        text = _hash(sample.text)
        of_sample = [version("glyph-pipeline"), benchmark.name, sample.task, sample.name, text, sample.question, dict(sample.expected)]
        light = replace(sample, text="")
        for way in ways:
            config: dict[str, Any] = {}
            font = ""
            if way.error is None:
                drawn = way.config_for(sample.text)
                config, named = drawn.to_dict(), (drawn.font, drawn.system_fonts)
                if named not in fonts:
                    fonts[named] = find_font(*named).use.sha256
                font = fonts[named]
            key = _hash(json.dumps([*of_sample, way.name, dict(way.changes), config, font], sort_keys=True))
            cases.append(Case(light, text, way, config, key))
        on_sample(count)
    order = {way.name: place for place, way in enumerate(ways)}
    return sorted(cases, key=lambda case: order[case.way.name])


def plan(cases: Sequence[Case], reader: str, asking: Mapping[str, Any]) -> list[Planned]:
    """The cases as ``reader`` is to read them; ``asking`` are the options that change what it answers."""
    common = json.dumps([reader, dict(asking)], sort_keys=True)
    return [Planned(f"{case.sample.task} {case.sample.name} {case.way.name} #{_hash(common + case.key)[:16]}", case) for case in cases]


def items(benchmark: Benchmark, planned: Sequence[Planned], missing: Collection[str]) -> Iterator[BatchItem]:
    """The items of one way that are missing, their texts read again one at a time. ``planned`` are all of that way, as :func:`plan` put them.

    Raises InputError if the data are no longer those that were planned.
    """
    for one, sample in zip_longest(planned, benchmark.samples()):
        if one is None or sample is None or _hash(sample.text) != one.case.text or replace(sample, text="") != one.sample:
            raise InputError(f"The data of {benchmark.name} have changed since they were read.", hint="Run the same command again.")
        if one.id in missing:
            yield BatchItem(one.id, sample.question, (Document(sample.text, id=f"{sample.task} {sample.name}"),))


def record(benchmark: Benchmark, planned: Planned, result: BatchResult) -> dict[str, Any]:
    """The row of a result: what was asked, how it was drawn, the answer with its grade and its account; or the error."""
    row = {**_head(planned, result.status), "error": None}
    if result.answer is None:
        return row | {"error": str(result.error), "seconds": round(result.seconds, 3)}
    answer = result.answer
    report = answer.report
    return row | {
        **benchmark.grade(planned.sample, answer.text),
        "answer": answer.text,
        "reasoning": answer.reasoning,
        "finish_reason": answer.finish_reason,
        "reader": answer.reader,
        "seconds": round(answer.seconds["total"], 3),
        "text_tokens": report.text_tokens,
        "tokenizer": report.tokenizer,
        "vision_tokens": report.vision_tokens,
        "ratio": round(report.ratio, 4),
        "pages": report.pages,
        "windows": len(answer.windows),
        "prompt_tokens": answer.usage.prompt_tokens,
        "completion_tokens": answer.usage.completion_tokens,
    }


def impossible(planned: Planned) -> dict[str, Any]:
    """The row of what can't be drawn in its way at all."""
    return {**_head(planned, "failed"), "error": str(planned.way.error), "seconds": 0.0}


def _head(planned: Planned, status: str) -> dict[str, Any]:
    sample = planned.sample
    return {
        "id": planned.id,
        "status": status,
        "task": sample.task,
        "sample": sample.name,
        "way": planned.way.name,
        "changes": dict(planned.way.changes),
        **sample.about,
        "question": sample.question,
        "expected": dict(sample.expected),
        "config": dict(planned.case.config),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
