"""Report: one HTML page with an experiment's figures, tables and pages, which loads nothing from anywhere. Knows no experiment."""

from __future__ import annotations

import base64
import html
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glyph_pipeline.errors import MissingExtraError
from glyph_pipeline.files import write_whole
from glyph_pipeline.page import Page

PURPOSE = "An HTML report"

# Neither a logo nor a button leads to plotly's own site, to which its "edit" button would send the data.
_PLOTLY = {"displaylogo": False, "responsive": True, "plotlyServerURL": ""}


@dataclass(frozen=True, slots=True)
class _Block:
    kind: str
    heading: str
    caption: str = ""
    content: Any = None


@dataclass(slots=True)
class Report:
    """A page of figures (plotly's), tables, page pictures and words, one below the other, in the order they were added.

    ``lead`` is the paragraph under the title. The same blocks give the same bytes. Opened from a disk it works without a network, and its
    content security policy forbids it to load or send anything.
    """

    title: str
    lead: str
    _blocks: list[_Block] = field(default_factory=list)

    def text(self, heading: str, *paragraphs: str) -> None:
        """Words."""
        self._blocks.append(_Block("text", heading, content=paragraphs))

    def figure(self, heading: str, figure: Any, caption: str) -> None:
        """A plotly figure (``plotly.graph_objects.Figure``)."""
        self._blocks.append(_Block("figure", heading, caption, figure))

    def table(self, heading: str, rows: Sequence[Mapping[str, object]], caption: str = "") -> None:
        """A table; its columns are the keys of all rows, in the order they come up. Numbers stand right, absent ones are empty."""
        self._blocks.append(_Block("table", heading, caption, tuple(rows)))

    def pages(self, heading: str, pages: Sequence[tuple[str, Page]], caption: str = "") -> None:
        """Page pictures at true size, a pixel of theirs for one of the screen's, side by side, each under its label."""
        self._blocks.append(_Block("pages", heading, caption, tuple(pages)))

    def html(self) -> str:
        """The whole page. Raises MissingExtraError without jinja2 or, if there is a figure, plotly."""
        environment = _jinja().Environment(
            loader=_jinja().PackageLoader("glyph_pipeline.experiments"), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        environment.tests["number"] = lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
        environment.filters["cell"] = _cell
        blocks = [self._shown(block, number) for number, block in enumerate(self._blocks)]
        has_figures = any(block.kind == "figure" for block in self._blocks)
        script = _plotly("plotly.offline").get_plotlyjs() if has_figures else ""
        page: str = environment.get_template("report.html").render(title=self.title, lead=self.lead, blocks=blocks, script=script)
        return page

    def write(self, path: str | Path) -> None:
        """Write the page. Raises MissingExtraError and OutputError."""
        write_whole(Path(path), self.html().encode("utf-8", "backslashreplace"))

    @staticmethod
    def _shown(block: _Block, number: int) -> dict[str, Any]:
        """What the template needs of a block."""
        shown: dict[str, Any] = {"kind": block.kind, "heading": block.heading, "caption": block.caption, "content": block.content}
        if block.kind == "figure":
            # A name of its own: plotly's are drawn by lot.
            shown["content"] = _plotly("plotly.io").to_html(
                block.content, config=_PLOTLY, full_html=False, include_plotlyjs=False, div_id=f"figure-{number}"
            )
        elif block.kind == "table":
            shown["columns"] = list(dict.fromkeys(name for row in block.content for name in row))
        elif block.kind == "pages":
            shown["content"] = [
                {"label": label, "width": page.width, "height": page.height, "png": base64.b64encode(page.png).decode("ascii")}
                for label, page in block.content
            ]
        return shown


def plain(value: object) -> str:
    """A value as words for a figure: plotly takes some tags in them for markup, and ``<br/>`` is a value of a configuration."""
    return html.escape(str(value), quote=False)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _jinja() -> Any:
    try:
        return importlib.import_module("jinja2")
    except ImportError as error:
        raise MissingExtraError(PURPOSE, "experiments", package="jinja2") from error


def _plotly(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(PURPOSE, "experiments", package="plotly") from error


def require() -> None:
    """Raises MissingExtraError if what a report with figures stands on is not installed: known before an experiment has begun."""
    _jinja()
    _plotly("plotly.graph_objects")
