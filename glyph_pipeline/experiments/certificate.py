"""Certificate: what a reader read back of drawn pages, as a value and as JSON. Draws and reads no page itself."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from glyph_pipeline.errors import ConfigError, InputError
from glyph_pipeline.experiments.intervals import Count, wilson
from glyph_pipeline.files import write_whole
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.report import FontUse
from glyph_pipeline.tokens.vision import FAMILIES

if TYPE_CHECKING:
    from glyph_pipeline.document import Documents
    from glyph_pipeline.experiments.verifying import Difference

SCHEMA_VERSION = 1
DEFAULT_DPI_STEPS = (96, 120, 150, 200)
_PLACES = 6  # of rates and ratios
_PROBLEMS = 3  # that an error names

_Whole: TypeAlias = Annotated[int, Field(ge=0)]
_Positive: TypeAlias = Annotated[int, Field(ge=1)]
_Rate: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Value(BaseModel):
    """Never changed, nothing unknown in it, no text taken for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Measured(_Value):
    """Wrong characters (Levenshtein, white space folded) among those that were to be read.

    ``cer`` is their share: 0 where nothing was to be read, above 1 where more was read into a page than stands on it.
    """

    characters: _Whole
    errors: _Whole
    cer: _Rate

    @classmethod
    def of(cls, count: Count) -> Self:
        """From what was counted."""
        return cls(characters=count.of, errors=count.errors, cer=round(count.rate, _PLACES))

    @property
    def count(self) -> Count:
        """As arithmetic takes it."""
        return Count(self.errors, self.characters)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.cer != round(self.count.rate, _PLACES):
            raise ValueError(f"cer is not {self.errors} / {self.characters}")
        return self


class Overall(_Value):
    """The same of all pages; ``low`` and ``high`` are the 95 % interval of the rate (Wilson's, which takes characters for independent and
    counts no rate above 1)."""

    characters: _Whole
    errors: _Whole
    cer: _Rate
    low: _Rate
    high: _Rate

    @classmethod
    def of(cls, parts: Sequence[Measured]) -> Self:
        """Of these pages together."""
        count = Count(sum(part.errors for part in parts), sum(part.characters for part in parts))
        interval = wilson(count)
        rounded = {name: round(value, _PLACES) for name, value in (("cer", count.rate), ("low", interval.low), ("high", interval.high))}
        return cls(characters=count.of, errors=count.errors, **rounded)


class ReaderIdentity(_Value):
    """What read: ``kind`` is ocr or vllm (or a reader of the caller's own), ``name`` and ``version`` those of the engine, ``model`` the
    recogniser's file or the served model."""

    kind: str
    name: str
    version: str | None = None
    model: str | None = None


class CertifySettings(_Value):
    """How pages are certified.

    A page passes with at most ``max_cer`` wrong characters a character, of its own lines and of planted strings both. ``dpi_steps`` are
    tried after the configuration's own dpi (None: those of DEFAULT_DPI_STEPS above it). ``lines`` of each page are read (0: all), and
    ``planted`` of its lines are replaced by random strings on a second picture (0: none). The lot for both begins at ``seed``.
    """

    max_cer: _Rate = 0.02
    dpi_steps: tuple[_Positive, ...] | None = None
    lines: _Whole = 20
    planted: _Whole = 6
    seed: int = 1

    def dpis(self, first: int) -> tuple[int, ...]:
        """The resolutions that are tried in turn, ``first`` among them. Raises ConfigError if they don't rise."""
        if self.dpi_steps is None:
            return (first, *(dpi for dpi in DEFAULT_DPI_STEPS if dpi > first))
        every = (first, *self.dpi_steps)
        if list(every) != sorted(set(every)):
            steps = ", ".join(map(str, self.dpi_steps))
            raise ConfigError(f"The dpi steps {steps} don't rise from the configuration's {first} dpi.", hint="Example: --dpi-steps 96,120")
        return every


class Attempt(_Value):
    """What was read of a page at one resolution."""

    dpi: _Positive
    text_cer: _Rate
    planted_cer: _Rate


class CertifiedPage(_Value):
    """A page as it was drawn last: where its text stands in the document (characters), its picture, and what was read of it.

    ``text`` is of its own lines, ``planted`` of the random strings. The worse of both decides whether it ``passed``: what a reader
    guesses right in prose says nothing of what it would make of an identifier.
    """

    number: _Positive
    start: _Whole
    end: _Whole
    dpi: _Positive
    width: _Positive
    height: _Positive
    vision_tokens: _Positive
    sha256: _Sha256
    text: Measured
    planted: Measured
    attempts: Annotated[tuple[Attempt, ...], Field(min_length=1)]
    passed: bool

    @property
    def cer(self) -> float:
        """The rate that decides."""
        return max(self.text.cer, self.planted.cer)

    @model_validator(mode="after")
    def _is_its_last_attempt(self) -> Self:
        if self.attempts[-1] != Attempt(dpi=self.dpi, text_cer=self.text.cer, planted_cer=self.planted.cer):
            raise ValueError("the last attempt is not what is told of the page")
        return self


class CertifiedDocument(_Value):
    """A document and its pages; ``sha256`` is of its text in UTF-8, ``text_tokens`` are cl100k_base's."""

    id: str
    sha256: _Sha256
    characters: _Positive
    text_tokens: _Whole
    pages: Annotated[tuple[CertifiedPage, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _pages_tile_the_text(self) -> Self:
        ends = [0, *(page.end for page in self.pages)]
        for number, (page, before) in enumerate(zip(self.pages, ends, strict=False), 1):
            if (page.number, page.start) != (number, before):
                raise ValueError(f"page {page.number} does not follow the page before it")
        if ends[-1] != self.characters:
            raise ValueError("the pages don't end where the text does")
        return self


class CertifiedFont(_Value):
    """A font file that drew."""

    requested: str
    family: str
    file: str
    sha256: _Sha256
    stand_in: bool

    @classmethod
    def of(cls, font: FontUse) -> Self:
        """From the renderer's account."""
        return cls(requested=font.requested, family=font.family, file=font.file, sha256=font.sha256, stand_in=font.stand_in)


class PagesAt(_Value):
    """How many pages are certified at one resolution."""

    dpi: _Positive
    pages: _Positive


class Summary(_Value):
    """All pages together; ``ratio`` is text tokens for each vision token at the resolutions at which the pages stand in the certificate."""

    pages: _Positive
    passed_pages: _Whole
    passed: bool
    pages_by_dpi: tuple[PagesAt, ...]
    text_tokens: _Whole
    tokenizer: str
    vision_tokens: _Positive
    ratio: _Rate
    text: Overall
    planted: Overall

    @classmethod
    def of(cls, documents: Sequence[CertifiedDocument], tokenizer: str) -> Self:
        """Of these documents."""
        pages = [page for document in documents for page in document.pages]
        text_tokens = sum(document.text_tokens for document in documents)
        vision_tokens = sum(page.vision_tokens for page in pages)
        passed = sum(page.passed for page in pages)
        return cls(
            pages=len(pages),
            passed_pages=passed,
            passed=passed == len(pages),
            pages_by_dpi=tuple(PagesAt(dpi=dpi, pages=count) for dpi, count in sorted(Counter(page.dpi for page in pages).items())),
            text_tokens=text_tokens,
            tokenizer=tokenizer,
            vision_tokens=vision_tokens,
            ratio=round(text_tokens / vision_tokens, 4),
            text=Overall.of([page.text for page in pages]),
            planted=Overall.of([page.planted for page in pages]),
        )


class Certificate(_Value):
    """What a reader read back of every page of some documents. ``family`` is a model family whose vision tokens are counted, and whose
    resampling OCR reads through; ``config`` has Glyph's own keys. There is no time in it: the same pages read alike give the same bytes."""

    kind: Literal["glyph-pipeline certificate"] = "glyph-pipeline certificate"
    schema_version: Literal[1] = 1
    tool_version: str
    reader: ReaderIdentity
    settings: CertifySettings
    family: str
    config: dict[str, Any]
    fonts: tuple[CertifiedFont, ...]
    documents: Annotated[tuple[CertifiedDocument, ...], Field(min_length=1)]
    summary: Summary

    @property
    def passed(self) -> bool:
        """Whether all pages passed."""
        return self.summary.passed

    @property
    def render_config(self) -> RenderConfig:
        """The configuration that the pages were first drawn with."""
        return RenderConfig(**self.config)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.family not in FAMILIES:
            raise ValueError(f"there is no family {self.family!r}")
        try:
            dpis = self.settings.dpis(self.render_config.dpi)
        except ConfigError as e:
            raise ValueError(str(e)) from e
        for document in self.documents:
            for page in document.pages:
                # Rates are rounded here and were not when they decided; errors and characters are whole.
                if page.passed != all(passes(part.count, self.settings.max_cer) for part in (page.text, page.planted)):
                    raise ValueError(f"whether page {page.number} of {document.id!r} passed is not what its rates say")
                if tuple(attempt.dpi for attempt in page.attempts) != dpis[: len(page.attempts)]:
                    raise ValueError(f"the attempts at page {page.number} of {document.id!r} are not the steps of the settings")
        if self.summary != Summary.of(self.documents, self.summary.tokenizer):
            raise ValueError("the summary is not that of its pages")
        return self

    def to_json(self) -> str:
        """The certificate as it is kept, with ``digest``, the SHA-256 of all the rest: it tells of a change, not who made it."""
        data = self.model_dump(mode="json")
        return json.dumps(data | {"digest": _digest(data)}, ensure_ascii=False, indent=1) + "\n"

    def write(self, path: str | Path) -> None:
        """Write it to a file, whole or not at all. Raises OutputError."""
        write_whole(Path(path), self.to_json().encode("utf-8"))

    @classmethod
    def read(cls, path: str | Path) -> Certificate:
        """Read it from a file. Raises InputError, which says what is wrong, for anything but a certificate that was never changed."""
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            raise InputError(f"There is no certificate {str(path)!r}.", hint="Make one: glyph-compress certify DOC -o CERT.json") from None
        except (OSError, ValueError) as e:
            raise InputError(f"The certificate {str(path)!r} can't be read: {getattr(e, 'strerror', None) or e}.") from e
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, name: str) -> Certificate:
        """The certificate in the bytes of a file; ``name`` is for the messages. Raises InputError as :meth:`read` does."""
        again = "Take the file as it was written, or certify the documents again."
        try:
            found = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as e:
            raise InputError(f"{name!r} is not a certificate: it is not JSON ({e}).", hint=again) from None
        if not isinstance(found, dict) or found.get("kind") != cls.model_fields["kind"].default:
            raise InputError(f"{name!r} is not a certificate: it has no 'kind' of one.", hint="Name a file that certify has written.")
        if found.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"{name!r} is a certificate of schema version {found.get('schema_version')!r}; this version reads {SCHEMA_VERSION}.",
                hint="Verify it with the version of glyph-pipeline that wrote it.",
            )
        digest = found.pop("digest", None)
        try:
            certificate = cls.model_validate_json(json.dumps(found))
        except ValidationError as e:
            told = [f"{'.'.join(map(str, one['loc'])) or 'certificate'}: {one['msg']}" for one in e.errors()]
            more = f" ({len(told) - _PROBLEMS} more)" if len(told) > _PROBLEMS else ""
            raise InputError(f"{name!r} is a broken certificate: {'; '.join(told[:_PROBLEMS]).rstrip('.')}{more}.", hint=again) from None
        if digest != _digest(found):
            raise InputError(f"{name!r} was changed after it was written: its digest is that of another content.", hint=again)
        return certificate

    def verify(self, source: Documents) -> list[Difference]:
        """What is otherwise now: the documents' texts, the fonts, the pages as they are drawn; nothing, and the certificate holds.

        ``source`` are the documents in the certificate's order. Raises UsageError if they are not as many, ConfigError, FontError.
        """
        from glyph_pipeline.experiments.verifying import verify_documents

        return list(verify_documents(self, source))


def passes(count: Count, max_cer: float) -> bool:
    """Whether a page's rate is good enough."""
    return count.rate <= max_cer


def text_sha256(text: str) -> str:
    """SHA-256 of a text in UTF-8, lone surrogates as they would be."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
