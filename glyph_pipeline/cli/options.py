"""Options that several subcommands share, and what they mean together. Draws and reads nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from glyph_pipeline.document import Document, require_text
from glyph_pipeline.errors import UsageError
from glyph_pipeline.rendering.config import RenderConfig

_F = TypeVar("_F", bound=Callable[..., Any])


DRAWING_OPTIONS = ("config", "font", "no_system_fonts", "dpi", "font_size", "page_size", "settings")


def document_options(required: bool = True) -> Callable[[_F], _F]:
    """DOC... and --encoding."""

    def decorated(command: _F) -> _F:
        command = click.option("--encoding", metavar="NAME", help="Encoding of the documents [default: byte order mark, else UTF-8].")(
            command
        )
        return click.argument("docs", nargs=-1, required=required, metavar="DOC..." if required else "[DOC...]")(command)

    return decorated


def drawing_options(command: _F) -> _F:
    """--config and the overrides of single keys."""
    for option in reversed(
        (
            click.option(
                "--config",
                metavar="NAME|FILE",
                default="auto",
                show_default="auto: en or zh, by the text",
                help="Preset, or a Glyph JSON configuration.",
            ),
            click.option("--font", metavar="FILE|FAMILY", help="Font file, or the name of a bundled or installed font."),
            click.option(
                "--no-system-fonts",
                is_flag=True,
                help="Draw with the configured and the bundled fonts only: the same bytes on every machine.",
            ),
            click.option("--dpi", type=int, help="Pixels per inch [36-600]."),
            click.option("--font-size", type=float, metavar="PT", help="Font size; leading follows as size + 1 unless it is set too."),
            click.option("--page-size", metavar="W,H|NAME", help='In pt, such as "595,842", or A3-A5, B4, B5, Letter, Legal.'),
            click.option(
                "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other key of the configuration; may be repeated."
            ),
        )
    ):
        command = option(command)
    return command


def load_documents(docs: Sequence[str], encoding: str | None) -> list[Document]:
    """The documents named on the command line. Raises InputError and its kin before anything is drawn."""
    if list(docs).count("-") > 1:
        raise UsageError("Standard input ('-') was named twice.", hint="It can be read once.")
    documents = [Document.read(doc, encoding) for doc in docs]
    for document in documents:
        require_text(document)
    return documents


def build_config(documents: Sequence[Document], *, config: str, **overrides: Any) -> RenderConfig:
    """The configuration with the overrides of the command line; ``auto`` chooses the preset by the documents. Raises ConfigError, UsageError."""
    chosen = chosen_drawing(config=config, **overrides)
    return chosen if isinstance(chosen, RenderConfig) else RenderConfig.for_texts((document.text for document in documents), chosen)


def chosen_drawing(
    *,
    config: str,
    font: str | None,
    no_system_fonts: bool,
    dpi: int | None,
    font_size: float | None,
    page_size: str | None,
    settings: Sequence[str],
) -> RenderConfig | dict[str, Any]:
    """The configuration that was named, with its overrides; for ``auto`` only these, to be made to the preset that a text gets."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {setting!r} is not KEY=VALUE.", hint="Example: --set margin-x=20")
        changes[key.strip().replace("_", "-")] = value.strip()
    named = {"font-path": font, "dpi": dpi, "font-size": font_size, "page-size": page_size}
    if no_system_fonts:
        changes["system-fonts"] = False
    changes |= {key: value for key, value in named.items() if value is not None}
    if font_size is not None and "line-height" not in changes:
        changes["line-height"] = None  # a leading made for another size would squeeze or stretch this one
    return changes if config == "auto" else RenderConfig.resolve(config).replace(**changes)
