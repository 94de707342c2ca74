"""The labelled sample: texts of our own in which every exact string is marked ``⟦kind|string⟧``, and how a finder does on them.

The strings were drawn by lot and the texts labelled before the finder was written. Every third file was held out: nothing was tuned on it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glyph_pipeline.exactness.finder import find_exact

FOLDER = Path(__file__).with_name("labelled")
_MARK = re.compile(r"⟦(\w+)\|(.*?)⟧")


@dataclass(frozen=True)
class Labelled:
    name: str
    text: str
    labels: frozenset[tuple[int, int, str]]
    held_out: bool

    @property
    def kinds(self) -> dict[tuple[int, int], str]:
        return {(start, end): kind for start, end, kind in self.labels}


@dataclass(frozen=True)
class Score:
    labelled: int = 0
    recalled: int = 0
    found: int = 0
    right: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.labelled + other.labelled, self.recalled + other.recalled, self.found + other.found, self.right + other.right)

    @property
    def recall(self) -> float:
        return self.recalled / self.labelled if self.labelled else 1.0

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 1.0


def labelled() -> Iterator[Labelled]:
    for place, path in enumerate(sorted(FOLDER.glob("*.txt"))):
        yield parsed(path.stem, path.read_text(encoding="utf-8"), place % 3 == 2)


def parsed(name: str, marked: str, held_out: bool) -> Labelled:
    pieces: list[str] = []
    labels: set[tuple[int, int, str]] = set()
    last = length = 0
    for match in _MARK.finditer(marked):
        pieces += [marked[last : match.start()], match[2]]
        length += match.start() - last
        labels.add((length, length + len(match[2]), match[1]))
        length += len(match[2])
        last = match.end()
    return Labelled(name, "".join([*pieces, marked[last:]]), frozenset(labels), held_out)


def score(sample: Labelled) -> dict[str, Score]:
    """By kind; a string counts as found only from its first to its last character. What was found counts for the kind it was taken for."""
    kinds = sample.kinds
    found = {(item.start, item.end): item.kind for item in find_exact(sample.text)}
    scores: dict[str, Score] = defaultdict(Score)
    for span, kind in kinds.items():
        scores[kind] += Score(labelled=1, recalled=span in found)
    for span, taken in found.items():
        scores[taken] += Score(found=1, right=span in kinds)
    return scores
