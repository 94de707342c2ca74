"""glyph-compress certify: pages read back until they pass, with a certificate; --verify checks one. Measures nothing itself."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape

from glyph_pipeline.cli.options import DRAWING_OPTIONS, build_config, document_options, drawing_options, load_documents
from glyph_pipeline.cli.output import PageFolder, aligned, print_json
from glyph_pipeline.cli.readback import chosen_transcriber
from glyph_pipeline.cli.reading import patience_options, server_options
from glyph_pipeline.document import Document, as_documents
from glyph_pipeline.errors import EXIT_NOT_CERTIFIED, EXIT_OK, InputError, UsageError
from glyph_pipeline.tokens.vision import FAMILIES

if TYPE_CHECKING:
    from glyph_pipeline.experiments.certificate import Certificate, CertifiedPage
    from glyph_pipeline.experiments.certifying import PageMeasured
    from glyph_pipeline.experiments.verifying import Difference

_SHOWN = 10  # pages or differences that are named one by one
# What --verify listens to; the options of the reader besides, with --measure. All others the certificate says.
_VERIFYING = frozenset({"docs", "encoding", "pages", "verified", "measure", "as_json", "quiet"})
_CERTIFYING = frozenset({"output", "max_cer", "dpi_steps", "lines", "planted", "seed", "family", *DRAWING_OPTIONS})


def _rate(_: click.Context, __: click.Parameter, value: float) -> float:
    if not math.isfinite(value):  # which click takes for numbers
        raise click.BadParameter(f"{value} is no rate.")
    return value


def _dpi_steps(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(",")) if value != "none" else ()
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of whole numbers such as 96,120, nor 'none'.") from None


@click.command(short_help="Read every page back; a certificate of what came.")
@document_options(required=False)
@drawing_options
@click.option("-o", "--output", metavar="CERT", default="certificate.json", show_default=True, help="File for the certificate.")
@click.option("--pages", metavar="DIR", help="Folder for the pages as they are certified; with --verify: the folder to check.")
@click.option(
    "--max-cer",
    type=click.FloatRange(min=0),
    callback=_rate,
    default=0.02,
    show_default=True,
    metavar="RATE",
    help="Wrong characters a character with which a page passes: of its text, and of the planted strings.",
)
@click.option(
    "--dpi-steps",
    callback=_dpi_steps,
    metavar="N,N",
    show_default="those of 96,120,150,200 above the configured dpi",
    help="Resolutions at which a page that doesn't pass is drawn again, in turn; 'none': it is not.",
)
@click.option("--lines", type=click.IntRange(min=0), default=20, show_default=True, metavar="N", help="Lines read of each page; 0: all.")
@click.option(
    "--planted",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    metavar="N",
    help="Lines of each page that are replaced by random strings, on a picture of their own; 0: none.",
)
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="Of the lot by which lines and strings are drawn.")
@click.option(
    "--family",
    type=click.Choice(list(FAMILIES)),
    default="glm4v",
    show_default=True,
    help="Model whose vision tokens are counted, and through whose resampling OCR reads.",
)
@click.option(
    "--verify", "verified", metavar="CERT", help="Check this certificate: its documents' texts, the fonts, the pages drawn again."
)
@click.option("--measure", is_flag=True, help="With --verify: also read the pages back again.")
@server_options
@click.option(
    "--max-tokens", type=click.IntRange(min=1), default=8192, show_default=True, help="Tokens for the transcript of a page, at most."
)
@click.option("--concurrency", type=click.IntRange(min=1), default=8, show_default=True, metavar="N", help="Requests at a time.")
@patience_options
@click.option("--json", "as_json", is_flag=True, help="The summary, or what --verify found, as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress and no summary on standard error.")
def certify(
    docs: tuple[str, ...],
    encoding: str | None,
    output: str,
    pages: str | None,
    max_cer: float,
    dpi_steps: tuple[int, ...] | None,
    lines: int,
    planted: int,
    seed: int,
    family: str,
    verified: str | None,
    measure: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Draw DOC..., have every page read back, draw those that don't pass at a higher resolution, and write a certificate.

    Read are sampled lines of each page, and random strings planted on a copy of it. OCR reads, unless a server or a model is named. What
    was read is kept beside the certificate: a run that was stopped goes on, and another --max-cer reads nothing twice.

    --verify CERT draws the pages of a certificate again, from its documents or from DOC... in their order, and tells what is otherwise.
    With --pages DIR the files there are checked instead, and documents only if they are named.
    """
    from glyph_pipeline.experiments.certificate import CertifySettings

    drawing = {name: options.pop(name) for name in DRAWING_OPTIONS}
    console = Console(stderr=True, highlight=False, quiet=quiet)
    if verified is not None:
        _check_verifying(measure=measure)
        return _verify(verified, docs, encoding, pages, measure, options, console, as_json=as_json)
    if measure:
        raise UsageError("--measure goes with --verify.", hint="Certifying measures in any case.")
    if not docs:
        raise UsageError("No document was named.", hint="Name one to certify, or a certificate with --verify.")
    settings = CertifySettings(max_cer=max_cer, dpi_steps=dpi_steps, lines=lines, planted=planted, seed=seed)
    settings.dpis(build_config((), **drawing).dpi)  # what is wrong with the options is said before any document is read
    path = _certificate_file(output, docs)
    documents = as_documents(load_documents(docs, encoding))
    config = build_config(documents, **drawing)

    from glyph_pipeline.experiments.certifying import certify as certify_documents

    journal = path.with_name(f"{path.stem}.readings.jsonl")
    with (
        _going_on(journal, console) as kept,
        chosen_transcriber(options, family, console) as reader,
        console.status("Reading back ...") as status,
    ):
        certificate = certify_documents(
            documents,
            config,
            reader,
            settings=settings,
            family=family,
            journal=journal,
            on_page=_told(status.update, kept),
            on_notice=lambda message: console.print(escape(message), soft_wrap=True),
        )
        status.update("Writing ...")
        if pages is not None:
            _keep(pages, certificate, documents)
        certificate.write(path)
    if as_json:
        print_json({"output": str(path), "pages": pages, **certificate.summary.model_dump(mode="json")})
    if not quiet:
        click.echo(aligned([*_rows(certificate), ("certificate", str(path)), *([] if pages is None else [("pages", pages)])]), err=True)
        _say_failed(certificate)
    return EXIT_OK if certificate.passed else EXIT_NOT_CERTIFIED


def _certificate_file(output: str, docs: Sequence[str]) -> Path:
    """Where the certificate goes, looked at before anything is read. Raises UsageError."""
    path = Path(output)
    if output == "-" or path.name in ("", "..") or path.is_dir():
        raise UsageError(f"--output {output!r} is no name of a file.", hint="Name one for the certificate, such as certificate.json")
    if os.path.realpath(path) in {os.path.realpath(doc) for doc in docs if doc != "-"}:
        raise UsageError(f"--output {output!r} is a document: the certificate would overwrite it.", hint="Name another file.")
    return path


def _check_verifying(*, measure: bool) -> None:
    """Raises UsageError for options that would be passed over: who gave them would take them for checked."""
    context = click.get_current_context()
    given = [one for one in context.command.params if context.get_parameter_source(one.name or "") is ParameterSource.COMMANDLINE]
    contrary = [max(one.opts, key=len) for one in given if one.name in _CERTIFYING]
    if contrary:
        raise UsageError("--verify draws and judges as the certificate says.", hint=f"Leave out {', '.join(contrary)}.")
    unused = [max(one.opts, key=len) for one in given if one.name not in _VERIFYING]
    if unused and not measure:
        raise UsageError(f"{', '.join(unused)}: --verify reads nothing back.", hint="Add --measure, or leave it out.")


def _named_documents(certificate: Certificate, encoding: str | None) -> list[Document]:
    """The documents of a certificate by the names that it has for them. Raises InputError."""
    names = [document.id for document in certificate.documents]
    try:
        return load_documents(names, encoding)
    except InputError as e:
        e.hint = f"Name the documents behind --verify, in this order: {', '.join(names)}."
        raise


def _verify(
    path: str,
    docs: Sequence[str],
    encoding: str | None,
    pages: str | None,
    measure: bool,
    options: Mapping[str, Any],
    console: Console,
    *,
    as_json: bool,
) -> int:
    from glyph_pipeline import __version__
    from glyph_pipeline.experiments.certificate import Certificate
    from glyph_pipeline.experiments.verifying import measure_again, verify_documents, verify_folder

    certificate = Certificate.read(path)
    found: list[Difference] = []
    if pages is not None:
        found += verify_folder(certificate, pages)
    if pages is None or docs or measure:
        documents = load_documents(docs, encoding) if docs else _named_documents(certificate, encoding)
        with console.status("Drawing again ...") as status:
            total, done = certificate.summary.pages, 0

            def drawn(_: object) -> None:
                nonlocal done
                done += 1
                status.update(f"Drawing again, {done:,} of {total:,} ...")

            found += verify_documents(certificate, documents, drawn)
        if measure and not found:
            if certificate.reader.kind == "ocr" and options["reader"] == "auto":
                options = {**options, "reader": "ocr"}
            with chosen_transcriber(options, certificate.family, console) as reader, console.status("Reading back again ..."):
                found += measure_again(certificate, documents, reader)
    if as_json:
        differences = [one.to_dict() for one in found]
        print_json({"certificate": path, "holds": not found, "passed": certificate.passed, "differences": differences})
    if not console.quiet:
        for one in found[:_SHOWN]:
            click.echo(str(one), err=True)
        if len(found) > _SHOWN:
            click.echo(f"... and {len(found) - _SHOWN:,} more (--json names all).", err=True)
        if found and certificate.tool_version != __version__:
            click.echo(f"The certificate is of version {certificate.tool_version}, and this is {__version__}.", err=True)
        count = f"{certificate.summary.pages:,} page{'s' if certificate.summary.pages != 1 else ''}"
        click.echo(f"{path} does not hold: see above." if found else f"{path} holds: {count} as certified.", err=True)
        if not found:
            _say_failed(certificate)
    return EXIT_OK if certificate.passed and not found else EXIT_NOT_CERTIFIED


@contextmanager
def _going_on(journal: Path, console: Console) -> Iterator[list[int]]:
    """Whatever ends the run: how many new readings are kept, which are counted in the list, is told."""
    kept = [0]
    try:
        yield kept
    except BaseException:
        if kept[0]:
            count = f"{kept[0]:,} reading{'s are' if kept[0] != 1 else ' is'}"
            console.print(escape(f"{count} kept in {journal}: the same command goes on where this one stopped."), soft_wrap=True)
        raise


def _told(update: Callable[[str], object], kept: list[int]) -> Callable[[PageMeasured], None]:
    """Counts readings for the progress line, and new ones in ``kept``."""
    done = known = again = 0

    def tell(page: PageMeasured) -> None:
        nonlocal done, known, again
        done += 1
        known += page.known
        kept[0] += not page.known
        again += not page.passed
        before = f", {known:,} of them before" if known else ""
        update(f"Reading back: {done:,} pages{before}, {again:,} did not pass; now at {page.dpi} dpi ...")

    return tell


def _keep(folder: str, certificate: Certificate, documents: Sequence[Document]) -> None:
    """Write the pages, each at its resolution. They are drawn once more: of thousands only hashes were kept."""
    from glyph_pipeline.experiments.verifying import certified_drawings, certified_pages
    from glyph_pipeline.report import CompressionReport, FontUse

    drawings = certified_drawings(certificate)
    kept = PageFolder(folder, several=len(documents) > 1)
    size = 0
    for expected, document in zip(certificate.documents, documents, strict=True):
        for page in certified_pages(expected, document, drawings):
            kept.add(page)
            size += len(page.png)
    summary = certificate.summary
    report = CompressionReport(
        text_tokens=summary.text_tokens,
        tokenizer=summary.tokenizer,
        vision_tokens=summary.vision_tokens,
        family=FAMILIES[certificate.family].family,
        pages=summary.pages,
        documents=len(documents),
        characters=sum(document.characters for document in certificate.documents),
        image_bytes=size,
        fonts=tuple(FontUse(**font.model_dump()) for font in certificate.fonts),
    )
    kept.finish(report, certificate.render_config)


def _rows(certificate: Certificate) -> list[tuple[str, str]]:
    summary = certificate.summary
    reader = certificate.reader
    by_dpi = ", ".join(f"{at.pages:,} at {at.dpi} dpi" for at in summary.pages_by_dpi)
    rows = [
        ("reader", " ".join(filter(None, [reader.name, reader.version, reader.model]))),
        ("pages", f"{summary.passed_pages:,} of {summary.pages:,} pass; {by_dpi}"),
    ]
    for name, part in (("text", summary.text), ("planted", summary.planted)):
        if part.characters:
            rows.append((f"{name} CER", f"{part.cer:.2%} of {part.characters:,} characters (95 %: {part.low:.2%} to {part.high:.2%})"))
    return [*rows, ("ratio", f"{summary.ratio:.2f}  text tokens for each vision token")]


def _say_failed(certificate: Certificate) -> None:
    """Name the pages that don't pass, if there are any."""
    failed = [(document.id, page) for document in certificate.documents for page in document.pages if not page.passed]
    if failed:
        verb = "page doesn't" if certificate.summary.pages == 1 else "pages don't"
        click.echo(f"{len(failed):,} of {certificate.summary.pages:,} {verb} pass:", err=True)
        for document, page in failed[:_SHOWN]:
            click.echo(f"  {_named(document, page)}", err=True)
        if len(failed) > _SHOWN:
            click.echo(f"  ... and {len(failed) - _SHOWN:,} more; the certificate has all.", err=True)


def _named(document: str, page: CertifiedPage) -> str:
    rates = f"text CER {page.text.cer:.2%}, planted {page.planted.cer:.2%}"
    return f"{document}, page {page.number}: {rates} at {page.dpi} dpi"
