"""glyph-compress search: configurations that save more, or are read better, found by trying. Measures nothing itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from glyph_pipeline.cli.options import document_options, load_documents
from glyph_pipeline.cli.output import print_json, table, to_json
from glyph_pipeline.cli.reading import NAMED, reading_options
from glyph_pipeline.document import Document
from glyph_pipeline.errors import EXIT_OK, ConfigError, MissingExtraError, OutputError, UsageError
from glyph_pipeline.files import write_whole
from glyph_pipeline.tokens.vision import FAMILIES

if TYPE_CHECKING:
    from glyph_pipeline.experiments.objective import Objective
    from glyph_pipeline.experiments.outcome import Member, Outcome
    from glyph_pipeline.experiments.search import Search
    from glyph_pipeline.experiments.space import Space

_TRIALS, _CONFIRMED, _SAID, _JOURNAL = "trials.jsonl", "confirm.jsonl", "critic.jsonl", "study.journal"
_SETTINGS, _FRONT, _PRESETS, _REPORT = "search.json", "front.json", "presets", "report.html"
_MEASURES = {"both": ("text", "random"), "text": ("text",), "random": ("random",)}


@click.command(short_help="Look for configurations that save more or are read better.")
@document_options()
@click.option("-o", "--output", metavar="DIR", default="search", show_default=True, help="Folder for all that is found.")
@click.option(
    "--space",
    "space_name",
    metavar="NAME|FILE",
    default="print",
    show_default=True,
    help="Values to choose from: print, glyph, or a TOML file.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    metavar="N",
    help="Configurations in total, earlier runs included.",
)
@click.option(
    "--time",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="No new trial after so long; what is measured again comes on top.",
)
@click.option(
    "--questions",
    metavar="FILE.jsonl",
    help='Error is the share of questions answered wrong: {"question", "answer"} a line. Without it, what OCR misreads.',
)
@click.option(
    "--needles",
    type=click.IntRange(min=1),
    metavar="N",
    help="Error is the share of N facts, planted in each document, that are not found again; others are asked to confirm it.",
)
@click.option(
    "--error",
    "measure",
    type=click.Choice(list(_MEASURES)),
    default=None,
    show_default="both",
    help="What OCR is to read: the text, random strings, or the mean of both.",
)
@click.option(
    "--lines",
    type=click.IntRange(min=0),
    default=None,
    show_default="40",
    metavar="N",
    help="Lines read of a page of each document; 0: all.",
)
@click.option(
    "--confirm",
    type=click.IntRange(min=0),
    default=None,
    show_default="3",
    metavar="PAGES",
    help="Pages of each document on which the front is measured again, with --needles times as many facts; 0: not at all.",
)
@click.option(
    "--family", type=click.Choice(list(FAMILIES)), default="glm4v", show_default=True, help="Models whose vision tokens are counted."
)
@click.option(
    "--population", type=click.IntRange(min=2), default=12, show_default=True, metavar="N", help="Configurations of a generation."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Another seed is another search.")
@click.option(
    "--critic-url",
    metavar="URL",
    help="OpenAI-compatible server with a language model that proposes; it is told configurations and numbers, never the text.",
)
@click.option("--critic-model", metavar="NAME", help="Its model [default: the one served there].")
@click.option(
    "--critic-key", envvar="GLYPH_CRITIC_API_KEY", metavar="KEY", help="Its key, if it wants one [environment: GLYPH_CRITIC_API_KEY]."
)
@click.option(
    "--critic-every", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="Trials between two proposals of it."
)
@reading_options
@click.option("--json", "as_json", is_flag=True, help="The front as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def search(docs: tuple[str, ...], encoding: str | None, as_json: bool, quiet: bool, **options: Any) -> int:
    """Look for ways to draw DOC... with a higher ratio (text tokens for each vision token) and fewer errors.

    The same command goes on where an earlier one stopped; a larger --trials adds to it.
    """
    from glyph_pipeline.batch.store import ResultStore
    from glyph_pipeline.document import as_documents
    from glyph_pipeline.experiments import search as searching
    from glyph_pipeline.experiments.critic import Critic
    from glyph_pipeline.experiments.outcome import outcome
    from glyph_pipeline.experiments.space import Space
    from glyph_pipeline.rendering.config import RenderConfig
    from glyph_pipeline.rendering.fonts import find_font

    _check(options)
    searching.require()
    documents = as_documents(load_documents(docs, encoding))
    space = Space.load(options["space_name"], [document.text for document in documents])
    default = RenderConfig.for_texts(document.text for document in documents)
    find_font(default.font, default.system_fonts)
    critic = None
    if options["critic_url"]:
        critic = Critic(options["critic_url"], options["critic_model"], api_key=options["critic_key"])
    folder = Path(options["output"])
    console = Console(stderr=True, highlight=False, quiet=quiet)

    def notice(words: str) -> None:
        console.print(escape(words), soft_wrap=True)

    with ExitStack() as stack:
        # The lock on the trials is that of the whole folder.
        stores = [stack.enter_context(ResultStore(folder / name)) for name in (_TRIALS, _CONFIRMED, _SAID)]
        for store in stores:
            for words in store.notices:
                notice(words)
        trials, confirmed, said = (searching.Records(store) for store in stores)
        plan = searching.Plan(options["trials"], options["seconds"], options["population"], options["seed"], options["critic_every"])
        objective = stack.enter_context(_objective(documents, options, notice))
        _same_search(folder, _settings(documents, space, objective, options), bool(len(trials)))
        if len(trials):
            notice(f"{min(len(trials), plan.trials):,} of {plan.trials:,} trials are there already.")
        with console.status("Searching ...") as status:

            def on_trial(record: Mapping[str, Any]) -> None:
                status.update(f"Trial {len(trials):,} of {plan.trials:,} ...")
                if record["status"] == "ok" and record in searching.trials_in_front(list(trials)):
                    notice(f"{len(trials):,} of {plan.trials:,}: {_told(record)}")

            run = searching.Search(space, default, objective, plan, trials, folder / _JOURNAL, critic, said, notice, on_trial)
            _run(run, notice)

            def on_step(number: int, count: int) -> None:
                status.update(f"Measuring again, {number} of {count} ...")

            found = outcome(list(trials), default, objective, confirmed, on_step)
        if found is None:
            raise ConfigError(f"The default can't be drawn: {next(iter(trials))['failure']}")
        result = _written(folder, found, list(trials), space, options["family"], documents, notice)
    if as_json:
        print_json(result)
    else:
        click.echo(table([_row(member) for member in found.front]))
        click.echo(found.answer())
    return EXIT_OK


def _check(options: Mapping[str, Any]) -> None:
    """Raises UsageError for options that contradict each other."""
    asked = [f"--{name}" for name in ("questions", "needles") if options[name] is not None]
    if len(asked) > 1:
        raise UsageError("--questions and --needles are two measures of error.", hint="Leave one of them out.")
    if asked:
        unused = [f"--{name}" for name, key in (("error", "measure"), ("lines", "lines")) if options[key] is not None]
        unused += ["--confirm"] if options["confirm"] is not None and options["questions"] is not None else []
        if unused:
            raise UsageError(f"{', '.join(unused)}: with {asked[0]} nothing but the answers counts.", hint="Leave one of them out.")
    else:
        named = [option for option, name in NAMED.items() if options[name] not in (None, (), False, "auto", "ocr")]
        named += ["--base-url"] if options["base_urls"] else []
        if named:
            raise UsageError(
                f"{', '.join(named)}: OCR reads, and nobody is asked.", hint="Add --questions FILE.jsonl or --needles N, or leave it out."
            )
    if not options["critic_url"] and options["critic_model"]:
        raise UsageError("--critic-model: there is no critic.", hint="Add --critic-url URL, or leave it out.")


@contextmanager
def _objective(documents: Sequence[Document], options: Mapping[str, Any], notice: Any) -> Iterator[Objective]:
    """What is measured; a server that is started for it is stopped at the end."""
    from glyph_pipeline.experiments.legibility import Sample
    from glyph_pipeline.experiments.objective import Accuracy, Legibility

    family = FAMILIES[options["family"]]
    pages = 3 if options["confirm"] is None else options["confirm"]
    if options["questions"] is None and options["needles"] is None:
        from glyph_pipeline.reading.ocr import OCRReader

        lines = 40 if options["lines"] is None else options["lines"]
        measures = _MEASURES[options["measure"] or "both"]
        second = Sample(pages=pages, lines=0) if pages else None
        yield Legibility(documents, family, OCRReader().transcribe, measures, Sample(pages=1, lines=lines), second)
        return
    from glyph_pipeline.cli.choice import Asking, chosen_reader
    from glyph_pipeline.experiments.questions import Task, planted, read_questions

    again: list[Task] = []
    if options["questions"] is not None:
        tasks = [Task(tuple(documents), question) for question in read_questions(options["questions"])]
    else:
        tasks = planted(documents, options["needles"], 2 * options["seed"] + 1)
        again = planted(documents, pages * options["needles"], 2 * options["seed"] + 2) if pages else []
    asking = Asking.of(options)
    with chosen_reader(asking.choice, notice=notice, on_wait=lambda seconds, line: None, start_timeout=asking.start_timeout) as chosen:
        arguments = {**asking.arguments, **chosen.arguments}
        yield Accuracy(documents, family, tasks, arguments, _who(chosen.arguments), again)


def _who(arguments: Mapping[str, Any]) -> str:
    """The name of what reads. Raises ServerError if a server that was named doesn't answer."""
    from glyph_pipeline.serving import GlyphServer

    if "reader" in arguments:
        return str(arguments["reader"].name)
    if "server" in arguments:
        return str(arguments["server"].model)
    urls = arguments["base_url"]
    first = urls if isinstance(urls, str) else urls[0]
    return GlyphServer.adopt(first, arguments.get("model"), api_key=arguments.get("api_key")).model


def _run(run: Search, notice: Any) -> None:
    try:
        run.run()
    except KeyboardInterrupt:
        notice(f"{len(run.records):,} trials are kept; the same command goes on.")
        raise


def _settings(documents: Sequence[Document], space: Space, objective: Objective, options: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the search this one: trials of another would not be comparable with its own."""
    from importlib.metadata import version

    from glyph_pipeline.rendering.fonts import find_font

    base = space.base
    fonts = [
        [str(font), bool(system), find_font(str(font), bool(system)).use.sha256]
        for font in space.axes.get("font-path", (base.font,))
        for system in space.axes.get("system-fonts", (base.system_fonts,))
    ]
    return {
        "document": [hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest() for document in documents],
        "space": space.to_dict(),
        "objective": objective.to_dict(),
        "family": options["family"],
        "population": options["population"],
        "seed": options["seed"],
        "font files": fonts,
        "version": version("glyph-pipeline"),
    }


def _same_search(folder: Path, settings: dict[str, Any], begun: bool) -> None:
    """Write down what is searched, or check that the folder's search is this one. Raises UsageError naming what differs."""
    path = folder / _SETTINGS
    hint = "Name another folder with --output."
    try:
        before = json.loads(path.read_text("utf-8"))
        differs = [name for name, value in json.loads(json.dumps(settings)).items() if before.get(name) != value]
    except FileNotFoundError:
        if begun:
            raise UsageError(f"{str(folder / _TRIALS)!r} is there without {_SETTINGS}, which says what was searched.", hint=hint) from None
        differs = []
        write_whole(path, (to_json(settings, indent=2) + "\n").encode("utf-8"))
    except (OSError, ValueError, AttributeError) as e:
        raise OutputError(f"{str(path)!r} can't be read: {e}.", hint=hint) from e
    if differs:
        raise UsageError(f"The search in {str(folder)!r} was made with another {', another '.join(differs)}.", hint=hint)


def _written(
    folder: Path,
    found: Outcome,
    trials: Sequence[Mapping[str, Any]],
    space: Space,
    family: str,
    documents: Sequence[Document],
    notice: Any,
) -> dict[str, Any]:
    """front.json, a Glyph JSON file for each member of the front, report.html; the front as JSON."""
    from glyph_pipeline.experiments.search_report import search_report

    names: dict[str, str] = {}
    for member in found.front:
        stem = f"ratio-{member.measured.ratio:.2f}-error-{member.measured.error.rate:.3f}"
        again = sum(name.startswith(stem) for name in names.values())
        names[member.id] = f"{stem}-{again + 1}.json" if again else f"{stem}.json"
    for former in _former(folder):
        (folder / _PRESETS / former).unlink(missing_ok=True)
    for member in found.front:
        write_whole(folder / _PRESETS / names[member.id], (to_json(member.config.to_dict(), indent=2) + "\n").encode("utf-8"))
    result = found.to_dict()
    for entry in result["front"]:
        entry["file"] = f"{_PRESETS}/{names[entry['id']]}"
    result = {"trials": len(trials), "space": space.name, "family": family, **result}
    write_whole(folder / _FRONT, (to_json(result, indent=2) + "\n").encode("utf-8"))
    rows = [{**_row(member), "file": names[member.id]} for member in found.front]
    try:
        search_report(trials, found, space, FAMILIES[family].family, documents, rows).write(folder / _REPORT)
    except (MissingExtraError, ImportError) as e:
        notice(str(e) if isinstance(e, MissingExtraError) else str(MissingExtraError("An HTML report", "experiments", package="plotly")))
    return result


def _former(folder: Path) -> list[str]:
    """Files of a former run's front; nothing else in the folder is ever removed."""
    try:
        files = [entry["file"] for entry in json.loads((folder / _FRONT).read_text("utf-8"))["front"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [Path(file).name for file in files if isinstance(file, str) and file.startswith(f"{_PRESETS}/ratio-")]


def _told(record: Mapping[str, Any]) -> str:
    from glyph_pipeline.experiments.outcome import percent, words

    return f"ratio {record['ratio']:.2f}, error {percent(record['error'])} ({words(record['changes'])})"


def _row(member: Member) -> dict[str, object]:
    from glyph_pipeline.experiments.outcome import percent, words

    error = member.measured.error
    row: dict[str, object] = {
        "ratio": f"{member.measured.ratio:.2f}",
        "error": percent(error.rate),
        "95 %": f"{percent(error.low)}-{percent(error.high)}",
    }
    row |= {name: f"{count.errors:,}/{count.of:,}" for name, count in member.measured.counts.items()}
    return row | {"changes": words(member.trial["changes"])}
