"""Output: pages and their index into a folder, and the account of a run for people. Draws nothing."""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from glyph_pipeline.files import not_written, write_whole
from glyph_pipeline.page import Page, page_facts
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.report import CompressionReport

_INDEX = "pages.json"
_PAGE_FILE = re.compile(r"(?:[\w.-]+/)?page_\d{4,}\.png")


class PageFolder:
    """Writes pages as PNG files and ``pages.json``, the index that names each page's document, source offsets and file.

    Files of one document are ``page_0001.png`` and so on; of several, each document has a folder. Raises OutputError.
    """

    def __init__(self, folder: str | Path, several: bool) -> None:
        self.folder = Path(folder)
        self._several = several
        self._folders: dict[str, str] = {}
        self._entries: list[dict[str, Any]] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._former = self._listed()
            # Gone while the pages are written: an index never speaks of pages that are not those beside it.
            (self.folder / _INDEX).unlink(missing_ok=True)
        except OSError as e:
            raise not_written(self.folder, e) from e

    def add(self, page: Page) -> None:
        """Write one page."""
        file = f"page_{page.number:04d}.png"
        if self._several:
            file = f"{self._folder_of(page.document or 'document')}/{file}"
        self._write(file, page.png)
        self._entries.append({"file": file, "document": page.document, **page_facts(page)})

    def finish(self, report: CompressionReport, config: RenderConfig) -> None:
        """Write the index, with report and configuration; pages of a former run that were not drawn again are removed."""
        for file in self._former - {entry["file"] for entry in self._entries}:
            (self.folder / file).unlink(missing_ok=True)
        index = {"report": report.to_dict(), "config": config.to_dict(), "pages": self._entries}
        self._write(_INDEX, (to_json(index, indent=2) + "\n").encode("utf-8"))

    def _listed(self) -> set[str]:
        """Page files that the index of a former run lists; nothing else in the folder is ever touched."""
        try:
            files = {entry["file"] for entry in json.loads((self.folder / _INDEX).read_text("utf-8"))["pages"]}
        except (OSError, ValueError, KeyError, TypeError):
            return set()
        return {file for file in files if isinstance(file, str) and _PAGE_FILE.fullmatch(file)}

    def _folder_of(self, document: str) -> str:
        if document not in self._folders:
            stem = re.sub(r"[^\w.-]+", "_", Path(document).stem).strip("._") or "document"
            taken = {*self._folders.values(), _INDEX}
            name = next(name for name in (stem, *(f"{stem}_{number}" for number in range(2, len(taken) + 3))) if name not in taken)
            self._folders[document] = name
        return self._folders[document]

    def _write(self, file: str, data: bytes) -> None:
        write_whole(self.folder / file, data)


def to_json(data: object, indent: int | None = None) -> str:
    """JSON with text as it is; what has no UTF-8 (a file name's stray byte, a lone surrogate) as an escape, which is JSON too."""
    return json.dumps(data, ensure_ascii=False, indent=indent).encode("utf-8", "backslashreplace").decode("utf-8")


def print_json(data: object, indent: int | None = None) -> None:
    """JSON on standard output, with escapes where its encoding is not UTF-8."""
    utf8 = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    click.echo(to_json(data, indent) if utf8 else json.dumps(data, indent=indent))


def report_lines(report: CompressionReport) -> list[tuple[str, str]]:
    """(label, value) rows of a compression report."""
    pages = f"{report.pages:,} page{'s' if report.pages != 1 else ''}"
    rows = [
        ("text tokens", f"{report.text_tokens:,}  {report.tokenizer}"),
        ("vision tokens", f"{report.vision_tokens:,}  {report.family}, {pages}"),
        ("ratio", f"{report.ratio:.2f}  text tokens for each vision token"),
        ("images", f"{report.image_bytes / 1024:,.0f} KiB of PNG"),
        (
            "font",
            ", ".join(f"{font.family}{' in place of ' + Path(font.requested).stem if font.stand_in else ''}" for font in report.fonts),
        ),
    ]
    if report.missing:
        shown = ", ".join(f"{char} ({count})" for char, count in list(report.missing.items())[:5])
        helping = f"; fonts that have them: apt install {' '.join(report.packages)}" if report.packages else ""
        rows.append(
            (
                "not in font",
                f"{sum(report.missing.values()):,} characters drawn as escapes: {shown}{' ...' if len(report.missing) > 5 else ''}{helping}",
            )
        )
    if report.invisible:
        rows.append(("invisible", f"{report.invisible:,} characters without a picture, such as byte order marks and marks of direction"))
    if report.removed:
        rows.append(("removed", f"{report.removed:,} soft hyphens and zero-width spaces"))
    return rows


def seconds_line(seconds: Mapping[str, float]) -> tuple[str, str]:
    """The row that tells the time of each stage."""
    return "time", ", ".join(f"{stage} {value:.2f} s" for stage, value in seconds.items())


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Rows as lines with their values in one column."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a table for people: a column for every key, in the order they come up; numbers stand right, what is absent is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    right = {name for name in columns if all(isinstance(row.get(name), (int, float, type(None))) for row in rows)}
    cells = [columns, *([_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width) for name, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in cells
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
