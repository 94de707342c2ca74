"""Face: what is known of a font file's face without opening it. Reads and draws nothing."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset({".ttf", ".otf", ".ttc", ".otc"})  # of font files
_REGULAR = frozenset({"regular", "book", "roman", "normal", "medium"})


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a font file; ``ranges`` are the code points it has, as flat (first, last, first, last, ...), ascending."""

    path: Path
    index: int
    family: str
    style: str
    ranges: tuple[int, ...]

    @property
    def regular(self) -> bool:
        """True for the upright face of ordinary weight."""
        return self.style.lower() in _REGULAR

    @property
    def characters(self) -> int:
        """Number of code points it has."""
        return sum(self.ranges[1::2]) - sum(self.ranges[::2]) + len(self.ranges) // 2

    def has(self, codepoint: int) -> bool:
        """True if the face has a glyph for it."""
        at = bisect_right(self.ranges, codepoint)
        return at % 2 == 1 or (at > 0 and self.ranges[at - 1] == codepoint)
