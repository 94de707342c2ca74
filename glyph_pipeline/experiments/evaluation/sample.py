"""Sample: one question about one text, and what a benchmark has to say of it. Knows no reader, no pages and no file format."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from glyph_pipeline.errors import InputError, UsageError
from glyph_pipeline.tokens.text import Cl100kTokenizer

# Stands in a question where the benchmark's prompt had the text.
ON_PAGES = "(The text is on the pages.)"


@dataclass(frozen=True, slots=True)
class Sample:
    """``text`` is what is drawn, ``question`` what stays text; ``name`` tells it from others of its ``task``.

    ``expected`` is what the answer is graded by, ``about`` what its row says of it besides; both are plain JSON types.
    """

    task: str
    name: str
    text: str
    question: str
    expected: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)


class Benchmark(Protocol):
    """Samples, and how an answer to one is graded."""

    @property
    def name(self) -> str:
        """Its name on the command line."""
        ...

    def tasks(self) -> Collection[str]:
        """The tasks there are samples of, in the order they are told. Raises InputError."""
        ...

    def samples(self, tasks: Collection[str] = ()) -> Iterator[Sample]:
        """The samples of these tasks, of all if none is named: each time the same, one at a time. Raises InputError naming file, line and field."""
        ...

    def grade(self, sample: Sample, answer: str) -> Mapping[str, Any]:
        """``score`` from 0 to 1, and what else there is to tell of the answer. ``sample`` may lack its text."""
        ...

    def require(self, tasks: Collection[str]) -> None:
        """Raises MissingExtraError if grading these tasks needs a package that is not installed."""
        ...


class Selection:
    """Some of a benchmark's samples: of ``tasks`` (none named: all), at most ``limit`` of each, drawn by lot with ``seed``,
    none whose text has more than ``longest`` tokens (cl100k_base). Itself a :class:`Benchmark`. ``on_sample`` is told, while they are
    chosen, how many were read.

    Iterating raises UsageError for a task that is not there, InputError if nothing is left.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        tasks: Collection[str] = (),
        limit: int | None = None,
        longest: int | None = None,
        seed: int = 1,
        on_sample: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._benchmark = benchmark
        self._tasks = tuple(tasks)
        self._limit, self._longest, self._seed, self._on_sample = limit, longest, seed, on_sample
        self._count = Cl100kTokenizer().count
        self._kept: dict[str, frozenset[int]] | None = None

    @property
    def name(self) -> str:
        """The benchmark's."""
        return self._benchmark.name

    def tasks(self) -> Collection[str]:
        """Those that were chosen."""
        known = self._benchmark.tasks()
        unknown = [task for task in self._tasks if task not in known]
        if unknown:
            raise UsageError(f"There is no task {unknown[0]!r} in the data.", hint=f"Tasks there: {', '.join(known)}.")
        return [task for task in known if task in self._tasks] if self._tasks else known

    def samples(self, tasks: Collection[str] = ()) -> Iterator[Sample]:
        """The chosen samples."""
        chosen = [task for task in self.tasks() if not tasks or task in tasks]
        if self._kept is None and (self._limit is not None or self._longest is not None):
            self._kept = self._choose()
        at: Counter[str] = Counter()
        found = False
        for sample in self._benchmark.samples(chosen):
            at[sample.task] += 1
            if self._kept is None or at[sample.task] - 1 in self._kept.get(sample.task, ()):
                found = True
                yield sample
        if not found:
            raise InputError(f"No sample of {self.name} is left to ask.", hint="Choose a larger --longest.")

    def grade(self, sample: Sample, answer: str) -> Mapping[str, Any]:
        """As the benchmark does."""
        return self._benchmark.grade(sample, answer)

    def require(self, tasks: Collection[str]) -> None:
        """As the benchmark does."""
        self._benchmark.require(tasks)

    def _choose(self) -> dict[str, frozenset[int]]:
        """For each task the places of the samples that are kept."""
        fit: dict[str, list[int]] = {}
        at: Counter[str] = Counter()
        for count, sample in enumerate(self._benchmark.samples(self.tasks()), 1):
            places = fit.setdefault(sample.task, [])
            if self._longest is None or self._fits(sample.text, self._longest):
                places.append(at[sample.task])
            at[sample.task] += 1
            self._on_sample(count)
        if self._limit is None:
            return {task: frozenset(places) for task, places in fit.items()}
        return {
            task: frozenset(random.Random(f"{self._seed}/{task}").sample(places, min(self._limit, len(places))))
            for task, places in fit.items()
        }

    def _fits(self, text: str, longest: int) -> bool:
        """Of a text that is much too long only the beginning is counted."""
        beginning = text[: 8 * longest]
        return self._count(beginning) <= longest and (len(beginning) == len(text) or self._count(text) <= longest)
