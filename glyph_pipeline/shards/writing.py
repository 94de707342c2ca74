"""Writing one shard: its documents drawn and put into a file that appears whole, and what became of them beside it. Knows no other shard."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import IO, Any

from typing_extensions import Self

from glyph_pipeline import storage
from glyph_pipeline.batch.values import BadItem, BatchItem, Unit
from glyph_pipeline.errors import FontError, GlyphError, MissingExtraError, OutputError
from glyph_pipeline.rendering.canonical import Losses
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.shards.drawing import Drawer, Spool, SpooledDocument, open_spool
from glyph_pipeline.shards.parquet import ParquetWriter
from glyph_pipeline.shards.plan import ShardSpec
from glyph_pipeline.shards.samples import Sample, sample_key, to_json
from glyph_pipeline.shards.summary import NAMED, Counts, Failure, ShardSummary, sidecar, summary_of
from glyph_pipeline.shards.webdataset import WebDatasetWriter
from glyph_pipeline.tokens.text import Cl100kTokenizer
from glyph_pipeline.version import __version__

_WRITERS: dict[str, type[WebDatasetWriter] | type[ParquetWriter]] = {"webdataset": WebDatasetWriter, "parquet": ParquetWriter}
# What one document meets, all others would.
_ENDING = (FontError, MissingExtraError, OutputError)


def write_shard(spec: ShardSpec, number: int, unit: Unit, failed: tuple[Failure, ...] = ()) -> ShardSummary:
    """Draw the items of ``unit`` and write shard ``number``, then the file beside it; if that is there already, nothing is done.

    The items of ``failed`` are not tried. What is wrong with one item is its own failure. Needs nothing but its arguments, so any
    process on any machine can do it, and the same arguments give the same bytes. Raises OutputError, MissingExtraError, InputError if
    the input can't be read or has changed, and FontError or GlyphError if this machine would draw otherwise than the plan's.
    """
    check_machine(spec)
    before = read_summary(spec, number)
    if before is not None:
        return before
    name = spec.shard_name(number)
    given_up = {failure.id: failure for failure in failed}
    wanted = [id for id in unit.ids if id not in given_up]  # what reads the others may be what kills
    with storage.writing(storage.below(spec.folder, name)) as stream, open_spool() as spool:
        out = _Counted(stream)
        with _Shard(spec, number, out) as shard:
            items = unit.only(wanted).load() if wanted else iter(())
            for id in unit.ids:
                if id in given_up:
                    shard.failed.append(given_up[id])
                else:
                    shard.add(next(items), spool)
    summary = ShardSummary(number, name, shard.counts(), tuple(shard.failed[:NAMED]))
    record = sidecar(
        summary,
        identity=spec.identity,
        sha256=out.sha256.hexdigest(),
        fonts=[asdict(font) for font in shard.drawer.fonts()],
        documents=shard.documents,
        failed=shard.failed,
    )
    storage.write_whole(storage.below(spec.folder, spec.summary_name(number)), (to_json(record, indent=1) + "\n").encode("utf-8"))
    return summary


def try_item(spec: ShardSpec, number: int, unit: Unit) -> None:
    """Draw and write the items of ``unit`` as :func:`write_shard` would, to nowhere. What is wrong with them is nobody's concern here."""
    check_machine(spec)
    out = _Counted(None)
    with open_spool() as spool, _Shard(spec, number, out) as shard:
        for item in unit.load():
            shard.add(item, spool)


def read_summary(spec: ShardSpec, number: int) -> ShardSummary | None:
    """The summary of a shard that is done; None if it isn't, or is no longer whole. Raises InputError if its folder can't be read."""
    shard, beside = (storage.below(spec.folder, name) for name in (spec.shard_name(number), spec.summary_name(number)))
    if not (storage.exists(beside) and storage.exists(shard)):
        return None
    summary = summary_of(storage.read_bytes(beside), spec.identity)
    return summary if summary is not None and storage.size(shard) == summary.counts.bytes else None


def check_machine(spec: ShardSpec) -> None:
    """Raise GlyphError or FontError if pages drawn here would not be those that were drawn elsewhere."""
    if spec.version != __version__:
        raise GlyphError(
            f"This process has glyph-pipeline {__version__}, the shards are drawn with {spec.version}.",
            hint="Install the same version on every machine.",
        )
    for font, installed, sha256 in spec.fonts:
        found = find_font(font, installed)
        if found.sha256 != sha256:
            raise FontError(
                f"The font {font!r} is another one on this machine ({str(found.path)!r}) than where the shards were begun.",
                hint="Install the same fonts on every machine, or choose a bundled one with --font (glyph-compress fonts lists them).",
            )


def _attempt(drawer: Drawer, item: BatchItem | BadItem, spool: Spool) -> list[SpooledDocument] | GlyphError:
    """What was drawn of an item, or what it failed with. Raises what would fail all others as well."""
    if isinstance(item, BadItem):
        return item.error
    try:
        return drawer.draw(item, spool)
    except _ENDING:
        raise
    except GlyphError as e:
        return e
    except MemoryError:
        return GlyphError(f"There is not enough memory to draw {item.id!r}.", hint="Use fewer workers (--workers), or split the document.")
    except Exception as e:
        return GlyphError(
            f"{type(e).__name__}: {e}", hint="This is a bug in glyph-pipeline, or in what it was given; the other documents go on."
        )


class _Shard:
    """What is written of a shard so far; the end is written when its block ends, unless that raises."""

    def __init__(self, spec: ShardSpec, number: int, out: _Counted) -> None:
        self.drawer = Drawer(spec.config, spec.store)
        self.documents: list[dict[str, Any]] = []
        self.failed: list[Failure] = []
        self._number = number
        self._out = out
        self._writer = _WRITERS[spec.format](out)
        self._tokenizer = Cl100kTokenizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._writer.close()
        else:
            self._out.abandon()

    def add(self, item: BatchItem | BadItem, spool: Spool) -> None:
        """Draw an item and write its pages, or note why it has none."""
        spool.clear()
        drawn = _attempt(self.drawer, item, spool)
        if isinstance(drawn, GlyphError):
            self.failed.append(Failure.of(item.id, drawn))
            return
        spool.rewind()
        for document in drawn:
            self._write(document, spool)

    def _write(self, document: SpooledDocument, spool: Spool) -> None:
        origin = document.origin
        for page in spool.pages(origin.pages):
            self._writer.add(Sample(sample_key(self._number, len(self.documents), page.number), origin, page))
        self.documents.append(
            {
                "id": origin.id,
                "document": origin.document,
                "pages": origin.pages,
                "characters": len(origin.text),
                "text_tokens": self._tokenizer.count(origin.text),
                "vision_tokens": document.vision_tokens,
                **_lost(document.losses),
            }
        )

    def counts(self) -> Counts:
        """The sums, when it is closed."""
        sums = {
            name: sum(document[name] for document in self.documents) for name in ("pages", "characters", "text_tokens", "vision_tokens")
        }
        return Counts(documents=len(self.documents), failed=len(self.failed), bytes=self._out.tell(), **sums)


def _lost(losses: Losses) -> dict[str, Any]:
    """What is drawn otherwise than it stands in the text, where there is any."""
    missing = {f"U+{ord(char):04X}": count for char, count in sorted(losses.missing.items())}
    found = {"missing": missing, "removed": losses.removed, "invisible": losses.invisible}
    return {name: value for name, value in found.items() if value}


class _Counted:
    """A stream that is only written to, with the number of its bytes and their SHA-256. As much of a file as pyarrow asks for.
    Without a stream all goes to nowhere."""

    closed = False

    def __init__(self, stream: IO[bytes] | None) -> None:
        self.sha256 = hashlib.sha256()
        self._stream = stream
        self._written = 0

    def write(self, data: bytes) -> int:
        """Write all of ``data``."""
        self.sha256.update(data)
        if self._stream is not None:
            self._stream.write(data)
        self._written += len(data)
        return len(data)

    def abandon(self) -> None:
        """What is still written goes nowhere: pyarrow writes an end when it is let go, by then to a closed file."""
        self._stream = None

    def tell(self) -> int:
        """Bytes written."""
        return self._written

    def flush(self) -> None:
        """Nothing: what is written appears when it is whole."""

    def close(self) -> None:
        """Nothing: whoever opened the stream closes it."""
