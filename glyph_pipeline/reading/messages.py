"""Messages: pages and a question as an OpenAI chat message, and where the images are. Knows no HTTP and no model."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from glyph_pipeline.errors import OutputError
from glyph_pipeline.page import Page

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionUserMessageParam


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


def build_message(urls: Sequence[str], question: str) -> ChatCompletionUserMessageParam:
    """One user message: the page images in order, then the question as text, as Glyph was trained."""
    content: list[ChatCompletionContentPartParam] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content.append({"type": "text", "text": question})
    return {"role": "user", "content": content}
