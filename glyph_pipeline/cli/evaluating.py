"""Evaluating on the command line: what is missing is asked, rows are kept, a report is written. Grades nothing itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from glyph_pipeline.errors import EXIT_ITEMS_FAILED, EXIT_OK, EXIT_TRUNCATED, MissingExtraError, ServerUnreachableError
from glyph_pipeline.sending import DEFAULT_EXACT_BUDGET, DEFAULT_RESOLUTION_BUDGET

if TYPE_CHECKING:
    from glyph_pipeline.batch.store import ResultStore
    from glyph_pipeline.cli.choice import ChosenReader, ReaderChoice
    from glyph_pipeline.cli.progress import BatchProgress
    from glyph_pipeline.experiments.evaluation.running import Planned, Way
    from glyph_pipeline.experiments.evaluation.sample import Benchmark
    from glyph_pipeline.experiments.report import Report

_F = TypeVar("_F", bound=Callable[..., Any])
REPORT = "report.html"
# Of the options of cli/reading.py: what changes an answer, not only how soon it comes. A flag of vLLM may quantize the model.
_CHANGING = ("max_tokens", "overlap", "max_request_mb", "cite", "max_model_len", "server_args")
# How an evaluation sends what it asks about, unless told otherwise: as pictures and nothing beside them.
_SENT = {
    "mode": "pages",
    "exact": "off",
    "redact": False,
    "exact_budget": DEFAULT_EXACT_BUDGET,
    "resolution": "uniform",
    "resolution_budget": DEFAULT_RESOLUTION_BUDGET,
    "repair": False,
}
# Reading the data may take minutes; so often it is told how far it is.
_NOTICE_S = 10.0


def running_options(folder: str) -> Callable[[_F], _F]:
    """The options of every evaluation about where its rows go and how it runs."""

    def decorated(command: _F) -> _F:
        for option in reversed(
            (
                click.option("-o", "--output", metavar="DIR", default=folder, show_default=True, help=f"Folder for the rows and {REPORT}."),
                click.option("--retry-failed", is_flag=True, help="Do what failed in a run before once more."),
                click.option(
                    "--workers",
                    type=click.IntRange(min=0),
                    metavar="N",
                    help="Processes that draw [default: one a core, at most --concurrency; 0: none but this].",
                ),
                click.option("--json", "as_json", is_flag=True, help="The rows as JSON on standard output."),
                click.option("--quiet", is_flag=True, help="No progress and no summary on standard error."),
            )
        ):
            command = option(command)
        return command

    return decorated


def run_evaluation(
    benchmark: Benchmark,
    ways: Sequence[Way],
    options: Mapping[str, Any],
    *,
    output: str,
    retry_failed: bool,
    workers: int | None,
    quiet: bool,
    report: Callable[[list[dict[str, Any]]], Report],
) -> list[dict[str, Any]]:
    """The rows of every sample in every way, those of earlier runs included; ``options`` are those of cli/reading.py.

    They are in ``DIR/NAME.jsonl``; the report is written beside them. Raises what reading the samples, finding the reader and asking raise.
    """
    from glyph_pipeline.batch.store import ResultStore
    from glyph_pipeline.cli.choice import Asking, chosen_reader
    from glyph_pipeline.cli.progress import BatchProgress
    from glyph_pipeline.experiments.evaluation.running import plan, survey

    asking = Asking.of(options)
    changing = {name: options[name] for name in _CHANGING}
    # Only where they are other than an evaluation's own: rows of earlier versions have none of them.
    changing |= {name: options[name] for name, usual in _SENT.items() if options[name] != usual}
    benchmark.require(benchmark.tasks())
    store = ResultStore(Path(output) / f"{benchmark.name}.jsonl", retry_failed=retry_failed)
    shown = 0
    try:
        with BatchProgress(quiet=quiet) as progress:
            # What is wrong with the data is said before a folder is made or a server is started.
            cases = survey(benchmark, ways, reading_progress(progress.notice))
            with store:
                for notice in store.notices:
                    progress.notice(notice)
                shown = len(store.notices)
                reader = expected_reader(asking.choice)
                planned = [] if reader is None else plan(cases, reader, changing)
                if planned and all(one.id in store.done for one in planned):
                    progress.begin(len(planned), 0)  # no server is started for nothing
                else:
                    with chosen_reader(
                        asking.choice, notice=progress.notice, on_wait=progress.waiting, start_timeout=asking.start_timeout
                    ) as chosen:
                        planned = plan(cases, reader_name(chosen), changing)
                        _ask_missing(benchmark, planned, store, progress, {**asking.arguments, **chosen.arguments}, workers)
                rows = _rows(store.path, [one.id for one in planned])
                _write(report, rows, Path(output) / REPORT, progress.notice)
                return rows
    finally:
        for notice in store.notices[shown:]:  # what closing it had to say
            click.echo(notice, err=True)


def reading_progress(notice: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Callable[[int], None]:
    """Tells now and then, by ``notice``, how many samples were read; ``clock`` is in seconds."""
    then = clock() + _NOTICE_S

    def tell(count: int) -> None:
        nonlocal then
        if clock() >= then:
            notice(f"Reading the data: {count:,} samples so far.")
            then = clock() + _NOTICE_S

    return tell


def _ask_missing(
    benchmark: Benchmark,
    planned: Sequence[Planned],
    store: ResultStore,
    progress: BatchProgress,
    arguments: Mapping[str, Any],
    workers: int | None,
) -> None:
    """Ask what has no row yet, one way of drawing after the other, and keep the rows. ``arguments``: GlyphPipeline's."""
    from glyph_pipeline.batch.result import BatchResult
    from glyph_pipeline.experiments.evaluation.running import impossible, items, record
    from glyph_pipeline.pipeline import GlyphPipeline

    progress.begin(len(planned), sum(one.id not in store.done for one in planned))
    for way in {one.way.name: one.way for one in planned}.values():
        of_way = [one for one in planned if one.way.name == way.name]
        missing = {one.id: one for one in of_way if one.id not in store.done}
        if way.error is not None:
            for one in missing.values():
                store.add(impossible(one))
                progress.add(BatchResult(one.id, one.sample.question, None, way.error, 0.0))
        elif missing:
            pipeline = GlyphPipeline(config=way.drawing, **arguments)
            results = pipeline.ask_many(items(benchmark, of_way, missing), workers=workers, on_retry=progress.retrying)
            # Closed before the server is stopped: vLLM does not end while a client still listens.
            with closing(results):
                for result in results:
                    store.add(record(benchmark, missing[result.id], result))
                    progress.add(result)


def expected_reader(choice: ReaderChoice) -> str | None:
    """What would read if a server were started for this; None where another reader may be found."""
    from glyph_pipeline.serving import DEFAULT_MODEL

    if choice.base_urls or not choice.asks_for_server:
        return None
    model = choice.model or DEFAULT_MODEL
    path = Path(model).expanduser()
    return str(path.absolute()) if path.is_dir() else model


def reader_name(chosen: ChosenReader) -> str:
    """What reads, as it is told apart from others: the model's name, or that of the OCR reader. Raises ServerError if no server answers."""
    from glyph_pipeline.serving import GlyphServer

    arguments = chosen.arguments
    if "reader" in arguments:
        return str(arguments["reader"].name)
    if "server" in arguments:
        return str(arguments["server"].model)
    if arguments["model"] is not None:
        return str(arguments["model"])
    urls = arguments["base_url"]
    problem: ServerUnreachableError | None = None
    for url in [urls] if isinstance(urls, str) else urls:
        try:
            return GlyphServer.adopt(url, api_key=arguments["api_key"]).model
        except ServerUnreachableError as e:
            problem = problem or e
    assert problem is not None
    raise problem


def exit_code(rows: Sequence[Mapping[str, Any]]) -> int:
    """As for a batch: 12 if any failed, 10 if any was cut off."""
    statuses = {row["status"] for row in rows}
    if "failed" in statuses:
        return EXIT_ITEMS_FAILED
    return EXIT_TRUNCATED if "truncated" in statuses else EXIT_OK


def _rows(records: Path, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of these ids, in their order; the store has checked the lines."""
    wanted = set(ids)
    found: dict[str, dict[str, Any]] = {}
    with records.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["id"] in wanted:
                found[row["id"]] = row
    return [found[id] for id in ids]


def _write(report: Callable[[list[dict[str, Any]]], Report], rows: list[dict[str, Any]], path: Path, notice: Callable[[str], None]) -> None:
    try:
        report(rows).write(path)
    except MissingExtraError as e:
        notice(f"No {REPORT}: {e}")
