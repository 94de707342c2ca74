"""CompressionReport: what drawing a text saved, as a value. Counts nothing itself; knows no pages, no tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FontUse:
    """Which font file drew a text: what was asked for, its family, the file's name and SHA-256.

    ``stand_in`` is True if it stands in for a font that may not be bundled and is not installed (Verdana).
    """

    requested: str
    family: str
    file: str
    sha256: str
    stand_in: bool = False


@dataclass(frozen=True, slots=True)
class CompressionReport:
    """Text tokens against vision tokens, and how each was counted.

    ``text_tokens`` are those of the documents' text alone, by ``tokenizer``; ``vision_tokens`` those of all pages by the
    image arithmetic of ``family``, without the two markers around each image. The question is in neither
    (arXiv 2510.17800 counts so). ``characters`` are Unicode code points; ``image_bytes`` the PNG files' bytes.
    ``missing`` counts, by code point, the characters that no font had and that were drawn as a visible escape;
    ``removed`` the soft hyphens and zero-width spaces that the official renderer removes too, ``invisible`` the characters
    that have no picture by their nature (byte order marks, marks of direction). ``packages`` are the Debian packages whose
    fonts have what is missing; none where the configuration leaves installed fonts out.
    """

    text_tokens: int
    tokenizer: str
    vision_tokens: int
    family: str
    pages: int
    documents: int
    characters: int
    image_bytes: int
    fonts: tuple[FontUse, ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)
    removed: int = 0
    invisible: int = 0
    packages: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Text tokens for each vision token; above 1 the pages are cheaper than the text."""
        return self.text_tokens / self.vision_tokens if self.vision_tokens else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All fields and ``ratio`` (a number, rounded to 4 places) as plain JSON types."""
        data = asdict(self)
        data["fonts"] = [asdict(font) for font in self.fonts]
        data["missing"] = dict(self.missing)
        data["packages"] = list(self.packages)
        return data | {"ratio": round(self.ratio, 4)}
