"""The engine of a batch on Ray: the same items in and results out as batch/engine.py. Knows no output and no command line."""

from __future__ import annotations

import gc
import inspect
import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

from glyph_pipeline.batch.items import BadItem, BatchItem, Items
from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.batch.units import units_of
from glyph_pipeline.batch.worker import with_absolute_font
from glyph_pipeline.cluster.ledger import Ledger
from glyph_pipeline.cluster.resources import Room, engines_fit, room_of
from glyph_pipeline.cluster.rows import packed
from glyph_pipeline.cluster.running import beside_driver, breaking_off, handed_over, streamed
from glyph_pipeline.cluster.session import session
from glyph_pipeline.cluster.settings import BLOCK_BYTES, data_settings
from glyph_pipeline.cluster.spec import AskSpec
from glyph_pipeline.cluster.stages import Fatal, GivenUp, Reading, draw_rows, load_rows
from glyph_pipeline.errors import BrokenOffError, ClusterError, UsageError
from glyph_pipeline.reading.reader import Retrying
from glyph_pipeline.version import __version__

# Items that travel together. What is lost with a worker is done again, so they are few; each task costs Ray some milliseconds, so
# they are not one.
_MOST_ITEMS = 32
# Tasks that each reader gets at least, if there are so many items: the last of them should not keep one reader busy and the others idle.
_TASKS_EACH = 16
_NOTICE_S = 1.0
_LAST_NOTICE_S = 10.0  # for what came last, which nobody asks for again
# Seconds after which it is told that no engine has been given a GPU yet: where one is free, that takes a few.
_PATIENCE_S = 60.0
# A worker of Ray's that ends kills its children, among them the watchdog of its vLLM together with what that watches; the processes
# behind it, which hold the GPU's memory, would be left. With this the watchdog ends them all.
_ENGINE_ENV = {"env_vars": {"RAY_kill_child_processes_on_worker_exit": "0"}}
# Passes in which nothing came of single items, before so few of them are given up, or else the job is.
_BARREN = 2
_FEW = 8


def ask_many(
    items: Items | Iterable[BatchItem | BadItem],
    spec: AskSpec,
    *,
    address: str | None = None,
    num_cpus: int | None = None,
    wanted: Callable[[str], bool] = lambda id: True,
    on_retry: Callable[[str, Retrying], object] | None = None,
    on_notice: Callable[[str], object] | None = None,
) -> Generator[BatchResult, None, None]:
    """The result of every item whose id is ``wanted``, as it finishes, each once: like GlyphPipeline.ask_many, on a Ray cluster.

    ``address`` and ``num_cpus`` are those of :func:`~glyph_pipeline.cluster.session.session`. ``items`` that were opened from a file,
    a folder or a URL (``read_items``) are read by the machines of the cluster, which must see them under the same path; any other
    iterable is taken whole and handed over. What a machine or process that dies had under way is done again; an item that kills its
    process again and again is a result with an error. ``on_retry(id, event)`` is told of requests that failed and are sent again,
    ``on_notice(sentence)`` of machines that were lost; both from a thread of their own.

    Closing the generator ends all requests. Raises what would fail all items (ServerError, MissingExtraError, ReadError for a key that
    is refused), UsageError if two items have one id, ClusterError if there is no usable cluster.
    """
    source = items if isinstance(items, Items) else list(items)
    ids = list(source.ids) if isinstance(source, Items) else [item.id for item in source]
    missing = dict.fromkeys(id for id in ids if wanted(id))
    if not isinstance(source, Items) and len(set(ids)) < len(ids):
        again = next(id for id in ids if ids.count(id) > 1)
        raise UsageError(f"Two items have the id {again!r}; results are told apart by it.", hint="Give each an id of its own.")
    if not missing:
        return
    with session(address, num_cpus=num_cpus) as ray, breaking_off(ray):
        room = room_of(ray, spec)
        # A machine may be lost while an engine starts there; the others go on.
        with data_settings(ray, deaths=room.readers), _Job(ray, spec, room).told(on_retry, on_notice) as job:
            yield from job.results(source, missing)


class _Job:
    def __init__(self, ray: ModuleType, spec: AskSpec, room: Room) -> None:
        self._ray = ray
        self._room = room
        spec = spec if spec.config is None else replace(spec, config=with_absolute_font(spec.config))
        self._spec = spec.shared_by(room.readers)
        self._ledger = beside_driver(ray, Ledger)

    def results(self, source: Items | Sequence[BatchItem | BadItem], missing: dict[str, None]) -> Iterator[BatchResult]:
        """Passes over what is missing, until nothing is. Ray gives up a block now and then, or all of a pass, if an object was lost that it
        can't make anew; what was in it goes alone in the next pass."""
        most = max(1, min(_MOST_ITEMS, len(missing) // (_TASKS_EACH * self._room.readers)))
        barren, delivered = 0, False
        while missing:
            before = len(missing)
            units = units_of(source, missing.__contains__, max_items=most, max_bytes=BLOCK_BYTES)
            try:
                with breaking_off(self._ray), closing(self._pass([("", (unit.ids, packed(unit))) for unit in units])) as blocks:
                    for value in itertools.chain.from_iterable(blocks):
                        if isinstance(value, Fatal):
                            raise value.error
                        if value.id in missing:
                            del missing[value.id]
                            delivered = True
                            yield value if isinstance(value, BatchResult) else _given_up(source, value)
            except BrokenOffError:
                if len(missing) == before:
                    raise
            gc.collect()  # else the actors of this pass may hold their GPUs until it happens to be done
            barren = barren + 1 if len(missing) == before and most == 1 else 0
            most = 1
            # A few that nothing ever comes of are at fault themselves; if nothing comes of many, the cluster is.
            if barren == _BARREN and not (delivered and len(missing) <= _FEW):
                raise ClusterError(
                    f"The cluster lost all of {before:,} items, each time, before anything came of them.",
                    hint="GLYPH_DEBUG=1 shows why; each machine needs glyph-pipeline and Ray in the versions of this one, and room for "
                    "pages in memory and on its disk. What is done stays done.",
                )
            if barren == _BARREN:
                for id in missing:
                    yield _given_up(source, GivenUp(id, _lost(id)))
                return

    def _pass(self, units: list[Any]) -> Generator[list[BatchResult | GivenUp | Fatal], None, None]:
        """What comes of units, block by block; what ends the job stands last in its block, behind answers that were paid for."""
        from ray.data import TaskPoolStrategy

        rows, blocks = handed_over(self._ray, units)
        room, spec = self._room, self._spec
        shared = {"spec": spec, "ledger": self._ledger, "driver": __version__}
        overlapping = max(2, min(64, spec.concurrency))
        dataset = (
            rows.map_batches(load_rows, batch_size=None, batch_format="pyarrow", fn_kwargs=shared, num_cpus=room.load_cpus)
            .map_batches(
                draw_rows,
                batch_size=None,
                batch_format="pyarrow",
                fn_kwargs=shared,
                compute=TaskPoolStrategy(size=min(room.drawing, blocks)),
                num_cpus=room.draw_cpus,
            )
            .map_batches(
                Reading,
                # Ray Data wants a number where there are GPUs; with 1, each row of a block is a call, and they overlap as well.
                batch_size=1 if room.reader_gpus else None,
                batch_format="pyarrow",
                fn_constructor_kwargs=shared,
                **_actors(min(room.readers, blocks), overlapping),
                **(_gpus(self._ray, room.reader_gpus) if room.reader_gpus else {}),
                **({"runtime_env": _ENGINE_ENV} if spec.engines else {}),
                num_cpus=room.reader_cpus,
            )
        )
        with closing(streamed(dataset)) as blocks_of_rows:
            for block in blocks_of_rows:
                yield sorted((value for _, value in block), key=lambda value: isinstance(value, Fatal))

    @contextmanager
    def told(self, on_retry: Callable[[str, Retrying], object] | None, on_notice: Callable[[str], object] | None) -> Iterator[_Job]:
        """Tell of requests that are sent again and of machines that are lost, from a thread of its own."""
        over = threading.Event()
        alive, waiting = self._alive(), False
        queued: float | None = time.monotonic() if self._room.reader_gpus else None

        def look(patience: float) -> None:
            now = self._alive()
            for node in alive.keys() - now.keys():
                if on_notice is not None:
                    on_notice(f"The machine {alive[node]} of the cluster was lost; what it had under way is done again.")
                del alive[node]
            alive.update(now)
            nonlocal waiting, queued
            if queued is not None and self._ray.get(self._ledger.has_readers.remote(), timeout=patience):
                queued = None
            elif queued is not None and time.monotonic() - queued > _PATIENCE_S and on_notice is not None:
                on_notice(f"{_PATIENCE_S:.0f} s, and no engine has a GPU of the cluster: others hold them; waiting for one to be free.")
                queued = None
            before, waiting = waiting, not engines_fit(self._ray, self._room)
            if waiting and not before and on_notice is not None:
                on_notice("No machine of the cluster has a GPU for an engine any more; waiting for one to join.")
            for id, reason, seconds in self._ray.get(self._ledger.notices.remote(), timeout=patience):
                if on_retry is not None:
                    on_retry(id, Retrying(reason, seconds))

        def ask() -> None:
            ended = False
            while not ended:
                ended = over.wait(_NOTICE_S)  # and then once more: what came last is told too
                with suppress(Exception):  # the cluster is busy, or a callback's own: no reason to end the job
                    look(_LAST_NOTICE_S if ended else _NOTICE_S)

        thread = threading.Thread(target=ask, name="glyph-notices", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join(2 * _LAST_NOTICE_S)

    def _alive(self) -> dict[str, str]:
        """The addresses of the machines that live, by their ids."""
        return {node["NodeID"]: node["NodeManagerAddress"] for node in self._ray.nodes() if node["Alive"]}


def _actors(size: int, overlapping: int) -> dict[str, Any]:
    """Arguments of map_batches for so many actors, each with so many tasks at a time and one more on its way to it."""
    from ray.data import ActorPoolStrategy

    pool: dict[str, Any] = {"size": size, "max_tasks_in_flight_per_actor": overlapping + 1}
    if "max_concurrent_calls_per_actor" in inspect.signature(ActorPoolStrategy).parameters:
        return {"compute": ActorPoolStrategy(**pool, max_concurrent_calls_per_actor=overlapping)}
    return {"compute": ActorPoolStrategy(**pool), "max_concurrency": overlapping}  # Ray before 2.60 or so


def _gpus(ray: ModuleType, each: float) -> dict[str, Any]:
    """Arguments of map_batches for actors with so many GPUs. One that dies is begun anew where GPUs are free, which may be never; so its
    tasks don't wait for that: they fail, and what was in them is done in the next pass, by those that live then."""
    taken = inspect.signature(ray.data.Dataset.map_batches).parameters.values()
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken)  # until Ray 2.64, it is announced
    return {"num_gpus": each, **({"max_task_retries": 0} if free else {})}


def _given_up(source: Items | Sequence[BatchItem | BadItem], value: GivenUp) -> BatchResult:
    """The result of an item that nothing came back of, with what stands in the input."""
    question, metadata = "", {}
    if value.readable:
        for unit in units_of(source, lambda id: id == value.id, max_items=1, max_bytes=BLOCK_BYTES):
            for item in unit.load():
                if isinstance(item, BatchItem):
                    question, metadata = item.question, dict(item.metadata)
    return BatchResult(value.id, question, None, value.error, 0.0, metadata)


def _lost(id: str) -> ClusterError:
    return ClusterError(
        f"The cluster lost {id!r} each time, and nothing else was left to do.",
        hint="Do it again with --retry-failed, on a healthier cluster.",
    )
