"""The tasks that make up a set of shards, and the order in which an engine is given them. Knows no engine and no output folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from glyph_pipeline.batch.values import Unit
from glyph_pipeline.errors import GlyphError
from glyph_pipeline.shards.plan import ShardSpec
from glyph_pipeline.shards.summary import Failure, ShardSummary
from glyph_pipeline.shards.writing import try_item, write_shard

# How often a task is tried whose worker dies: it may have been beside one that took all the memory.
TRIES = 3


@dataclass(frozen=True, slots=True)
class WriteShard:
    """Draw and write a shard; the items of ``failed`` are known to fail and are not tried."""

    spec: ShardSpec
    number: int
    unit: Unit
    failed: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class TryItem:
    """Draw and write the one item of ``unit`` to nowhere: does its worker survive?"""

    spec: ShardSpec
    number: int
    unit: Unit


Task: TypeAlias = "WriteShard | TryItem"
Done: TypeAlias = "Callable[[Task, ShardSummary | None], None]"


class Execute(Protocol):
    """An engine: does tasks side by side, or one after the other if ``alone``, and tells of each what came of it, once.

    None is told of a task whose worker died TRIES times. Raises what would fail all other tasks as well.
    """

    def __call__(self, tasks: Iterator[Task], done: Done, *, alone: bool) -> None:
        """Do the tasks."""
        ...


def perform(task: Task) -> Any:
    """Do a task, here; what it gives. Raises OutputError, FontError, MissingExtraError and InputError, which would fail others, too."""
    if isinstance(task, WriteShard):
        return write_shard(task.spec, task.number, task.unit, task.failed)
    try_item(task.spec, task.number, task.unit)
    return True


def work_off(tasks: Sequence[WriteShard], execute: Execute, on_shard: Callable[[ShardSummary], object]) -> None:
    """Have all shards written. Of a shard whose workers died the items are tried one at a time, and those that killed a worker
    again are failed documents of it.

    Raises what the engine raises, and GlyphError, when all others are done, for shards that could not be written.
    """
    dead = _pass(tasks, execute, on_shard, alone=False) if tasks else []
    if not dead:
        return
    killers: dict[int, list[Failure]] = {task.number: [] for task in dead}

    def drawn(task: Task, outcome: object) -> None:
        if outcome is None and isinstance(task, TryItem):
            killers[task.number] += map(_killer, task.unit.ids)

    probes = (TryItem(task.spec, task.number, task.unit.only({id})) for task in dead for id in task.unit.ids)
    execute(iter(probes), drawn, alone=True)
    again = [replace(task, failed=tuple(killers[task.number])) for task in dead]
    left = _pass(again, execute, on_shard, alone=True)
    if left:
        names = ", ".join(str(task.number) for task in left[:10])
        raise GlyphError(
            f"The processes that drew {len(left)} of the shards died each time ({names}); they may have run out of memory.",
            hint="Run it again with fewer workers (--workers); what is done stays done.",
        )


def _pass(tasks: Iterable[WriteShard], execute: Execute, on_shard: Callable[[ShardSummary], object], *, alone: bool) -> list[WriteShard]:
    """The tasks whose workers died, in order."""
    dead: list[WriteShard] = []

    def done(task: Task, outcome: ShardSummary | None) -> None:
        if outcome is not None:
            on_shard(outcome)
        elif isinstance(task, WriteShard):
            dead.append(task)

    execute(iter(tasks), done, alone=alone)
    return sorted(dead, key=lambda task: task.number)


def _killer(id: str) -> Failure:
    error = GlyphError(
        f"The process that drew {id!r} died each time; it may have run out of memory.",
        hint="Split the document, or use a machine with more memory.",
    )
    return Failure.of(id, error)
