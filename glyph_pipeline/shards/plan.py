"""The plan of a set of shards: which run of the input each has, and what decides their bytes. Depends on no machine; draws nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from glyph_pipeline.batch.items import require_encoding
from glyph_pipeline.batch.values import Unit
from glyph_pipeline.batch.worker import with_absolute_font
from glyph_pipeline.errors import UsageError
from glyph_pipeline.pagestore import StorePlace
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.shards.sources import read_sources
from glyph_pipeline.version import __version__

ShardFormat: TypeAlias = Literal["webdataset", "parquet"]
FORMATS: dict[ShardFormat, str] = {"webdataset": ".tar", "parquet": ".parquet"}
"""What shards may be, and how their files' names end."""

# Where no number of documents is asked for, a shard has at most this many bytes of input: a page's PNG has 13 to 15 bytes for each
# byte of an English text, so that makes about 256 MB. Of Chinese it is much less.
SHARD_TEXT_BYTES = 18_000_000
# And this many documents, however short they are: the file beside a shard tells of each.
SHARD_DOCUMENTS = 5_000
_NO_LIMIT = 1 << 62
_AUTO = ("en", "zh")  # what RenderConfig.for_texts chooses from


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """What all shards of a set have in common. Plain values: it travels to other processes and machines.

    ``config``: or else the changes to the preset that each item's texts get. ``fonts``: the SHA-256 of the configured font by its
    name, so that no machine draws with another one. ``store``: where pages are kept, if anywhere.
    """

    folder: str
    format: ShardFormat
    identity: str
    version: str
    config: RenderConfig | Mapping[str, Any]
    fonts: tuple[tuple[str, bool, str], ...]
    store: StorePlace | None = None

    def shard_name(self, number: int) -> str:
        """The name of a shard's file."""
        return f"shard-{number:06d}{FORMATS[self.format]}"

    def summary_name(self, number: int) -> str:
        """The name of the file beside it, which says that it is done."""
        return f"shard-{number:06d}.json"


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """The shards of some input: ``units`` has what each is made of, in order. ``decisive`` is what :attr:`identity` is made of;
    ``sizes``, a digest of how much each shard has of the input, is not: a document that failed may be mended."""

    format: ShardFormat
    config: RenderConfig | Mapping[str, Any]
    units: tuple[Unit, ...]
    decisive: Mapping[str, Any]
    sizes: str
    fonts: tuple[tuple[str, bool, str], ...]

    @property
    def identity(self) -> str:
        """SHA-256 of everything that decides what is in which shard, in hex."""
        return hashlib.sha256(json.dumps(self.decisive, sort_keys=True).encode("ascii")).hexdigest()

    @property
    def documents(self) -> int:
        """Items of the input."""
        return sum(len(unit.ids) for unit in self.units)

    def spec(self, folder: str, store: StorePlace | None = None) -> ShardSpec:
        """What its shards have in common when they are written to ``folder``."""
        return ShardSpec(folder, self.format, self.identity, __version__, self.config, self.fonts, store)

    def to_dict(self) -> dict[str, Any]:
        """The plan as it stands in the folder: what decides it, and the first document and the number of documents of each shard."""
        shards = [{"shard": number, "first": unit.ids[0], "documents": len(unit.ids)} for number, unit in enumerate(self.units)]
        return {"format": self.format, "identity": self.identity, **self.decisive, "sizes": self.sizes, "shards": shards}


def plan_shards(
    sources: Sequence[str | Path],
    *,
    format: ShardFormat = "webdataset",
    shard_size: int | None = None,
    config: RenderConfig | Mapping[str, Any] | None = None,
    encoding: str | None = None,
    leave_out: Collection[str | Path] = (),
) -> ShardPlan:
    """Divide the items of sources (what a batch takes as input) into shards, in the order of the input. No shard spans two sources, but
    for single files that follow each other.

    ``shard_size``: documents in a shard; without it a shard has at most SHARD_TEXT_BYTES of input and SHARD_DOCUMENTS, but one document
    at least. ``config``: a whole configuration, or the changes to the preset that each item's texts get; the path of a font in it
    becomes absolute. ``leave_out``: files of folders that are no items.

    Raises UsageError, FontError, ConfigError, and InputError if a source can't be read or two items have one id.
    """
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r} of shards.", hint=f"Formats: {', '.join(FORMATS)}.")
    if shard_size is not None and shard_size < 1:
        raise UsageError(f"A shard of {shard_size} documents holds nothing.", hint="Give 1 or more.")
    if not sources:
        raise UsageError("There is nothing to draw.", hint="Name a folder or a file.")
    require_encoding(encoding)
    config = with_absolute_font({} if config is None else config)
    possible = [config] if isinstance(config, RenderConfig) else [RenderConfig.preset(name).replace(**config) for name in _AUTO]
    fonts = tuple(dict.fromkeys((each.font, each.system_fonts, find_font(each.font, each.system_fonts).sha256) for each in possible))
    inputs = read_sources(sources, encoding, leave_out)
    bounds = (SHARD_DOCUMENTS, SHARD_TEXT_BYTES) if shard_size is None else (shard_size, _NO_LIMIT)
    units = tuple(unit for items in inputs for unit in items.units(lambda id: True, max_items=bounds[0], max_bytes=bounds[1]))
    decisive = {
        "documents": sum(map(len, inputs)),
        "ids": _digest(id for items in inputs for id in items.ids),
        "division": _digest(str(len(unit.ids)) for unit in units),
        "shard_size": shard_size,
        "config": config.to_dict() if isinstance(config, RenderConfig) else {"auto": [each.to_dict() for each in possible]},
        "fonts": [list(font) for font in fonts],
        "encoding": encoding,
        "version": __version__,
    }
    sizes = _digest(str(unit.size) for unit in units)
    return ShardPlan(format, config, units, {"format": format, **decisive}, sizes, fonts)


def _digest(words: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for word in words:
        data = word.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()
