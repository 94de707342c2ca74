"""glyph-compress eval longbench|mrcr|ruler: a benchmark's published files, asked on pages. Reads and grades nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from glyph_pipeline.cli.eval_needle import listed
from glyph_pipeline.cli.evaluating import exit_code, reading_progress, run_evaluation, running_options
from glyph_pipeline.cli.options import DRAWING_OPTIONS, chosen_drawing, drawing_options
from glyph_pipeline.cli.output import print_json, table
from glyph_pipeline.cli.reading import reading_options
from glyph_pipeline.cli.sending import sending_options

if TYPE_CHECKING:
    from glyph_pipeline.experiments.evaluation.sample import Benchmark

_F = TypeVar("_F", bound=Callable[..., Any])


def _benchmark_options(name: str) -> Callable[[_F], _F]:
    def decorated(command: _F) -> _F:
        for option in reversed(
            (
                click.option("--data", required=True, metavar="DIR", help="Folder with the benchmark's files, as they were published."),
                click.option("--tasks", metavar="T,T", help="Only these tasks [default: all that are there]."),
                click.option(
                    "--limit", type=click.IntRange(min=1), metavar="N", help="At most so many samples of each task, drawn by lot."
                ),
                click.option(
                    "--longest", type=click.IntRange(min=1), metavar="TOKENS", help="Leave out longer texts (tokens of cl100k_base)."
                ),
                click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="Of the lot of --limit."),
                drawing_options,
                reading_options,
                sending_options(mode="pages", exact="off"),
                running_options(f"eval-{name}"),
            )
        ):
            command = option(command)
        return command

    return decorated


@click.command(short_help="LongBench's files: 21 data sets, each with its own metric.")
@_benchmark_options("longbench")
def longbench(data: str, **options: Any) -> int:
    """Ask LongBench's questions, their contexts drawn on pages.

    DIR holds NAME.jsonl or NAME_e.jsonl (LongBench-E), itself or in a folder "data". If it holds dataset2vlmprompt.json or
    dataset2prompt.json, these are the instructions; else ours.
    """
    from glyph_pipeline.experiments.evaluation.longbench import LongBench

    return _run(LongBench(data), **options)


@click.command(short_help="MRCR's files: which of several alike was said when.")
@_benchmark_options("mrcr")
def mrcr(data: str, **options: Any) -> int:
    """Ask MRCR's questions, their conversations drawn on pages. DIR holds the Parquet files of openai/mrcr."""
    from glyph_pipeline.experiments.evaluation.mrcr import MRCR

    return _run(MRCR(data), **options)


@click.command(short_help="RULER's files: 13 tasks of finding and tracking.")
@_benchmark_options("ruler")
def ruler(data: str, **options: Any) -> int:
    """Ask RULER's questions, their contexts drawn on pages. DIR holds a folder for each task, with validation.jsonl."""
    from glyph_pipeline.experiments.evaluation.ruler import RULER, UUID_TASKS

    return _run(RULER(data), left_out=UUID_TASKS, **options)


def _run(
    benchmark: Benchmark,
    *,
    tasks: str | None,
    limit: int | None,
    longest: int | None,
    seed: int,
    output: str,
    retry_failed: bool,
    workers: int | None,
    as_json: bool,
    quiet: bool,
    left_out: tuple[str, ...] = (),
    **options: Any,
) -> int:
    from glyph_pipeline.experiments.evaluation.reports import benchmark_report
    from glyph_pipeline.experiments.evaluation.running import Way
    from glyph_pipeline.experiments.evaluation.sample import Selection
    from glyph_pipeline.experiments.evaluation.tables import by_task, mean_of_tasks

    config = options["config"]
    changed = {name: options.pop(name) for name in DRAWING_OPTIONS}
    way = Way(config, chosen_drawing(**changed), {})
    tell = reading_progress(lambda notice: None if quiet else click.echo(notice, err=True))
    chosen = Selection(benchmark, listed(tasks) if tasks else (), limit, longest, seed, tell)
    rows = run_evaluation(
        chosen,
        [way],
        options,
        output=output,
        retry_failed=retry_failed,
        workers=workers,
        quiet=quiet,
        report=lambda rows: benchmark_report(benchmark.name, rows, left_out),
    )
    tasks_told = by_task(rows)
    means = {"mean of the tasks": mean_of_tasks(tasks_told)[config]}
    if left_out and any(row["task"].rsplit("/", 1)[-1] in left_out for row in rows):
        means[f"without {', '.join(left_out)}"] = mean_of_tasks(tasks_told, left_out)[config]
    if as_json:
        print_json({"benchmark": benchmark.name, "rows": rows, "tasks": tasks_told, "means": means})
    else:
        shown = [{name: value for name, value in row.items() if name != "drawing"} for row in tasks_told]
        lines = [f"{label}: {'nothing was answered' if value is None else value}" for label, value in means.items()]
        click.echo("\n".join([table(shown), *lines]))
    return exit_code(rows)
