"""The options of the page store, and what is said of it. Draws and keeps nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from glyph_pipeline.errors import UsageError
from glyph_pipeline.pagestore import DEFAULT_MAX_BYTES, PageStore

_F = TypeVar("_F", bound=Callable[..., Any])
_MB = 1_000_000


def cache_options(command: _F) -> _F:
    """--cache and --cache-size: the arguments ``cache`` and ``cache_size``, which :func:`open_store` takes."""
    size = click.option(
        "--cache-size",
        type=click.IntRange(min=1),
        metavar="MB",
        help=f"How large the folder of --cache may become; the pages used least recently go first. [default: {DEFAULT_MAX_BYTES // _MB:,}]",
    )
    folder = click.option("--cache", metavar="DIR", help="Keep drawn pages in this folder, and draw only what it doesn't have.")
    return folder(size(command))


def open_store(cache: str | None, cache_size: int | None) -> PageStore | None:
    """The store that the options name; None without ``--cache``. Raises UsageError, OutputError."""
    if cache is None:
        if cache_size is not None:
            raise UsageError("--cache-size needs --cache.", hint="Name the folder: --cache DIR")
        return None
    return PageStore(cache, DEFAULT_MAX_BYTES if cache_size is None else cache_size * _MB)


def cache_row(drawn_before: int, documents: int) -> tuple[str, str]:
    """The row of a report that says how much was not drawn."""
    one = documents == 1
    return "cache", f"{drawn_before:,} of {documents:,} document{'' if one else 's'} {'was' if one else 'were'} drawn before"
