"""glyph-compress eval needle: facts planted in long texts, asked for in every way of drawing. Plants and grades nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from glyph_pipeline.cli.evaluating import exit_code, run_evaluation, running_options
from glyph_pipeline.cli.options import chosen_drawing
from glyph_pipeline.cli.output import print_json, table
from glyph_pipeline.cli.reading import reading_options
from glyph_pipeline.cli.sending import sending_options
from glyph_pipeline.errors import UsageError

if TYPE_CHECKING:
    from glyph_pipeline.experiments.evaluation.running import Way


def _numbers(kind: type[int] | type[float]) -> Callable[[click.Context, click.Parameter, str], tuple[float, ...]]:
    """Numbers between commas; click names the option and the value if they are none."""

    def parsed(_: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError:
            raise click.BadParameter(
                f"{value!r} is no list of {'whole ' if kind is int else ''}numbers such as {parameter.default}."
            ) from None

    return parsed


@click.command(short_help="Facts planted at depths x lengths x ways of drawing.")
@click.option(
    "--depths",
    callback=_numbers(float),
    default="0,25,50,75,100",
    show_default=True,
    metavar="N,N",
    help="Where the fact stands, in per cent.",
)
@click.option(
    "--lengths",
    callback=_numbers(int),
    default="2000,8000",
    show_default=True,
    metavar="N,N",
    help="Lengths of the texts in tokens (cl100k_base).",
)
@click.option(
    "--kinds", default="word,number,uuid", show_default=True, metavar="K,K", help="What is planted: word (can be guessed), number, uuid."
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How often, each time another fact in another text.",
)
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="Of the lot by which texts and facts are drawn.")
@click.option("--haystack", metavar="FILE", help="A text of your own to plant in [default: sentences drawn by lot].")
@click.option("--encoding", metavar="NAME", help="Encoding of --haystack [default: byte order mark, else UTF-8].")
@click.option(
    "--config",
    "--preset",
    "configs",
    multiple=True,
    metavar="NAME|FILE",
    help="A way of drawing, may be repeated: a preset, or a Glyph JSON file [default: en].",
)
@click.option("--grid", metavar="NAME|FILE", help="Ways of drawing: every combination of a grid (see sweep).")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A key of the configuration in every --config; may be repeated."
)
@click.option(
    "--no-system-fonts", is_flag=True, help="Draw with the configured and the bundled fonts only: the same bytes on every machine."
)
@reading_options
@sending_options(mode="pages", exact="off")
@running_options("eval-needle")
def needle(
    depths: tuple[float, ...],
    lengths: tuple[int, ...],
    kinds: str,
    repeat: int,
    seed: int,
    haystack: str | None,
    encoding: str | None,
    configs: tuple[str, ...],
    grid: str | None,
    settings: tuple[str, ...],
    no_system_fonts: bool,
    output: str,
    retry_failed: bool,
    workers: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Plant facts in long texts, draw them in every way, ask for the facts, and tell how many answers hold them.

    The same texts are drawn in every way. A table of depth and length for each way goes to standard output; needle.jsonl in DIR has
    every answer, report.html the figures.
    """
    from glyph_pipeline.document import Document
    from glyph_pipeline.experiments.evaluation.reports import needle_report
    from glyph_pipeline.experiments.evaluation.tables import by_kind, by_place
    from glyph_pipeline.experiments.needles import NeedlePlan, Needles

    plan = NeedlePlan(depths, lengths, listed(kinds), repeat, seed)
    ways = _ways(configs, grid, settings, no_system_fonts)
    document = None if haystack is None else Document.read(haystack, encoding)
    rows = run_evaluation(
        Needles(plan, document),
        ways,
        options,
        output=output,
        retry_failed=retry_failed,
        workers=workers,
        quiet=quiet,
        report=needle_report,
    )
    if as_json:
        print_json({"benchmark": "needle", "rows": rows, "places": by_place(rows), "kinds": by_kind(rows)})
    else:
        click.echo(f"{table(by_place(rows))}\n\n{table(by_kind(rows))}")
    return exit_code(rows)


def listed(names: str) -> tuple[str, ...]:
    """Names between commas; white space beside them doesn't count."""
    return tuple(name.strip() for name in names.split(","))


def _ways(configs: tuple[str, ...], grid: str | None, settings: tuple[str, ...], no_system_fonts: bool) -> list[Way]:
    """The ways of drawing that were named. Raises ConfigError, UsageError."""
    from glyph_pipeline.experiments.evaluation.running import Way
    from glyph_pipeline.experiments.grid import Grid

    if grid is not None and (configs or settings):
        raise UsageError("--grid has its own configurations; --config and --set contradict it.", hint="Put their values into the grid.")
    if grid is None:
        ways = []
        for name in dict.fromkeys(configs or ("en",)):
            drawing = chosen_drawing(
                config=name, font=None, no_system_fonts=no_system_fonts, dpi=None, font_size=None, page_size=None, settings=settings
            )
            ways.append(Way(name, drawing, {"config": name, **dict(setting.split("=", 1) for setting in settings)}))
        return ways
    bundled = {"system_fonts": False} if no_system_fonts else {}
    found: dict[str, Way] = {}
    for combination in Grid.load(grid).combinations():
        name = ", ".join(f"{key} {value}" for key, value in combination.changes.items())
        drawing = {} if combination.config is None else combination.config.replace(**bundled)
        found[name] = Way(name, drawing, combination.changes, combination.error)
    return list(found.values())
