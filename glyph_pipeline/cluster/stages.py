"""The stages of a batch on a cluster: reading input, drawing, asking. Each runs on whatever machine Ray chose; none knows the driver."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from glyph_pipeline.batch.engine import item_error
from glyph_pipeline.batch.items import BadItem, BatchItem
from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.batch.worker import DrawnItem, DrawTask, draw
from glyph_pipeline.cluster.ledger import TRIES_ALONE
from glyph_pipeline.cluster.rows import ids_of, packed_values, table_of, unpacked
from glyph_pipeline.cluster.spec import AskSpec
from glyph_pipeline.cluster.turns import Turns
from glyph_pipeline.errors import ClusterError, FontError, GlyphError, InputError, ServerStartError
from glyph_pipeline.tokens.vision import GLM_4V
from glyph_pipeline.version import __version__

if TYPE_CHECKING:
    import pyarrow as pa

    from glyph_pipeline.pipeline import GlyphPipeline

LOAD, DRAW, ASK = "load", "draw", "ask"


@dataclass(frozen=True, slots=True)
class Drawn:
    """An item without its documents, and what was drawn of them."""

    item: BatchItem
    drawn: DrawnItem


@dataclass(frozen=True, slots=True)
class Fatal:
    """What would fail every other item as well: it ends the job."""

    error: GlyphError


@dataclass(frozen=True, slots=True)
class GivenUp:
    """An item that is not tried again, and why. ``readable``: the driver may look it up in the input."""

    id: str
    error: GlyphError
    readable: bool = True


# What a row holds behind the stage that draws. A BatchResult is an item that is done with, and passes through what follows.
Value: TypeAlias = "Drawn | BatchResult | GivenUp | Fatal"


def _other_version(driver: str) -> ClusterError:
    """Pages and rows would differ between machines."""
    return ClusterError(
        f"The machine {node_name()} has glyph-pipeline {__version__}, the job was begun with {driver}.",
        hint="Install the same version on every machine of the cluster.",
    )


def node_name() -> str:
    """The address of the machine this runs on, as Ray knows it."""
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def machine() -> str:
    """The id of the machine this runs on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def load_rows(table: pa.Table, spec: AskSpec, ledger: Any, driver: str) -> Iterator[pa.Table]:
    """The items of units, one a row. Units that had a process die are left out unless they are a single item: the next pass has them so."""
    import ray

    for value in packed_values(table):
        ids, unit = unpacked(value)  # the unit still packed: what is in it may be what kills
        if driver != __version__:
            yield table_of((id, Fatal(_other_version(driver))) for id in ids)
            continue
        if suspects := ray.get(ledger.begin.remote(LOAD, ids, machine())):
            if len(ids) > 1:
                continue
            if not ray.get(ledger.begin_alone.remote(LOAD, *suspects)):
                yield table_of([(ids[0], GivenUp(ids[0], _deadly(ids[0], "read"), readable=False))])
                continue
        try:
            yield table_of((item.id, item) for item in unpacked(unit).load())
        except GlyphError as e:  # of the input as a whole: all others would be lost as well, to this machine before any
            yield table_of((id, Fatal(_told_here(e))) for id in ids)
        except Exception as e:  # also what the user's own metadata needs and this machine has not
            yield table_of((id, GivenUp(id, _not_handed_over(id, e))) for id in ids)
        ray.get(ledger.done.remote(LOAD, ids))


def _told_here(error: GlyphError) -> GlyphError:
    """The error, with the machine that it is told of."""
    error = copy.copy(error)
    error.message = f"On the machine {node_name()}: {error.message}"
    return error


def _not_handed_over(id: str, error: Exception) -> InputError:
    return InputError(
        f"{id!r} can't be read on the machine {node_name()}: {type(error).__name__}: {error}.",
        hint="What its metadata is made of, if that is more than text and numbers, must be installed on every machine of the cluster.",
    )


def draw_rows(table: pa.Table, spec: AskSpec, ledger: Any, driver: str) -> Iterator[pa.Table]:
    """What was drawn of items, one a row; one that can't be drawn is done with."""
    import ray

    ids = ids_of(table)
    suspects = set(ray.get(ledger.begin.remote(DRAW, ids, machine())))
    for id, value in zip(ids, packed_values(table), strict=True):
        alone = id in suspects
        if alone and not ray.get(ledger.begin_alone.remote(DRAW, id)):
            yield table_of([(id, GivenUp(id, _deadly(id, "drew")))])
        else:
            yield table_of([(id, _drawn(id, value, spec, driver))])
        if alone:
            ray.get(ledger.done.remote(DRAW, [id]))
    ray.get(ledger.done.remote(DRAW, ids))


def _drawn(id: str, value: Any, spec: AskSpec, driver: str) -> Value:
    if driver != __version__:
        return Fatal(_other_version(driver))
    try:
        item: BatchItem | BadItem | GivenUp | Fatal = unpacked(value)
    except Exception as e:
        return GivenUp(id, _not_handed_over(id, e))
    if isinstance(item, BadItem):
        return BatchResult(item.id, "", None, item.error, 0.0)
    if not isinstance(item, BatchItem):
        return item
    began = time.monotonic()
    try:
        # The reader knows the model's own counts; where OCR reads, cl100k_base counts, and here there is a core for it.
        task = DrawTask.of(item, spec.config or {}, GLM_4V, spec.ocr, spec.store)
        return Drawn(replace(item, documents=()), draw(task))
    except FontError as e:  # the driver has it
        return Fatal(_told_here(e))
    except MemoryError:
        error = GlyphError(f"There is not enough memory to draw {item.id!r}.", hint="Split the document, or use a larger machine.")
    except Exception as e:
        try:
            error = item_error(e)
        except GlyphError as fatal:
            return Fatal(fatal)
    return BatchResult(item.id, item.question, None, error, time.monotonic() - began, item.metadata)


def _deadly(id: str, did: str) -> InputError:
    return InputError(
        f"The process that {did} {id!r} died each time, the last {TRIES_ALONE} of them while it was tried apart from the others; it may "
        "have run out of memory.",
        hint="Split the document, or use machines with more memory.",
    )


class Reading:
    """An actor that has drawn items read: plans their windows, asks, merges, through GlyphPipeline as everywhere else.

    Its requests are bounded by ``spec.concurrency``, and so are the items whose pages it holds. Calls may overlap; all run in one loop.
    """

    def __init__(self, spec: AskSpec, ledger: Any, driver: str) -> None:
        self._spec = spec
        self._ledger = ledger
        self._machine = machine()
        self._gate = asyncio.Semaphore(spec.concurrency)
        self._turns = Turns()
        self._pipeline: GlyphPipeline | None = None
        self._fatal: GlyphError | None = None
        ledger.reader_begins.remote()
        try:
            if driver != __version__:
                raise _other_version(driver)
            self._pipeline = self._opened()
        except GlyphError as e:  # told as a row: of one that dies, Ray says little, and may start it anew
            self._fatal = e
        except Exception as e:
            self._fatal = GlyphError(f"On the machine {node_name()}: {type(e).__name__}: {e}", hint="See what AskSpec was given.")

    def _opened(self) -> GlyphPipeline:
        from glyph_pipeline.pipeline import GlyphPipeline

        spec = self._spec
        arguments = {"config": spec.config, "concurrency": spec.concurrency, **spec.pipeline}
        if spec.store is not None:
            arguments["cache"] = spec.store.open()
        if spec.ocr:
            from glyph_pipeline.reading.ocr import OCRReader

            arguments["reader"] = OCRReader()
        elif spec.engines is not None:
            from glyph_pipeline.cluster.engines import start_engine

            try:
                arguments |= start_engine(spec.engines)
            except ServerStartError as e:
                raise _told_here(e) from None
        return GlyphPipeline(**arguments)

    async def __call__(self, table: pa.Table) -> AsyncIterator[pa.Table]:
        """One table for each that comes in, in the same order: what Ray does again after a loss must give the same rows."""
        ids = ids_of(table)
        values = await asyncio.gather(*map(self._value, ids, packed_values(table)))
        yield table_of(zip(ids, values, strict=True))

    async def _value(self, id: str, value: Any) -> BatchResult | GivenUp | Fatal:
        async with self._gate, self._turns.beside():
            if self._fatal is not None:
                return Fatal(self._fatal)
            if not await self._ledger.begin.remote(ASK, [id], self._machine):
                return await self._done(id, value)
        async with self._turns.alone():  # if the process dies again, it is known by whom
            if await self._ledger.begin_alone.remote(ASK, id):
                return await self._done(id, value)
        return GivenUp(id, _deadly(id, "asked about"))

    async def _done(self, id: str, value: Any) -> BatchResult | GivenUp | Fatal:
        try:
            row: Value = await asyncio.to_thread(unpacked, value)
        except Exception as e:
            row = GivenUp(id, _not_handed_over(id, e))
        answer = await self._asked(row) if isinstance(row, Drawn) else row
        await self._ledger.done.remote(ASK, [id])
        return answer

    async def _asked(self, row: Drawn) -> BatchResult | Fatal:
        assert self._pipeline is not None
        item, began = row.item, time.monotonic() - row.drawn.seconds
        answer, error = None, None
        try:
            answer = await self._pipeline.aask_drawn(
                item, row.drawn, on_retry=lambda id, event: self._ledger.notify.remote(id, event.reason, event.seconds)
            )
        except Exception as e:
            try:
                error = item_error(e)
            except GlyphError as fatal:
                self._fatal = fatal
                return Fatal(fatal)
        return BatchResult(item.id, item.question, answer, error, time.monotonic() - began, item.metadata)
