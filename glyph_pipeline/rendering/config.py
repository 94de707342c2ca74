"""RenderConfig: how pages look, with the keys of Glyph's own configuration files. Knows no fonts' contents and draws nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from glyph_pipeline.errors import ConfigError, PageTooSmallError
from glyph_pipeline.resources import resource_dir

# ReportLab's Frame keeps 6 pt of padding inside the margins on every side; Glyph's training pages have it.
FRAME_PADDING_PT = 6.0
# The picture of one page; far above what any vision encoder reads, far below what would exhaust memory.
MAX_PAGE_PIXELS = 50_000_000

# ISO 216, ISO 216 B, ANSI; in pt (1/72 inch), as Glyph's search space names them.
PAGE_SIZES_PT: dict[str, tuple[float, float]] = {
    "A3": (842.0, 1191.0),
    "A4": (595.0, 842.0),
    "A5": (420.0, 595.0),
    "B4": (709.0, 1001.0),
    "B5": (499.0, 709.0),
    "LETTER": (612.0, 792.0),
    "LEGAL": (612.0, 1008.0),
}


class Alignment(str, Enum):
    """How a line sits between the margins."""

    LEFT = "LEFT"
    CENTER = "CENTER"
    RIGHT = "RIGHT"
    JUSTIFY = "JUSTIFY"


Rgb: TypeAlias = tuple[int, int, int]


def _page_size(value: Any) -> Any:
    if isinstance(value, str):
        named = PAGE_SIZES_PT.get(value.strip().upper())
        if named:
            return named
        parts = value.split(",")
        if len(parts) != 2:
            raise ValueError(f'expected "WIDTH,HEIGHT" in pt such as "595,842", or one of {", ".join(PAGE_SIZES_PT)}')
        try:
            return tuple(float(part) for part in parts)
        except ValueError:
            raise ValueError('expected two numbers in pt such as "595,842"') from None
    return value


def _colour(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"(?:#|0[xX])?([0-9a-fA-F]{6})", value.strip())
        if not match:
            raise ValueError('expected a hex colour such as "#000000"')
        number = int(match.group(1), 16)
        return (number >> 16, number >> 8 & 255, number & 255)
    return value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


Colour = Annotated[
    tuple[Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]],
    BeforeValidator(_colour),
]
PointLength = Annotated[float, Field(ge=0, le=1000)]

# Keys that official files don't have.
_OURS = ("columns", "column_gap", "crop_multiple", "system_fonts")
# Han, kana, Hangul syllables, full-width forms: what the preset zh has a width of one em for.
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff60]")
_WHITE = re.compile(r"\s")
# Of each text the first 100,000 characters are looked at, and of the rest 50 pieces of 2,000.
_SAMPLE, _PIECES, _PIECE = 100_000, 50, 2_000

_BREAK = re.compile(r"\s*<br\s*/?>\s*", re.IGNORECASE)
_COLOURED = re.compile(r'<font\s+color\s*=\s*"(#[0-9a-fA-F]{6})"\s*>([^<>]*)</font>', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NewlineMark:
    """What stands for a line break of the source: a real break (``text`` None), or ``text`` in ``colour`` within running lines."""

    text: str | None = None
    colour: Rgb | None = None

    @classmethod
    def parse(cls, markup: str) -> Self:
        """Read the official ``newline-markup``: ``<br/>``, ``<font color="#RRGGBB">TEXT</font>``, or plain text."""
        if _BREAK.fullmatch(markup):
            return cls()
        if "\n" in markup:
            raise ValueError('a line feed can\'t be drawn; expected "<br/>", or a mark such as a backslash and an n (in JSON: "\\\\n")')
        coloured = _COLOURED.fullmatch(markup.strip())
        if coloured:
            return cls(text=coloured.group(2), colour=_colour(coloured.group(1)))
        if "<" in markup or ">" in markup:
            raise ValueError('expected "<br/>", \'<font color="#FF0000"> \\n </font>\', or a plain text without markup')
        return cls(text=markup)


class RenderConfig(BaseModel):
    """How a text is drawn. Immutable; keys in files are the official kebab-case ones, lengths in pt (1/72 inch).

    Differences to an official file without a key: alignment LEFT (there: JUSTIFY), margins 10 pt (20), both crops on (off),
    because those are the values of the configurations that Glyph was trained and published with.

    Raises ConfigError for unknown keys, impossible values, and pages on which no line fits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, alias_generator=lambda name: name.replace("_", "-"))

    page_size: Annotated[
        tuple[Annotated[float, Field(ge=20, le=5000)], Annotated[float, Field(ge=20, le=5000)]], BeforeValidator(_page_size)
    ] = PAGE_SIZES_PT["A4"]
    dpi: Annotated[int, Field(ge=36, le=600)] = 72
    margin_x: PointLength = 10
    margin_y: PointLength = 10
    font: Annotated[
        str, Field(min_length=1, validation_alias=AliasChoices("font-path", "font_path", "font"), serialization_alias="font-path")
    ] = "Verdana"
    font_size: Annotated[float, Field(ge=2, le=200)] = 9
    line_height: Annotated[float, Field(ge=2, le=400)] | None = None
    font_color: Colour = (0, 0, 0)
    alignment: Annotated[Alignment, BeforeValidator(_upper)] = Alignment.LEFT
    horizontal_scale: Annotated[float, Field(ge=0.1, le=4)] = 1.0
    first_line_indent: Annotated[float, Field(ge=-1000, le=1000)] = 0
    left_indent: PointLength = 0
    right_indent: PointLength = 0
    space_before: PointLength = 0
    space_after: PointLength = 0
    border_width: Annotated[float, Field(ge=0, le=100)] = 0
    border_padding: Annotated[float, Field(ge=0, le=100)] = 0
    page_bg_color: Colour = (255, 255, 255)
    para_bg_color: Colour = (255, 255, 255)
    para_border_color: Colour = (255, 255, 255)
    auto_crop_width: bool = True
    auto_crop_last_page: bool = True
    newline_markup: str = "<br/>"
    # Ours, not in official files: what they do by default leaves the official drawing as it is.
    columns: Annotated[int, Field(ge=1, le=20)] = 1
    column_gap: PointLength = 12
    crop_multiple: Annotated[int, Field(ge=1, le=512)] = 1
    system_fonts: bool = True

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as e:
            raise _config_error(e, data) from None

    @field_validator("newline_markup")
    @classmethod
    def _newline_markup_is_known(cls, value: str) -> str:
        NewlineMark.parse(value)
        return value

    @model_validator(mode="after")
    def _something_fits(self) -> Self:
        width, height = self.pixel_size
        if width * height > MAX_PAGE_PIXELS:
            raise PageTooLargeError(
                f"a page of {width}x{height} px ({self.page_size[0]:g}x{self.page_size[1]:g} pt at {self.dpi} dpi) is over {MAX_PAGE_PIXELS // 10**6} megapixels"
            )
        # Two lines, because a paragraph whose first line alone would fit is moved to the next page, for ever.
        if self.frame_height < 2 * self.leading:
            raise NothingFitsError(
                f"two lines of {self.leading:g} pt don't fit: page-size {self.page_size[1]:g} pt high less margin-y {self.margin_y:g} pt "
                f"and {FRAME_PADDING_PT:g} pt of padding, twice each, leaves {self.frame_height:g} pt"
            )
        narrowest = self.line_width - max(self.first_line_indent, 0.0)
        if narrowest < self.font_size:
            raise NothingFitsError(
                f"no glyph fits: page-size {self.page_size[0]:g} pt wide less margin-x {self.margin_x:g} pt and {FRAME_PADDING_PT:g} pt of padding, twice "
                f"each, and the indents{f', in {self.columns} columns,' if self.columns > 1 else ''} leaves {narrowest:g} pt for a font of {self.font_size:g} pt"
            )
        return self

    @property
    def leading(self) -> float:
        """Distance of baselines in pt: line-height, or font-size + 1 as in the official renderer."""
        return self.line_height if self.line_height is not None else self.font_size + 1

    @property
    def line_width(self) -> float:
        """Room for a line in its column in pt, without first-line-indent."""
        return self.column_width - self.left_indent - self.right_indent

    @property
    def column_width(self) -> float:
        """Width of one column in pt, indents included."""
        gaps = self.column_gap * (self.columns - 1)
        return (self.page_size[0] - 2 * (self.margin_x + FRAME_PADDING_PT) - gaps) / self.columns

    @property
    def frame_height(self) -> float:
        """Room for lines in pt."""
        return self.page_size[1] - 2 * (self.margin_y + FRAME_PADDING_PT)

    @property
    def pixel_size(self) -> tuple[int, int]:
        """(width, height) of an uncropped page in px, before horizontal-scale; rounded up as poppler does."""
        # The tiny slack keeps 842 pt at 144 dpi from becoming one pixel more through rounding in the last bit.
        return tuple(int(-(-(side * self.dpi / 72.0 - 1e-9) // 1)) for side in self.page_size)  # type: ignore[return-value]

    @property
    def newline_mark(self) -> NewlineMark:
        """The parsed newline-markup."""
        return NewlineMark.parse(self.newline_markup)

    def replace(self, **changes: Any) -> RenderConfig:
        """A copy with some values changed; keys in snake case (``font_size=8``) or official spelling. Raises ConfigError."""
        names = {name.replace("_", "-") for name in changes} | ({"font-path"} if "font" in changes else set())
        kept = {key: value for key, value in self.to_dict().items() if key not in names}
        return RenderConfig(**kept, **{name.replace("_", "-"): value for name, value in changes.items()})

    def to_dict(self) -> dict[str, Any]:
        """The official JSON: kebab-case keys, "W,H" page size, hex colours; keys of ours where they differ from their defaults.

        ``RenderConfig(**d)`` gives an equal config.
        """
        data = self.model_dump(by_alias=True, mode="json")
        for name in _OURS:
            if getattr(self, name) == RenderConfig.model_fields[name].default:
                del data[name.replace("_", "-")]
        data["page-size"] = ",".join(str(side).removesuffix(".0") for side in self.page_size)
        for name in ("font-color", "page-bg-color", "para-bg-color", "para-border-color"):
            data[name] = "#{:02X}{:02X}{:02X}".format(*data[name])
        return data

    @classmethod
    def load(cls, path: str | Path) -> RenderConfig:
        """Read an official Glyph JSON file. Raises ConfigError naming file, key, value and what is allowed."""
        path = Path(path)
        try:
            data = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"There is no configuration file {str(path)!r}.", hint=f"Presets: {', '.join(cls.presets())}.") from None
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"The configuration file {str(path)!r} can't be read: {e}.") from e
        except json.JSONDecodeError as e:
            raise ConfigError(
                f"{path}, line {e.lineno}, column {e.colno}: not valid JSON ({e.msg}).",
                hint="Official Glyph configurations are JSON objects.",
            ) from e
        if not isinstance(data, dict):
            raise ConfigError(f"{path}: expected a JSON object with Glyph's keys, found {type(data).__name__}.")
        try:
            config = cls(**data)
        except ConfigError as e:
            raise type(e)(f"{path}: {e.message}", hint=e.hint) from e
        # "../config/Verdana.ttf" in an official file is meant beside the file, wherever the command runs.
        beside = path.resolve().parent / config.font
        try:
            return config.replace(font=str(beside.resolve())) if beside.is_file() else config
        except OSError:
            return config  # what can't be looked up there is looked up by name

    @classmethod
    def preset(cls, name: str) -> RenderConfig:
        """A configuration that ships with the package, by name (see :meth:`presets`). Raises ConfigError."""
        path = resource_dir("configs") / f"{name}.json"
        if name not in cls.presets():
            raise ConfigError(f"There is no preset {name!r}.", hint=f"Presets: {', '.join(cls.presets())}. A file is taken by its path.")
        return cls.load(path)

    @classmethod
    def presets(cls) -> tuple[str, ...]:
        """Names of the presets that ship with the package."""
        return tuple(sorted(path.stem for path in resource_dir("configs").glob("*.json")))

    @classmethod
    def for_texts(cls, texts: Iterable[str], changes: Mapping[str, Any] | None = None) -> RenderConfig:
        """The preset for texts when none is named: ``zh`` where at least a tenth of their characters is Chinese, Japanese or Korean, else ``en``.

        ``changes`` are made to it as by :meth:`replace`.

        White space does not count. Of each text the first 100,000 characters are looked at, and 50 evenly spread pieces of the rest.
        """
        wide = seen = 0
        for text in texts:
            step = max(_PIECE, (len(text) - _SAMPLE) // _PIECES)
            for piece in (text[:_SAMPLE], *(text[start : start + _PIECE] for start in range(_SAMPLE, len(text), step))):
                seen += len(piece) - len(_WHITE.findall(piece))
                wide += 0 if piece.isascii() else len(_WIDE.findall(piece))
        preset = cls.preset("zh" if wide * 10 >= seen > 0 else "en")
        return preset.replace(**changes) if changes else preset

    @classmethod
    def resolve(cls, name_or_path: str) -> RenderConfig:
        """A preset by name, or a file by path: what ``--config`` takes. Raises ConfigError."""
        return cls.preset(name_or_path) if name_or_path in cls.presets() else cls.load(name_or_path)


class NothingFitsError(ValueError):
    """Carries a page-too-small finding through pydantic."""


class PageTooLargeError(ValueError):
    """Carries a page-too-large finding through pydantic."""


def _official_keys() -> list[str]:
    return [field.serialization_alias or field.alias or name for name, field in RenderConfig.model_fields.items()]


def _config_error(error: ValidationError, data: Mapping[str, Any]) -> ConfigError:
    """One error that names every key at fault, its value and what is allowed."""
    problems, too_small = [], False
    for detail in error.errors():
        cause = detail.get("ctx", {}).get("error")
        key = str(detail["loc"][0]) if detail["loc"] else "page-size"
        too_small |= isinstance(cause, NothingFitsError)
        if detail["type"] == "extra_forbidden":
            problems.append(f"unknown key {key!r} (value {detail['input']!r}); allowed are {', '.join(_official_keys())}")
        elif isinstance(cause, (NothingFitsError, PageTooLargeError)):
            problems.append(str(cause))
        else:
            problems.append(f"{key.replace('_', '-')} = {data.get(key, detail['input'])!r}: {detail['msg'].removeprefix('Value error, ')}")
    kind = PageTooSmallError if too_small else ConfigError
    hint = "Enlarge page-size, or reduce margins, indents, font-size or line-height." if too_small else None
    return kind("Bad rendering configuration: " + "; ".join(problems) + ".", hint=hint)
