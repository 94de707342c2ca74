"""render() and Renderer: what is refused at once, page values, several documents with one renderer, and the types a caller sees."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from PIL import Image

import glyph_pipeline
from glyph_pipeline import Document, Page, RenderConfig, render
from glyph_pipeline.errors import EmptyDocumentError, FontError
from glyph_pipeline.rendering.renderer import Renderer

SMALL = RenderConfig.preset("en").replace(page_size="160,90", margin_x=4, margin_y=4)


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\n", "\xad", "\u200b \u200b", "\xa0\u3000"])
def test_nothing_to_draw_is_refused_before_the_first_page(text: str) -> None:
    with pytest.raises(EmptyDocumentError, match="nothing to draw"):
        render(text)
    with pytest.raises(EmptyDocumentError, match="log-7"):
        render(Document(text, id="log-7"))


def test_a_missing_font_is_refused_before_the_first_page() -> None:
    with pytest.raises(FontError, match="Fathomless"):
        render("text", SMALL.replace(font="Fathomless Grotesk"))


def test_without_a_configuration_it_is_the_english_preset() -> None:
    text = "The pilot came aboard at six bells. " * 30
    assert list(render(text)) == list(render(text, RenderConfig.preset("en")))


def test_the_png_is_the_page() -> None:
    page = next(render("Six fathoms and a half.", SMALL))
    assert page.png.startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(io.BytesIO(page.png)) as image:
        image.verify()
    assert page.to_image().getextrema()[0] < 100


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, 630),  # 595x842 px: 588x840 are read, 21 by 30 tokens
        ({"page_size": "588,840"}, 630),
        ({"page_size": "A5"}, 315),  # 420x595 px: 15 by 21.25, rounded to 21
        ({"dpi": 144}, 2520),  # 1190x1684 px: 42.5, rounded to even, by 60.14
    ],
    ids=str,
)
def test_vision_tokens_of_a_page(changes: dict[str, object], tokens: int) -> None:
    config = RenderConfig(auto_crop_width=False, auto_crop_last_page=False).replace(**changes)
    assert next(render("x", config)).vision_tokens == tokens


def test_cropping_saves_tokens() -> None:
    whole = next(render("Short.", RenderConfig(auto_crop_width=False, auto_crop_last_page=False)))
    cropped = next(render("Short.", RenderConfig()))
    assert cropped.vision_tokens < whole.vision_tokens / 10


def test_one_renderer_for_several_documents() -> None:
    renderer = Renderer(SMALL)
    logs = [Document("Wind and weather. " * 80 + "\U000f0001so\xadft", id="a.log"), Document("Calm\x01 sea.\xad", id="b.log")]
    drawn = {document.id: list(renderer.render(document)) for document in logs}
    assert len(drawn["a.log"]) > 3
    for name, pages in drawn.items():
        assert [page.number for page in pages] == list(range(1, len(pages) + 1))
        assert {page.document for page in pages} == {name}
        # Nothing of one document shows in another.
        (document,) = (document for document in logs if document.id == name)
        assert pages == list(render(document, SMALL))
    assert renderer.losses.missing == {"\U000f0001": 1, "\x01": 1}
    assert renderer.losses.removed == 2
    assert [use.file for use in renderer.fonts] == ["DejaVuSans.ttf"]


def test_pages_show_the_piece_of_the_text_that_they_name() -> None:
    text = "".join(f"Entry {number}: nothing sighted, sounding {number % 17} fathoms.\n" for number in range(60))
    for page in render(text, SMALL):
        assert " ".join(page.lines).split() == text[page.start : page.end].split()


def test_lines_show_no_break_spaces_as_spaces_and_escapes_in_full() -> None:
    page = next(render("a  b\xa0c \U000f0001\n    indented", SMALL))
    assert page.lines == ("a  b c [U+F0001]", "    indented")


def test_pages_are_values() -> None:
    page: Page = next(render("one", SMALL))
    assert page == next(render("one", SMALL))
    with pytest.raises(AttributeError):
        page.number = 2  # type: ignore[misc]


def test_a_type_checker_sees_what_callers_get() -> None:
    assert get_type_hints(render) == {"text": str | Document, "config": RenderConfig | None, "return": Iterator[Page]}
    assert (Path(glyph_pipeline.__file__).parent / "py.typed").is_file()
