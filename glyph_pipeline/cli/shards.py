"""glyph-compress render --shards: its options and its report. Draws nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from glyph_pipeline.cli.cluster import check_engine, engine_options
from glyph_pipeline.cli.output import aligned, print_json
from glyph_pipeline.errors import EXIT_ITEMS_FAILED, EXIT_OK, UsageError
from glyph_pipeline.pagestore import PageStore
from glyph_pipeline.rendering.config import RenderConfig

if TYPE_CHECKING:
    from glyph_pipeline.shards import ShardReport

_F = TypeVar("_F", bound=Callable[..., Any])

SHARD_OPTIONS = ("shard_size", "retry_failed", "workers", "engine", "address")


def shard_options(command: _F) -> _F:
    """--shards and what belongs to it: the arguments ``shards`` and SHARD_OPTIONS, for :func:`draw_shards_and_report`."""
    for option in (
        engine_options,
        click.option(
            "--workers", type=click.IntRange(min=0), metavar="N", help="With --shards: processes that draw [default: one a core]."
        ),
        click.option("--retry-failed", is_flag=True, help="With --shards: draw shards with failed documents once more."),
        click.option(
            "--shard-size",
            type=click.IntRange(min=1),
            metavar="N",
            help="Documents in a shard [default: as many as make about 256 MB].",
        ),
        click.option(
            "--shards",
            type=click.Choice(["webdataset", "parquet"]),
            help="Draw all documents of folders, JSON Lines and Parquet files, or URLs, into shards for training.",
        ),
    ):
        command = option(command)
    return command


def without_shards(*, shard_size: int | None, retry_failed: bool, workers: int | None, engine: str, address: str | None) -> None:
    """Raise UsageError for options that mean nothing without --shards."""
    check_engine(engine, {"--address": address}, {})
    named = {
        "--engine ray": engine == "ray",
        "--shard-size": shard_size is not None,
        "--retry-failed": retry_failed,
        "--workers": workers is not None,
    }
    for option, given in named.items():
        if given:
            raise UsageError(f"{option} is for drawing into shards.", hint="Name their format: --shards webdataset, or --shards parquet.")


def draw_shards_and_report(
    sources: Sequence[str],
    format: str,
    *,
    output: str,
    drawing: RenderConfig | Mapping[str, Any],
    encoding: str | None,
    store: PageStore | None,
    as_json: bool,
    quiet: bool,
    shard_size: int | None,
    retry_failed: bool,
    workers: int | None,
    engine: str,
    address: str | None,
) -> int:
    """Draw into shards and report; the exit code."""
    check_engine(engine, {"--address": address}, {})
    from glyph_pipeline.cli.shardprogress import ShardProgress

    draw: Callable[..., ShardReport]
    options: dict[str, Any] = {"format": format, "shard_size": shard_size, "config": drawing, "encoding": encoding, "store": store}
    options["retry_failed"] = retry_failed
    if engine == "ray":
        from glyph_pipeline.cluster.shards import draw_shards

        draw, options = draw_shards, {**options, "address": address}
    else:
        from glyph_pipeline.shards import draw_shards as draw
    with ShardProgress(quiet=quiet) as progress:
        report = draw(sources, output, workers=workers, on_begin=progress.begin, on_shard=progress.add, **options)
    if as_json:
        print_json(report.to_dict() | {"seconds": round(progress.seconds, 3)})
    if not quiet:
        click.echo(aligned(_rows(report, progress.seconds)), err=True)
    return EXIT_ITEMS_FAILED if report.counts.failed else EXIT_OK


def _rows(report: ShardReport, seconds: float) -> list[tuple[str, str]]:
    counts, drawn = report.counts, report.drawn
    failed = f", {counts.failed:,} failed (the .json beside each shard says why)" if counts.failed else ""
    return [
        ("documents", f"{counts.documents:,}{failed}"),
        ("text tokens", f"{counts.text_tokens:,}  cl100k_base (tiktoken)"),
        ("vision tokens", f"{counts.vision_tokens:,}  GLM-4.1V, {counts.pages:,} pages"),
        ("ratio", f"{counts.ratio:.2f}  text tokens for each vision token"),
        ("shards", f"{report.shards:,} in {report.folder}, {counts.bytes / 1e6:,.1f} MB"),
        ("time", f"{seconds:.2f} s, {drawn.pages / max(seconds, 1e-9):,.1f} pages/s"),
    ]
