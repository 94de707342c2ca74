"""Messages: pages, texts and a question as an OpenAI chat message, and where the images are. Knows no HTTP and no model."""

from __future__ import annotations

import base64
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import Self

from glyph_pipeline.errors import OutputError
from glyph_pipeline.page import Page
from glyph_pipeline.parts import Part, content

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionUserMessageParam


@contextmanager
def page_urls(pages: Sequence[Page], folder: Path | None) -> Iterator[list[str]]:
    """The URL of each page's image while the block runs: a PNG data URL, or with ``folder`` that of a file in it.

    The files are removed at the end. Raises OutputError if they can't be written.
    """
    if folder is None:
        yield ["data:image/png;base64," + base64.b64encode(page.png).decode("ascii") for page in pages]
        return
    own: Path | None = None
    try:
        try:
            own = Path(tempfile.mkdtemp(dir=folder, prefix="pages-"))
            files = [own / f"{number:06d}.png" for number in range(len(pages))]
            for page, file in zip(pages, files, strict=True):
                file.write_bytes(page.png)
        except OSError as e:
            raise OutputError(
                f"The pages can't be written for the server to {str(folder)!r}: {e.strerror or e}.",
                hint="Make room there (TMPDIR names another place), or send pages inside the requests.",
            ) from e
        yield [file.as_uri() for file in files]
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a message: where it is, and the name that the server keeps it by. Without ``url`` it is only referred to."""

    url: str | None
    name: str | None = None


def user_message(items: Sequence[Picture | str]) -> ChatCompletionUserMessageParam:
    """One user message of pictures and texts in this order."""
    return cast("ChatCompletionUserMessageParam", {"role": "user", "content": [_part(item) for item in items]})


def build_message(urls: Sequence[str], question: str) -> ChatCompletionUserMessageParam:
    """One user message: the page images in order, then the question as text, as Glyph was trained."""
    return user_message([*map(Picture, urls), question])


def _part(item: Picture | str) -> dict[str, Any]:
    if isinstance(item, str):
        return {"type": "text", "text": item}
    part: dict[str, Any] = {"type": "image_url", "image_url": None if item.url is None else {"url": item.url}}
    return part if item.name is None else {**part, "uuid": item.name}


class Outgoing:
    """What one read sends, in the forms that servers may want it. To be used in a ``with`` block, which ends the page files.

    The images are encoded, or written to ``folder``, when the first message needs them.
    """

    def __init__(self, parts: Sequence[Part], question: str, folder: Path | None) -> None:
        self._items = content(parts, question)
        self._folder = folder
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def pages(self) -> list[Page]:
        """The pages among it, in order."""
        return [item for item in self._items if isinstance(item, Page)]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for each page's image: the SHA-256 of its PNG, so that no two images ever have the same."""
        return tuple(hashlib.sha256(page.png).hexdigest() for page in self.pages)

    def message(self, known: frozenset[str] | None) -> ChatCompletionUserMessageParam:
        """The message. With ``known`` the images have their names, and those in it are only referred to. Raises OutputError."""
        names: Sequence[str | None] = [None] * len(self.pages) if known is None else self.names
        spared = known or frozenset()
        urls = self._urls if any(name not in spared for name in names) else [""] * len(names)
        pictures = iter([Picture(None if name in spared else url, name) for url, name in zip(urls, names, strict=True)])
        return user_message([item if isinstance(item, str) else next(pictures) for item in self._items])

    @cached_property
    def _urls(self) -> list[str]:
        return self._open.enter_context(page_urls(self.pages, self._folder))
