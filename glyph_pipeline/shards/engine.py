"""draw_shards(): documents in, a folder of shards out, by whatever engine. Knows no processes, no cluster and no command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glyph_pipeline import storage
from glyph_pipeline.batch.folder import is_below
from glyph_pipeline.batch.results import places_of
from glyph_pipeline.pagestore import PageStore
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.shards.folder import begin, finish, held
from glyph_pipeline.shards.local import on_this_machine
from glyph_pipeline.shards.plan import ShardFormat, plan_shards
from glyph_pipeline.shards.summary import NAMED, Counts, Failure, ShardSummary
from glyph_pipeline.shards.work import Execute, WriteShard, work_off


@dataclass(frozen=True, slots=True)
class ShardReport:
    """A set of shards that is done: ``counts`` are of all of it, ``drawn`` of what this run did. ``failures``: the first ten."""

    folder: str
    format: ShardFormat
    identity: str
    shards: int
    counts: Counts
    drawn: Counts
    failures: tuple[Failure, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {
            "output": self.folder,
            "format": self.format,
            "identity": self.identity,
            "shards": self.shards,
            **self.counts.to_dict(),
            "drawn": self.drawn.to_dict(),
            "failures": [failure.to_dict() for failure in self.failures],
        }


def draw_shards(
    sources: Sequence[str | Path] | str | Path,
    output: str | Path,
    *,
    format: ShardFormat = "webdataset",
    shard_size: int | None = None,
    config: RenderConfig | Mapping[str, Any] | None = None,
    encoding: str | None = None,
    store: PageStore | None = None,
    retry_failed: bool = False,
    workers: int | None = None,
    execute: Execute | None = None,
    on_begin: Callable[[int, Sequence[ShardSummary]], object] | None = None,
    on_shard: Callable[[ShardSummary], object] | None = None,
) -> ShardReport:
    """Draw all documents of the sources (folders, JSON Lines, Parquet, single files; local or URLs) into shards in ``output``.

    A second run with the same arguments does what is missing. ``config``: a whole configuration, or the changes to the preset that
    each item's texts get. ``retry_failed``: shards with failed documents are drawn again, too. ``workers``: processes that draw
    (default: one a core; 0: none but this one). ``execute``: another engine in their place (glyph_pipeline.cluster.shards has one). ``on_begin(shards, done)`` is told how many there are and which are done,
    ``on_shard(summary)`` of each as it is done; both in this thread or in one of the engine's.

    A document that can't be drawn is a failure of its shard. Raises UsageError, InputError, FontError, ConfigError, MissingExtraError,
    OutputError if the folder has other shards, and GlyphError if processes die on a shard again and again; what is done stays done.
    """
    sources = [sources] if isinstance(sources, (str, Path)) else list(sources)
    folder = str(output) if storage.is_url(str(output)) else str(Path(output).absolute())
    # What is drawn is no text to be drawn, but for folders of texts below the one with the shards.
    leave_out = () if any(is_below(source, folder) for source in sources) else places_of(folder)
    plan = plan_shards(sources, format=format, shard_size=shard_size, config=config, encoding=encoding, leave_out=leave_out)
    spec = plan.spec(folder, None if store is None else store.place)
    if execute is None:
        execute = on_this_machine(workers)
    with held(folder):
        done = begin(plan, spec, retry_failed=retry_failed)
        if on_begin is not None:
            on_begin(len(plan.units), list(done.values()))
        sums = _Sums(done.values())

        def written(summary: ShardSummary) -> None:
            if sums.add(summary) and on_shard is not None:
                on_shard(summary)

        missing = [WriteShard(spec, number, unit) for number, unit in enumerate(plan.units) if number not in done]
        work_off(missing, execute, written)
        finish(plan, spec, sums.all)
    return ShardReport(folder, format, plan.identity, len(plan.units), sums.all, sums.now, sums.failures)


class _Sums:
    """The sums over the shards that are done, each counted once: an engine may do one twice, with the same result."""

    def __init__(self, before: Iterable[ShardSummary]) -> None:
        self.all = self.now = Counts()
        self._failures: dict[int, tuple[Failure, ...]] = {}
        for summary in before:
            self._count(summary)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The first failed documents, in the order of the input."""
        named = [failure for _, failures in sorted(self._failures.items()) for failure in failures]
        return tuple(named[:NAMED])

    def add(self, summary: ShardSummary) -> bool:
        """Count a shard that was just written; False if it was counted before."""
        if summary.number in self._failures:
            return False
        self._count(summary)
        self.now += summary.counts
        return True

    def _count(self, summary: ShardSummary) -> None:
        self._failures[summary.number] = summary.failures
        self.all += summary.counts
