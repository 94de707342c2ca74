"""Space: the configurations that a search may choose from, as values for each key. Draws nothing and searches nothing."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from glyph_pipeline.errors import ConfigError, PageTooSmallError
from glyph_pipeline.experiments.grid import LEADING, Grid
from glyph_pipeline.rendering.config import PAGE_SIZES_PT, RenderConfig
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.resources import resource_dir

# By name: type checking for 3.10 on a newer Python, where tomli is not installed, must not fail.
tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

# The place of a value on each axis, in the order of the axes.
Point: TypeAlias = tuple[int, ...]

_ALLOWED = 'Allowed are preset = "en", extends = "glyph" and [space] with KEY = [VALUES] or KEY = { from = A, to = B, step = C }.'
# A range is kept as its values: more of them than this is a slip of the pen.
_MOST_VALUES = 10_000


class Range(BaseModel):
    """Evenly spaced numbers, both ends included."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    start: int | float = Field(alias="from")
    stop: int | float = Field(alias="to")
    step: int | float = Field(default=1, gt=0)

    def values(self) -> tuple[int | float, ...]:
        """The numbers. Raises ValueError if the steps don't end at the upper end, or are too many."""
        steps = (self.stop - self.start) / self.step
        if steps < 0 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"from {self.start:g} in steps of {self.step:g} does not reach {self.stop:g}")
        if steps >= _MOST_VALUES:
            raise ValueError(f"{steps + 1:,.0f} values are more than {_MOST_VALUES:,}")
        whole = isinstance(self.start, int) and isinstance(self.step, int)
        numbers = (round(self.start + place * self.step, 9) for place in range(round(steps) + 1))
        return tuple(int(number) if whole else number for number in numbers)


class _File(BaseModel):
    """The keys of a space's TOML."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = "auto"
    extends: str | None = None
    space: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Space:
    """The values of each key, and the preset (or Glyph JSON file) that gives all other keys. ``name`` is for people.

    Keys are those of a configuration, and ``leading``: pt added to the font size to give line-height. A value is a point's place on
    that axis, so that a search handles whole numbers only.
    """

    name: str
    preset: str
    axes: Mapping[str, tuple[Any, ...]]

    @classmethod
    def load(cls, name_or_path: str | Path, texts: Iterable[str]) -> Space:
        """A space that ships with the package, by name, or a TOML file; its preset ``auto`` is chosen by ``texts``.

        Raises ConfigError naming file, key, value and what is allowed, FontError for a font that is not there.
        """
        preset, entries, path = _entries(str(name_or_path), [])
        if preset == "auto":
            preset = "zh" if RenderConfig.for_texts(texts) == RenderConfig.preset("zh") else "en"
        axes: dict[str, tuple[Any, ...]] = {}
        for written, entry in entries.items():
            key = "font-path" if written == "font" else written.replace("_", "-")
            if key in axes:
                raise ConfigError(f"{path}: space.{written}: the key {key} stands there twice.", hint="Leave one of them out.")
            axes[key] = _values(path, key, entry)
        if not axes:
            raise ConfigError(f"{path}: [space] has no keys.", hint=_ALLOWED)
        _check(path, preset, axes)
        return cls(str(name_or_path), preset, axes)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the spaces that ship with the package."""
        return tuple(sorted(path.stem for path in (resource_dir("configs") / "search").glob("*.toml")))

    @property
    def base(self) -> RenderConfig:
        """The configuration whose keys are changed."""
        return RenderConfig.resolve(self.preset)

    @property
    def size(self) -> int:
        """How many configurations there are, impossible ones included."""
        return math.prod(len(values) for values in self.axes.values())

    def ordered(self, key: str) -> bool:
        """Whether the values of a key are numbers in rising order, so that neighbours on the axis are alike."""
        values = self.axes[key]
        return all(_is_number(value) for value in values) and list(values) == sorted(values)

    def step(self, key: str) -> float | None:
        """The distance of the values of a key, if they are more than three numbers, evenly spaced."""
        values = self.axes[key]
        if len(values) <= 3 or not self.ordered(key):
            return None
        steps = {round(after - before, 9) for before, after in pairwise(values)}
        return steps.pop() if len(steps) == 1 else None

    def allowed(self, key: str) -> str:
        """The values of a key, in words."""
        values = self.axes[key]
        step = self.step(key)
        return ", ".join(map(str, values)) if step is None else f"{values[0]:g} to {values[-1]:g} in steps of {step:g}"

    def own(self) -> dict[str, Any]:
        """The preset's values of all keys, ``leading`` among them."""
        return _all_keys(self.base)

    def changes(self, point: Point) -> dict[str, Any]:
        """The keys and values of a point."""
        return {key: values[place] for (key, values), place in zip(self.axes.items(), point, strict=True)}

    def differing(self, point: Point) -> dict[str, Any]:
        """The keys of a point whose values are not the preset's."""
        own = self.own()
        return {key: value for key, value in self.changes(point).items() if _plain(value) != _plain(own[key])}

    def config(self, point: Point) -> RenderConfig:
        """The configuration of a point. Raises ConfigError if its values don't go together (no line fits, say)."""
        grid = Grid(preset=self.preset, axes={key: [value] for key, value in self.changes(point).items()})
        combination = next(grid.combinations())
        if combination.config is None:
            raise combination.error or ConfigError("Nothing can be drawn with that.")
        return combination.config

    def point_of(self, config: RenderConfig) -> Point | None:
        """The point that draws exactly as ``config``, or None if it lies outside."""
        full = _all_keys(config)
        places = [_place(values, full[key]) for key, values in self.axes.items()]
        if None in places:
            return None
        point = tuple(place for place in places if place is not None)
        try:
            return point if same_drawing(self.config(point)) == same_drawing(config) else None
        except ConfigError:
            return None

    def presets(self) -> list[tuple[str, Point]]:
        """The presets that ship with the package and lie in the space, the one it changes first."""
        names = sorted(RenderConfig.presets(), key=lambda name: name != self.preset)
        found = [(name, self.point_of(RenderConfig.preset(name))) for name in names]
        return [(name, point) for name, point in found if point is not None]

    def point(self, changes: Mapping[str, Any]) -> Point:
        """The point of some changes to the preset; for a key that is not named, the preset's own value.

        Raises ConfigError naming the key, the value and what is allowed.
        """
        unknown = [key for key in changes if key not in self.axes]
        if unknown:
            raise ConfigError(f"{unknown[0]!r} is no key of the space.", hint=f"Keys: {', '.join(self.axes)}.")
        own = self.own()
        places = []
        for key, values in self.axes.items():
            place = _place(values, changes.get(key, own[key]))
            if place is None:
                what = f"{key} = {changes[key]!r}" if key in changes else f"{key} is not named, and the preset's {own[key]!r}"
                raise ConfigError(f"{what} is not in the space.", hint=f"Allowed: {self.allowed(key)}.")
            places.append(place)
        return tuple(places)

    def points(self) -> Iterable[Point]:
        """Every point, the last key running fastest."""
        return product(*(range(len(values)) for values in self.axes.values()))

    def to_dict(self) -> dict[str, Any]:
        """What makes the space this one, as JSON."""
        return {"preset": self.base.to_dict(), "axes": {key: list(values) for key, values in self.axes.items()}}


def same_drawing(config: RenderConfig) -> RenderConfig:
    """The configuration with its leading written out: equal for all that draw the same."""
    return config.replace(line_height=config.leading)


def _all_keys(config: RenderConfig) -> dict[str, Any]:
    full = {**config.model_dump(by_alias=True, mode="json"), **config.to_dict(), "line-height": config.leading}
    return full | {LEADING: round(config.leading - config.font_size, 9)}


def _entries(name: str, seen: Sequence[str]) -> tuple[str, dict[str, Any], Path]:
    """The preset and the keys of a file, with those of the one it extends."""
    path = resource_dir("configs") / "search" / f"{name}.toml"
    if name not in Space.names():
        path = Path(name)
    if name in seen:
        raise ConfigError(f"{path}: extends = {name!r} leads back to itself.", hint="Leave it out in one of the files.")
    try:
        file = _File(**tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"There is no space {name!r}.", hint=f"Spaces: {', '.join(Space.names())}; or a TOML file.") from None
    except (OSError, ValueError) as e:
        if isinstance(e, ValidationError):
            detail = e.errors()[0]
            raise ConfigError(f"{path}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}.", hint=_ALLOWED) from None
        raise ConfigError(f"The space {str(path)!r} can't be read: {e}.", hint="Mend the file.") from e
    if file.extends is None:
        return file.preset, file.space, path
    preset, entries, _ = _entries(file.extends, [*seen, name])
    return file.preset if "preset" in file.model_fields_set else preset, entries | file.space, path


def _values(path: Path, key: str, entry: Any) -> tuple[Any, ...]:
    where = f"{path}: space.{key}"
    if isinstance(entry, Mapping):
        try:
            return Range(**entry).values()
        except ValidationError as e:
            detail = e.errors()[0]
            raise ConfigError(
                f"{where}.{'.'.join(map(str, detail['loc'][:1]))}: {detail['msg']}.", hint="A range is { from = A, to = B, step = C }."
            ) from None
        except ValueError as e:
            raise ConfigError(f"{where}: {e}.", hint="A range is { from = A, to = B, step = C }; both ends belong to it.") from None
    if not isinstance(entry, list):
        raise ConfigError(f"{where} = {entry!r} is neither a list of values nor a range.", hint=_ALLOWED)
    if not entry:
        raise ConfigError(f"{where} has no values.", hint="Give at least one, or leave it out.")
    plain = [_plain(value) for value in entry]
    again = next((value for place, value in enumerate(entry) if plain[place] in plain[:place]), None)
    if again is not None:
        raise ConfigError(f"{where}: {again!r} stands there twice.", hint="Leave one of them out.")
    return tuple(entry)


def _check(path: Path, preset: str, axes: Mapping[str, tuple[Any, ...]]) -> None:
    """Every value by itself must be possible; that some don't go together is for the search to find."""
    base = RenderConfig.resolve(preset)
    for key, values in axes.items():
        odd = [value for value in values if key == LEADING and not _is_number(value)]
        if odd:
            raise ConfigError(f"{path}: space.{key} = {odd[0]!r}: expected a number of pt.", hint="0 sets lines solid.")
        for combination in Grid(preset=preset, axes={key: [values[-1], *values]}).combinations():  # of a range its end says most
            if combination.error is not None and not isinstance(combination.error, PageTooSmallError):
                raise ConfigError(f"{path}: {combination.error.message}", hint=combination.error.hint)
    for font in axes.get("font-path", (base.font,)):
        for system in axes.get("system-fonts", (base.system_fonts,)):
            find_font(str(font), bool(system))


def _place(values: Sequence[Any], value: Any) -> int | None:
    plain = _plain(value)
    return next((place for place, each in enumerate(values) if _plain(each) == plain), None)


def _plain(value: Any) -> Any:
    """The value in the form in which equal ones are equal: A4 and "595,842", 9 and 9.0, "left" and LEFT."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        named = PAGE_SIZES_PT.get(value.strip().upper())
        sides = list(named) if named else value.split(",")
        if len(sides) == 2:
            try:
                return tuple(float(side) for side in sides)
            except ValueError:
                pass
        return value.strip().upper()
    if isinstance(value, (list, tuple)) and all(_is_number(each) for each in value):
        return tuple(float(each) for each in value)
    return repr(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
