"""Shards drawn by the machines of a Ray cluster, and draw_shards() for it. Knows no formats, no folder and no command line."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from glyph_pipeline import shards
from glyph_pipeline.cluster.rows import ids_of, packed_values, table_of, unpacked
from glyph_pipeline.cluster.running import beside_driver, breaking_off, handed_over, streamed
from glyph_pipeline.cluster.session import session
from glyph_pipeline.cluster.settings import data_settings
from glyph_pipeline.cluster.stages import Fatal
from glyph_pipeline.errors import BrokenOffError, ClusterError, GlyphError, UsageError
from glyph_pipeline.shards.work import TRIES, Done, Execute, Task, perform

if TYPE_CHECKING:
    import pyarrow as pa


def draw_shards(
    sources: Sequence[str | Path] | str | Path,
    output: str | Path,
    *,
    address: str | None = None,
    workers: int | None = None,
    **options: Any,
) -> shards.ShardReport:
    """:func:`glyph_pipeline.shards.draw_shards` on a Ray cluster: the same bytes, each shard drawn by whatever machine has a core free.

    ``address`` is that of :func:`~glyph_pipeline.cluster.session.session`; ``workers``: shards that are drawn at a time (default: one a
    core). Sources and output must be the same for all machines: URLs, or folders that they share. A shard whose machine is lost is
    drawn again, and one that kills its process again and again ends with failed documents. Raises ClusterError besides.
    """
    with on_cluster(address, workers) as execute:
        return shards.draw_shards(sources, output, execute=execute, **options)


@contextmanager
def on_cluster(address: str | None = None, workers: int | None = None) -> Iterator[Execute]:
    """The engine that has a cluster draw; it is connected when there is something to draw, and left at the end."""
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}.", hint="Give 1 or more: a cluster draws in processes of its own.")
    with ExitStack() as stack:
        connected: list[ModuleType] = []

        def execute(tasks: Iterator[Task], done: Done, *, alone: bool) -> None:
            if not connected:
                connected.append(stack.enter_context(session(address)))
                stack.enter_context(data_settings(connected[0]))
            _work_off(connected[0], list(tasks), done, 1 if alone else workers)

        yield execute


class _Attempts:
    """How often each task was begun without having been done. An actor: Ray begins a task anew for as long as its workers die."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, id: str) -> bool:
        """A task is taken up; False if it has had all its tries."""
        self._begun[id] += 1
        return self._begun[id] <= TRIES

    def done(self, id: str) -> None:
        """A task is done. Ray may still do it again, if the machine is lost that holds its result."""
        del self._begun[id]


def _work_off(ray: ModuleType, tasks: Sequence[Task], done: Done, workers: int | None) -> None:
    """Passes over what is missing, until nothing is: Ray gives up a block now and then."""
    attempts = beside_driver(ray, _Attempts)
    missing = {str(number): task for number, task in enumerate(tasks)}
    while missing:
        before = len(missing)
        try:
            with breaking_off(ray), closing(_pass(ray, missing, attempts, workers)) as blocks:
                for id, outcome in itertools.chain.from_iterable(blocks):
                    if isinstance(outcome, Fatal):
                        raise outcome.error
                    task = missing.pop(id, None)
                    if task is not None:
                        done(task, outcome)
        except BrokenOffError:
            if len(missing) == before:
                raise
        if len(missing) == before:
            raise ClusterError(
                f"The cluster lost {before} tasks each time, and nothing else was left to do.",
                hint="Run it again on a healthier cluster: what is done stays done.",
            )


def _pass(ray: ModuleType, missing: Mapping[str, Task], attempts: Any, workers: int | None) -> Generator[list[tuple[str, Any]], None, None]:
    from ray.data import TaskPoolStrategy

    rows, _ = handed_over(ray, list(missing.items()))
    dataset = rows.map_batches(
        _perform_rows,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"attempts": attempts},
        num_cpus=1,
        compute=TaskPoolStrategy(size=workers),
    )
    return streamed(dataset)


def _perform_rows(table: pa.Table, attempts: Any) -> Iterator[pa.Table]:
    """Do tasks, one a row: a row for each, with what came of it. Runs on whatever machine Ray chose."""
    import ray

    for id, value in zip(ids_of(table), packed_values(table), strict=True):
        outcome: Any = None
        if ray.get(attempts.begin.remote(id)):
            try:
                outcome = perform(unpacked(value))
            except MemoryError:
                outcome = None
            except GlyphError as e:
                outcome = Fatal(e)
            except Exception as e:  # told as a row: Ray would try it again
                outcome = Fatal(GlyphError(f"{type(e).__name__}: {e}", hint="This is a bug in glyph-pipeline; please report it."))
            ray.get(attempts.done.remote(id))
        yield table_of([(id, outcome)])
