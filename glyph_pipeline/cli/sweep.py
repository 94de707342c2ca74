"""glyph-compress sweep: documents drawn with every configuration of a grid, and the ratio of each. Asks no model."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from glyph_pipeline.background import cores
from glyph_pipeline.cli.options import document_options, load_documents
from glyph_pipeline.cli.output import print_json, table
from glyph_pipeline.errors import EXIT_ITEMS_FAILED, EXIT_OK, ConfigError, MissingExtraError
from glyph_pipeline.files import write_whole
from glyph_pipeline.tokens.vision import FAMILIES

if TYPE_CHECKING:
    from glyph_pipeline.experiments.grid import Grid
    from glyph_pipeline.experiments.legibility import Sample
    from glyph_pipeline.experiments.sweep import SweepCase, SweepRow

_RECORDS, _READINGS, _TABLE, _REPORT = "sweep.jsonl", "legibility.jsonl", "sweep.csv", "report.html"


@click.command(short_help="Draw with many configurations; the ratio of each.")
@document_options()
@click.option(
    "--grid",
    required=True,
    metavar="NAME|FILE",
    help="Values to try for each key: a TOML file, or a grid that ships: density, legibility, quick, sizes.",
)
@click.option("-o", "--output", metavar="DIR", default="sweep", show_default=True, help=f"Folder for {_RECORDS}, {_TABLE} and {_REPORT}.")
@click.option(
    "--family",
    "families",
    multiple=True,
    type=click.Choice(list(FAMILIES)),
    default=("glm4v",),
    show_default=True,
    help="Models whose vision tokens are counted; may be repeated.",
)
@click.option(
    "--legibility",
    type=click.IntRange(min=0),
    default=0,
    metavar="PAGES",
    help="Also read of so many pages of each drawing lines back by OCR, and a page of random strings; the share of wrong characters (extras ocr, experiments).",
)
@click.option(
    "--lines",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    metavar="N",
    help="Lines of each page that --legibility reads, evenly spread; 0: all.",
)
@click.option("--workers", type=click.IntRange(min=0), metavar="N", help="Processes that draw [default: one a core; 0: none but this].")
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def sweep(
    docs: tuple[str, ...],
    encoding: str | None,
    grid: str,
    output: str,
    families: tuple[str, ...],
    workers: int | None,
    legibility: int,
    lines: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Draw DOC... with every configuration of a grid. What was drawn before, with the same text, fonts and version, is not drawn again."""
    from glyph_pipeline.batch.recordlines import records_of
    from glyph_pipeline.batch.store import ResultStore
    from glyph_pipeline.document import as_documents
    from glyph_pipeline.experiments.grid import Grid
    from glyph_pipeline.experiments.legibility import Sample
    from glyph_pipeline.experiments.sweep import SweepRow, cases
    from glyph_pipeline.experiments.sweep import sweep as draw_all

    axes = Grid.load(grid)
    combinations = list(axes.combinations())
    sample = Sample(legibility, lines) if legibility else None
    documents = as_documents(load_documents(docs, encoding))
    wanted = list({case.key: case for case in cases(documents, combinations)}.values())
    console = Console(stderr=True, highlight=False, quiet=quiet)
    records = Path(output) / _RECORDS
    with ResultStore(records) as store:
        for notice in store.notices:
            console.print(escape(notice), soft_wrap=True)
        outcomes = records_of(records)
        missing = [case for case in wanted if case.key not in outcomes]
        if len(missing) < len(wanted):
            console.print(f"{len(wanted) - len(missing):,} of {len(wanted):,} are drawn already.")

        async def draw_missing(todo: Sequence[SweepCase]) -> None:
            done = 0
            with console.status("Drawing ...") as status:
                async with aclosing(draw_all(todo, cores() if workers is None else workers)) as rows:
                    async for row in rows:
                        store.add(row.record())
                        outcomes[row.case.key] = dict(row.outcome)
                        done += 1
                        status.update(f"Drawing, {done:,} of {len(todo):,} ...")

        if missing:
            asyncio.run(draw_missing(missing))
    every = [SweepRow(case, outcomes[case.key]) for case in wanted]
    if sample is not None:
        drawn = [row.case for row in every if "error" not in row.outcome and row.readable_by(FAMILIES[families[0]])]
        legible = _legibility(Path(output), drawn, sample, families[0], console)
        every = [replace(row, legibility=legible.get(row.case.key, {})) for row in every]
    rows = [row.flat(families) for row in every]
    as_csv = _csv(rows)
    write_whole(Path(output) / _TABLE, as_csv.encode("utf-8"))
    if as_json:
        print_json({"grid": grid, "families": list(families), "rows": rows})
    else:
        click.echo(table(_for_people(rows)))
    failed = [row for row in rows if "error" in row]
    if len(failed) < len(rows):
        _write_report(Path(output) / _REPORT, every, axes, families, sample, console)
    if failed and not quiet:
        click.echo(f"{len(failed):,} of {len(rows):,} combinations can't be drawn; the column error says why.", err=True)
    if len(failed) == len(rows):
        raise ConfigError(f"No combination of the grid {grid!r} can be drawn: {failed[0]['error']}")
    return EXIT_ITEMS_FAILED if failed else EXIT_OK


def _legibility(folder: Path, drawn: Sequence[SweepCase], sample: Sample, family: str, console: Console) -> dict[str, dict[str, float]]:
    """The error rates of each drawing, by its key; what was read before is not read again."""
    from glyph_pipeline.batch.recordlines import records_of
    from glyph_pipeline.batch.store import ResultStore
    from glyph_pipeline.experiments.readings import error_rates, missing, readings
    from glyph_pipeline.reading.ocr import OCRReader

    reader = OCRReader()
    wanted = {case.key: readings(case, family, sample) for case in drawn}
    with ResultStore(folder / _READINGS) as store, console.status("Reading back ...") as status:
        todo = missing(list(wanted.values()), store.done)
        for number, reading in enumerate(todo, 1):
            status.update(f"Reading back, {number:,} of {len(todo):,} ...")
            store.add(
                {"id": reading.id, "status": "ok", "reader": reader.name, "measure": reading.measure, **reading.read(reader.transcribe)}
            )
    read = records_of(folder / _READINGS)
    return {key: error_rates(of_case, read) for key, of_case in wanted.items()}


def _write_report(
    path: Path, rows: Sequence[SweepRow], grid: Grid, families: Sequence[str], sample: Sample | None, console: Console
) -> None:
    """The report, or a line that says what it needs: the numbers are there without it."""
    from glyph_pipeline.experiments.sweep_report import sweep_report

    try:
        with console.status("Writing the report ..."):
            sweep_report(rows, grid, families, sample).write(path)
    except MissingExtraError as e:
        console.print(escape(str(e)), soft_wrap=True)
    else:
        console.print(escape(f"Report: {path}"), soft_wrap=True)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _for_people(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows; a document's name only where there are several."""
    several = len({row["document"] for row in rows}) > 1
    return [{name: value for name, value in row.items() if several or name != "document"} for row in rows]
