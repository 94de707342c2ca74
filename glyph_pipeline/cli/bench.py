"""glyph-compress bench: how much faster a server reads pages than text, and vLLM's own benchmark beside it. Draws nothing itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from glyph_pipeline.cli.options import DRAWING_OPTIONS, chosen_drawing, document_options, drawing_options, load_documents
from glyph_pipeline.cli.output import print_json, table
from glyph_pipeline.cli.reading import server_options
from glyph_pipeline.errors import (
    EXIT_OK,
    ConfigError,
    ContextLengthError,
    GlyphError,
    MissingExtraError,
    ServerUnreachableError,
    UsageError,
)
from glyph_pipeline.reading.vllm import DEFAULT_READ_TIMEOUT_S

if TYPE_CHECKING:
    from glyph_pipeline.batch.store import ResultStore
    from glyph_pipeline.experiments.bench.measure import Bench, Cell
    from glyph_pipeline.serving import GlyphServer

_RECORDS, _REPORT, _VLLM = "bench.jsonl", "report.html", "vllm-bench"
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")
# A thousand, not 1,024: 128K then fits a context of 131,072 with its question and answer.
_UNITS = {"": 1, "k": 1000, "m": 1_000_000}
# A first line that no other request has must fit, and something to read after it.
_SHORTEST = 100


@click.command(short_help="Measure a server: pages against text.")
@document_options(required=False)
@click.option(
    "--lengths",
    default="1K,4K,16K",
    show_default=True,
    metavar="N,N",
    help="Text tokens (cl100k_base) of a document; K is a thousand. Without DOC the text is generated.",
)
@click.option("--concurrency", "concurrencies", default="1,2,4", show_default=True, metavar="N,N", help="Requests at a time.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Blocks of requests of each side in each cell.")
@click.option("--warmups", type=click.IntRange(min=0), default=1, show_default=True, help="Blocks before those that count.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=16, show_default=True, help="Tokens that each request generates.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which texts; the same seed gives the same.")
@click.option("-o", "--output", metavar="DIR", default="bench", show_default=True, help=f"Folder for {_RECORDS} and {_REPORT}.")
@click.option("--vllm-bench/--no-vllm-bench", default=True, show_default=True, help="Run `vllm bench serve` too, if vLLM is here.")
@click.option("--tokenizer", metavar="DIR", help="Tokenizer of the served model for `vllm bench serve` [default: the model folder].")
@drawing_options
@server_options
@click.option(
    "--read-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_READ_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Silence after which a request is given up.",
)
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress and no notices on standard error.")
def bench(
    docs: tuple[str, ...],
    encoding: str | None,
    lengths: str,
    concurrencies: str,
    repeats: int,
    warmups: int,
    max_tokens: int,
    seed: int,
    output: str,
    vllm_bench: bool,
    tokenizer: str | None,
    as_json: bool,
    quiet: bool,
    read_timeout: float,
    **options: Any,
) -> int:
    """Measure a server with the same documents as text and as pages: time to the first token, whole time, throughput.

    Cells that were measured before, with the same texts, drawing, model and flags, are not measured again. A server of ours is asked
    (--model, --profile, or one that `glyph-compress serve` runs) or the one at --base-url.
    """
    drawing = {name: options.pop(name) for name in DRAWING_OPTIONS}
    wanted = [
        (length, number)
        for number, length in product(
            parse_numbers("--concurrency", concurrencies, 1, units=False), parse_numbers("--lengths", lengths, _SHORTEST, units=True)
        )
    ]
    if options["reader"] == "ocr":
        raise UsageError("--reader ocr: bench measures a model server, and OCR has none.", hint="Leave it out.")
    if len(options["base_urls"]) > 1:
        raise UsageError("--base-url was given twice: bench measures one server.", hint="Run it once for each.")
    documents = load_documents(docs, encoding)
    from glyph_pipeline.batch.store import ResultStore
    from glyph_pipeline.experiments.bench.measure import Bench, BenchOptions, Cell
    from glyph_pipeline.experiments.bench.target import Target
    from glyph_pipeline.experiments.bench.texts import TextSource
    from glyph_pipeline.experiments.bench.vllm_bench import named_tokenizer
    from glyph_pipeline.rendering.config import RenderConfig
    from glyph_pipeline.rendering.fonts import find_font

    source = TextSource.of(documents)
    chosen = chosen_drawing(**drawing)
    config = chosen if isinstance(chosen, RenderConfig) else RenderConfig.for_texts([source.sample()], chosen)
    find_font(config.font, config.system_fonts)  # before a server is started for pages that can't be drawn
    cells = [Cell(length, number) for length, number in wanted]
    console = Console(stderr=True, highlight=False, quiet=quiet)

    def notice(message: str) -> None:
        console.print(escape(message), soft_wrap=True)

    named = named_tokenizer(tokenizer) if tokenizer is not None else None
    with (
        ResultStore(Path(output) / _RECORDS) as store,
        console.status("Looking for a server ...") as status,
        _server(options, notice, status.update) as server,
    ):
        target = Target.of(server, options["api_key"])
        notice(target.told())
        run = Bench(target, source, config, BenchOptions(repeats, warmups, max_tokens, seed, read_timeout=read_timeout))
        records = _measured(run, cells, store, notice, status.update)
        served = _vllm_bench(run, cells, Path(output), named, notice, status.update) if vllm_bench else []
    return _shown(records, served, Path(output), notice, as_json)


def parse_numbers(option: str, given: str, least: int, *, units: bool) -> list[int]:
    """The numbers of a list such as ``1K,4K``, each once. Raises UsageError."""
    found: dict[int, None] = {}
    for word in given.split(","):
        match = _NUMBER.fullmatch(word.strip())
        value = float(match[1]) * _UNITS[match[2].lower()] if match else 0.0
        if match is None or value < least or value != int(value) or (match[2] and not units):
            example = "1K,4K,16K" if units else "1,2,4"
            raise UsageError(
                f"{option} {given}: {word.strip()!r} can't be used.", hint=f"Give whole numbers from {least:,} on, such as {example}."
            )
        found[int(value)] = None
    return list(found)


@contextmanager
def _server(options: Mapping[str, Any], notice: Callable[[str], None], status: Callable[[str], None]) -> Iterator[GlyphServer]:
    """The server that the command line names, or that runs here; one that is started for this is stopped at the end.

    Raises ServerUnreachableError where there is none: a model of this size is not started on a CPU unless it was asked for.
    """
    from glyph_pipeline.cli.choice import Asking, chosen_reader
    from glyph_pipeline.reading.ocr import NOTICE
    from glyph_pipeline.serving import GlyphServer

    # Of how a question is asked, nothing is of use here.
    how = {"max_tokens": 1, "concurrency": 1, "overlap": 0, "max_request_mb": 1, "cite": None, "retry_for": 0, "read_timeout": 1}
    asking = Asking.of({**how, **options})

    def told(message: str) -> None:
        if not message.startswith(NOTICE):
            notice(message)

    def waiting(seconds: float, log_line: str) -> None:
        status(f"Starting vLLM, {seconds:.0f} s  [dim]{escape(log_line[:100])}[/dim]")

    with chosen_reader(asking.choice, notice=told, on_wait=waiting, start_timeout=asking.start_timeout) as chosen:
        found = chosen.arguments
        if "reader" in found:
            raise ServerUnreachableError(
                "There is no model server to measure.",
                hint="Name one with --base-url, run glyph-compress serve, or give --model (and --profile cpu for a small one without a GPU).",
            )
        if "server" in found:
            yield found["server"]
            return
        url = found["base_url"]
        yield GlyphServer.adopt(url if isinstance(url, str) else url[0], found["model"], api_key=found["api_key"])


def _measured(
    run: Bench, cells: Sequence[Cell], store: ResultStore, notice: Callable[[str], None], status: Callable[[str], None]
) -> list[dict[str, Any]]:
    """The records of all cells, in their order; what is in the store already is taken from there."""
    from glyph_pipeline.batch.recordlines import records_of

    for message in store.notices:
        notice(message)
    keys = {run.key(cell): cell for cell in cells}
    missing = [cell for key, cell in keys.items() if key not in store.done]
    if len(missing) < len(keys):
        notice(f"{len(keys) - len(missing):,} of {len(keys):,} cells are measured already.")
    done = 0

    def on_block(cell: Cell, blocks: int, of: int) -> None:
        status(f"Measuring {cell}: block {blocks} of {of}; cell {done + 1:,} of {len(missing):,}")

    async def measure() -> None:
        nonlocal done
        async with aclosing(run.measure(missing, on_block)) as records:
            async for record in records:
                store.add(record)
                done += 1

    if missing:
        try:
            asyncio.run(measure())
        except GlyphError:
            notice(f"{len(keys) - len(missing) + done:,} of {len(keys):,} cells are measured; they are in {store.path}.")
            raise
    found = records_of(store.path)
    return [dict(found[key]) for key in keys]


def _vllm_bench(
    run: Bench, cells: Sequence[Cell], output: Path, tokenizer: Path | None, notice: Callable[[str], None], status: Callable[[str], None]
) -> list[dict[str, Any]]:
    """What ``vllm bench serve`` says for each cell; nothing, and a notice, where it can't be run."""
    from glyph_pipeline.experiments.bench.vllm_bench import VLLMBench, has_tokenizer
    from glyph_pipeline.serving import find_vllm

    folder = tokenizer or run.target.folder
    if folder is None or not has_tokenizer(folder):
        notice("vllm bench serve is left out: no tokenizer folder is known. Name one with --tokenizer DIR.")
        return []
    try:
        installation = find_vllm()
    except (MissingExtraError, ConfigError) as e:
        notice(f"vllm bench serve is left out: {e}")
        return []
    theirs = VLLMBench(installation, run.target, folder, (output / _VLLM).absolute(), run.options)
    results = []
    for number, cell in enumerate(cells, 1):
        status(f"vllm bench serve, {cell}; {number:,} of {len(cells):,}")
        results.append(theirs.run(cell, run.key(cell)))
        if "error" in results[-1]:
            notice(f"vllm bench serve, {cell}: {results[-1]['error']}")
    return results


def _shown(
    records: Sequence[Mapping[str, Any]],
    served: Sequence[Mapping[str, Any]],
    output: Path,
    notice: Callable[[str], None],
    as_json: bool,
) -> int:
    """Tables on standard output, and the report. Raises ContextLengthError if nothing fitted."""
    from glyph_pipeline.experiments.bench import summary, vllm_bench
    from glyph_pipeline.experiments.bench.html import write_report

    rows = [summary.row(record) for record in records]
    if as_json:
        print_json({"server": records[0]["server"], "machine": records[0]["machine"], "rows": rows, "vllm_bench": list(served)})
    else:
        click.echo(table(summary.table(rows)))
        if stages := summary.stage_table(rows):
            click.echo(f"\nWhere the time of pages goes:\n{table(stages)}")
        if served:
            click.echo(
                f"\nvllm bench serve (random text of as many tokens of the served tokenizer):\n{table([vllm_bench.row(one) for one in served])}"
            )
    for kind in ("prefix", "multimodal"):
        if hits := sum((row["cache_hits"] or {}).get(kind, 0) for row in rows):
            notice(f"The server's {kind} cache helped {hits:,.0f} times: these times are too short.")
    late, requests = (sum(counts) for counts in zip(*map(summary.bunched, records), strict=True))
    if late:
        notice(
            f"Of {late:,} of {requests:,} requests all tokens came at once, so that TTFT holds decoding, too: the server has too few cores, "
            "or something between gathers what it says. --max-tokens 1 leaves decoding out."
        )
    try:
        here = ", ".join(f"{name} {value}" for name, value in records[0]["machine"].items())
        lead = f"{records[0]['server']}. Measured from: {here}. Text: {records[0]['source']}."
        write_report(output / _REPORT, lead, rows, served)
    except MissingExtraError as e:
        notice(f"{_REPORT} is left out. {e}")
    if all(row["text"] is None and row["pages"] is None for row in rows):
        raise ContextLengthError(f"Nothing fits the model: {rows[0]['text_unfit']}.", hint="Give shorter --lengths.")
    return EXIT_OK
