"""Grid: the configurations of a sweep, every combination of the values of some keys. Draws nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from glyph_pipeline.errors import ConfigError
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.resources import resource_dir

# By name: type checking for 3.10 on a newer Python, where tomli is not installed, must not fail.
tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

# Ours: pt added to the font size, which gives line-height; so one grid serves several sizes.
LEADING = "leading"


@dataclass(frozen=True, slots=True)
class Combination:
    """One configuration of a grid: what was changed, and the configuration, or why there is none."""

    changes: Mapping[str, Any]
    config: RenderConfig | None
    error: ConfigError | None


class Grid(BaseModel):
    """A sweep's TOML: ``preset`` is a preset or a Glyph JSON file, ``axes`` gives for each key of a configuration the values to try.

    Besides the keys of a configuration there is ``leading``: pt added to the font size to give line-height.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = "en"
    axes: dict[str, list[Any]] = Field(min_length=1)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Grid:
        """A grid that ships with the package, by name, or a file. Raises ConfigError naming file, key and value."""
        path = resource_dir("configs") / "sweeps" / f"{name_or_path}.toml"
        if str(name_or_path) not in cls.names():
            path = Path(name_or_path)
        try:
            data = tomllib.loads(path.read_text("utf-8"))
            grid = cls(**data)
        except FileNotFoundError:
            raise ConfigError(
                f"There is no grid {str(name_or_path)!r}.", hint=f"Grids: {', '.join(cls.names())}; or a TOML file."
            ) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            raise ConfigError(f"The grid {str(path)!r} can't be read: {e}.", hint="Mend the file.") from e
        except ValidationError as e:
            detail = e.errors()[0]
            key = ".".join(map(str, detail["loc"]))
            raise ConfigError(
                f"{path}: {key}: {detail['msg']}.", hint='Allowed are preset = "en" and [axes] with KEY = [VALUES].'
            ) from None
        grid._check(path)
        return grid

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the grids that ship with the package."""
        return tuple(sorted(path.stem for path in (resource_dir("configs") / "sweeps").glob("*.toml")))

    def combinations(self) -> Iterator[Combination]:
        """Every combination, the last axis running fastest; impossible ones (no line fits the page) with their error."""
        base = RenderConfig.resolve(self.preset)
        for values in product(*self.axes.values()):
            changes = dict(zip(self.axes, values, strict=True))
            try:
                yield Combination(changes, base.replace(**_keys(changes, base)), None)
            except ConfigError as e:
                yield Combination(changes, None, e)

    def __len__(self) -> int:
        size = 1
        for values in self.axes.values():
            size *= len(values)
        return size

    def _check(self, path: Path) -> None:
        """Every value by itself must be possible; that some don't go together is for the sweep to find."""
        base = RenderConfig.resolve(self.preset)
        for key, values in self.axes.items():
            if not values:
                raise ConfigError(f"{path}: axes.{key} has no values.", hint="Give at least one, or leave it out.")
            for value in values:
                if key == LEADING and not isinstance(value, (int, float)):
                    raise ConfigError(f"{path}: axes.{key} = {value!r}: expected a number of pt.", hint="0 sets lines solid.")
                try:
                    base.replace(**_keys({key: value}, base))
                except ConfigError as e:
                    if not e.message.startswith("Bad rendering configuration: ") or "fit" not in e.message:
                        raise ConfigError(f"{path}: {e.message}", hint=e.hint) from e


def _keys(changes: Mapping[str, Any], base: RenderConfig) -> dict[str, Any]:
    """The changes as keys of a configuration."""
    keys = {key: value for key, value in changes.items() if key != LEADING}
    size = keys.get("font-size", keys.get("font_size", base.font_size))
    if LEADING in changes:
        keys["line-height"] = size + changes[LEADING]
    elif size != base.font_size and not {"line-height", "line_height"} & set(keys):
        keys["line-height"] = None  # font-size + 1, as everywhere: a leading made for another size would not fit
    return keys
