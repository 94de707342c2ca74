"""CompressionReport: what drawing a text saved, as a value. Counts nothing itself; knows no pages, no tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


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
class SentRun:
    """Pages of one document, both ends included, that were sent in one way, and why.

    ``how``: ``pages`` (pictures, at ``dpi``) or ``text``. ``tokens`` are what they cost; ``picture_tokens`` what their pictures would
    at the resolution they were drawn at, ``text_tokens`` what their text would, reckoned from cl100k_base's count where ``estimated``.
    """

    document: str | None
    first_page: int
    last_page: int
    how: Literal["pages", "text"]
    dpi: int | None
    tokens: int
    picture_tokens: int
    text_tokens: int
    estimated: bool
    why: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent of the documents for one question, in prompt tokens; template and question are in none of these numbers.

    ``picture_tokens`` are those of the images, the two markers of each among them; ``text_tokens`` of what was sent as text in the place
    of pages; ``exact_tokens`` of the lists of exact strings, of which there were ``exact_strings``. ``plain_tokens`` is what the
    documents would have cost as text, as ``tokenizer`` of the report counts. Pages that windows repeat count once.
    """

    mode: str
    picture_tokens: int
    text_tokens: int
    exact_tokens: int
    exact_strings: int
    plain_tokens: int
    runs: tuple[SentRun, ...] = ()

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.picture_tokens + self.text_tokens + self.exact_tokens

    @property
    def ratio(self) -> float:
        """Tokens that the documents would have cost as text for each token that was sent."""
        return self.plain_tokens / self.tokens if self.tokens else 0.0

    @property
    def pages_as_text(self) -> int:
        """Pages whose text was sent."""
        return sum(run.last_page - run.first_page + 1 for run in self.runs if run.how == "text")

    def to_dict(self) -> dict[str, Any]:
        """Fields, sums and ``ratio`` (rounded to 4 places) as plain JSON types."""
        data = asdict(self)
        data["runs"] = [asdict(run) for run in self.runs]
        return data | {"tokens": self.tokens, "ratio": round(self.ratio, 4), "pages_as_text": self.pages_as_text}


@dataclass(frozen=True, slots=True)
class CompressionReport:
    """Text tokens against vision tokens, and how each was counted.

    ``text_tokens`` are those of the documents' text alone, by ``tokenizer``; ``vision_tokens`` those of all pages by the
    image arithmetic of ``family``, without the two markers around each image. The question is in neither
    (arXiv 2510.17800 counts so). ``characters`` are Unicode code points; ``image_bytes`` the PNG files' bytes.
    ``missing`` counts, by code point, the characters that no font had and that were drawn as a visible escape;
    ``removed`` the soft hyphens and zero-width spaces that the official renderer removes too, ``invisible`` the characters
    that have no picture by their nature (byte order marks, marks of direction). ``packages`` are the Debian packages whose
    fonts have what is missing; none where the configuration leaves installed fonts out. ``sent`` is what was sent of the pages for a
    question; None where they were only drawn.
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
    sent: Sent | None = None

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
        data["sent"] = None if self.sent is None else self.sent.to_dict()
        return data | {"ratio": round(self.ratio, 4)}
