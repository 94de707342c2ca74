"""The OCR reader: with the real engine over drawn pages (marker ocr), and with a stand-in engine for everything around it."""

from __future__ import annotations

import asyncio
import io
import json
import random
import socket
import string
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from glyph_pipeline import Page, RenderConfig, render
from glyph_pipeline.errors import MissingExtraError, ReadError
from glyph_pipeline.parts import ExactList, ExactStrings, PageText, Part
from glyph_pipeline.reading import ocr
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.reading.reader import AnswerDelta, PageRead, ReadEvent, ReadResult, Usage

ROOT = Path(__file__).parents[2]
SAMPLE = (ROOT / "docs" / "sample.txt").read_text(encoding="utf-8")
QUESTIONS = json.loads((ROOT / "tests" / "data" / "sample_questions.json").read_text(encoding="utf-8"))


def events(reader: OCRReader, pages: Sequence[Part], question: str) -> list[ReadEvent]:
    async def collect() -> list[ReadEvent]:
        return [event async for event in reader.read(pages, question)]

    return asyncio.run(collect())


def result(reader: OCRReader, pages: Sequence[Part], question: str) -> ReadResult:
    last = events(reader, pages, question)[-1]
    assert isinstance(last, ReadResult)
    return last


def a_page(bars: int, number: int = 1, document: str | None = None, width: int = 300) -> Page:
    """A page with so many black bars for lines; the stand-in engine reads each as the text it is told."""
    image = Image.new("L", (width, 600), 255)
    for bar in range(bars):
        ImageDraw.Draw(image).rectangle((10, 10 + 12 * bar, width - 10, 17 + 12 * bar), fill=0)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Page(number, *image.size, buffer.getvalue(), 0, 0, (), document)


class Engine:
    """Reads a strip as the text that goes with its width; counts, and can be made to wait."""

    def __init__(self, reads: dict[int, str], wait: float = 0.0) -> None:
        self.reads, self.wait, self.calls = reads, wait, 0
        self.began, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()
        self._lock = threading.Lock()

    def __call__(self, picture: np.ndarray, **_: Any) -> SimpleNamespace:
        with self._lock:
            self.calls += 1
        self.began.set()
        self.may_end.wait(60)
        time.sleep(self.wait)
        width = min(self.reads, key=lambda width: abs(picture.shape[1] - 48 / 12 * width))
        return SimpleNamespace(txts=(self.reads[width],))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    def install(*args: Any, **kwargs: Any) -> Engine:
        made = Engine(*args, **kwargs)
        monkeypatch.setattr(ocr, "_engine", lambda: made)
        return made

    return install


# --- with the real engine ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample_pages() -> list[Page]:
    return list(render(SAMPLE, RenderConfig.preset("en")))


@pytest.fixture(scope="module")
def sample_reader() -> OCRReader:
    return OCRReader()


def test_the_questions_are_fair():
    assert len(QUESTIONS) == 10
    for asked in QUESTIONS:
        assert SAMPLE.count(asked["passage"]) == 1
        assert all(SAMPLE.count(quote) == 1 for quote in asked["must_quote"]), asked
        assert asked["question"].lower().rstrip("?") not in SAMPLE.lower()


@pytest.mark.ocr
def test_columns_are_read_one_after_the_other_and_quoted_whole() -> None:
    config = RenderConfig.preset("columns").replace(font_size=11, line_height=13, dpi=96, system_fonts=False)
    pages = list(render(SAMPLE[:12_000], config))
    assert len(pages[0].columns) == 3
    (expected,) = (entry for entry in QUESTIONS if "croquet mallets" in json.dumps(entry))
    answer = result(OCRReader(), pages, expected["question"]).text
    assert "croquet mallets" in answer.split("\n\n")[0]


@pytest.mark.ocr
def test_lines_are_read_as_drawn(sample_reader: OCRReader, sample_pages: list[Page]):
    drawn = [line.strip() for page in sample_pages for line in page.lines if line.strip()]
    read = [line for page in sample_pages for line in sample_reader.transcribe(page)]
    assert len(read) == len(drawn)
    assert sum(one == other for one, other in zip(drawn, read, strict=True)) >= 0.95 * len(drawn)


@pytest.mark.ocr
def test_eight_of_ten_questions_are_answered(sample_reader: OCRReader, sample_pages: list[Page]):
    answers = [(asked, result(sample_reader, sample_pages, asked["question"]).text) for asked in QUESTIONS]
    first = [any(quote in text.split("\n\n")[0] for quote in asked["must_quote"]) for asked, text in answers]
    hits = [any(quote in text for quote in asked["must_quote"]) for asked, text in answers]
    print(f"answered {sum(hits)} of {len(hits)}, by the first quote {sum(first)}")
    assert sum(hits) >= 8, [(asked["question"], text) for (asked, text), hit in zip(answers, hits, strict=True) if not hit]


@pytest.mark.ocr
def test_pages_are_named_in_the_answer(sample_reader: OCRReader, sample_pages: list[Page]):
    found = result(sample_reader, sample_pages, "What pet did the night observer Quill have?")
    (page,) = [page for page in sample_pages if page.start <= SAMPLE.index("Quill kept a ferret") < page.end]
    assert found.text.startswith(f"[page {page.number}] “")
    assert "ferret named Halley" in found.quotes[0].text


@pytest.mark.ocr
def test_the_engine_opens_no_connection_and_is_silent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def refuse(*_: Any) -> None:
        raise AssertionError("the OCR engine opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    pages = list(render("The lamp above Skarrow was lit in 1874.", RenderConfig.preset("en")))
    assert OCRReader().transcribe(pages[0]) == ("The lamp above Skarrow was lit in 1874.",)
    assert capfd.readouterr() == ("", "")


@pytest.mark.ocr
def test_a_question_about_something_else_is_told_so(sample_reader: OCRReader, sample_pages: list[Page]):
    found = result(sample_reader, sample_pages, "Which zeppelin crossed Antarctica?")
    assert found.text == f"No passage on the {len(sample_pages)} pages matches the question."
    assert found.quotes == ()


@pytest.mark.ocr
def test_listed_strings_are_quoted_to_the_letter(sample_reader: OCRReader):
    chance = random.Random(9)
    owners = ["barge", "dome", "ferret", "harbour", "mast", "oven", "piano", "quarry"]
    keys = ["".join(chance.choices(string.ascii_letters + string.digits, k=32)) for _ in owners]
    text = "\n\n".join(
        f"The access token of the {owner} is {key}, as far as anybody knows." for owner, key in zip(owners, keys, strict=True)
    )
    (page,) = render(text, RenderConfig.preset("en").replace(dpi=60))
    exact = ExactList((ExactStrings(None, 1, tuple(keys)),), "", 0)

    def right(parts: Sequence[Part]) -> int:
        answers = [result(sample_reader, parts, f"What is the access token of the {owner}?").text for owner in owners]
        return sum(key in answer for key, answer in zip(keys, answers, strict=True))

    alone, listed = right([page]), right([page, exact])
    print(f"of {len(keys)} keys right: {alone} alone, {listed} with the list")
    assert alone < len(keys)
    assert listed == len(keys)


# --- with a stand-in engine -------------------------------------------------------------------------------------------


def test_events_come_in_order_and_the_result_repeats_them(engine: Callable[..., Engine]):
    engine({280: "The dome is copper."})
    seen = events(OCRReader(), [a_page(1), a_page(2, number=2)], "Is the dome copper?")
    assert seen[:2] == [PageRead(1, 2), PageRead(2, 2)]
    last = seen[-1]
    assert isinstance(last, ReadResult)
    assert "".join(event.text for event in seen[2:-1] if isinstance(event, AnswerDelta)) == last.text
    assert (last.finish_reason, last.usage, last.reasoning) == ("quote", Usage(), "")
    assert len(seen) == 2 + len(last.quotes) + 1
    assert OCRReader().name == "OCR quotes (RapidOCR)"


def test_two_documents_are_told_apart(engine: Callable[..., Engine]):
    engine({280: "The dome is copper.", 180: "The mast is iron."})
    pages = [a_page(1, 1, "hall.txt"), a_page(1, 2, "hall.txt"), a_page(1, 1, "mast.txt", width=200)]
    found = result(OCRReader(), pages, "What is the mast made of?")
    assert found.text == "[mast.txt, page 1] “The mast is iron.”"
    assert [(quote.page, quote.document, quote.text) for quote in found.quotes] == [(3, "mast.txt", "The mast is iron.")]


def test_pages_are_read_once(engine: Callable[..., Engine]):
    made = engine({280: "The dome is copper."})
    reader = OCRReader()
    pages = [a_page(3), a_page(3, number=2), a_page(1, number=3)]
    first = result(reader, pages, "dome")
    assert made.calls == 4
    second = events(reader, pages, "dome")
    assert made.calls == 4
    assert second[:3] == [PageRead(1, 3), PageRead(2, 3), PageRead(3, 3)]
    assert second[-1] == first


def test_reads_at_the_same_time_share_the_work(engine: Callable[..., Engine]):
    made = engine({280: "The dome is copper."}, wait=0.01)
    reader = OCRReader()

    async def both() -> list[list[ReadEvent]]:
        async def one() -> list[ReadEvent]:
            return [event async for event in reader.read([a_page(5)], "dome")]

        return await asyncio.gather(one(), one())

    left, right = asyncio.run(both())
    assert left == right
    assert made.calls == 5


def test_a_blank_page_matches_nothing(engine: Callable[..., Engine]):
    made = engine({280: "unused"})
    assert events(OCRReader(), [a_page(0)], "dome")[-1] == ReadResult(
        "No passage on the page matches the question.", "", "quote", Usage(), ()
    )
    assert made.calls == 0


def test_the_loop_stays_free_and_cancelling_stops_the_page(engine: Callable[..., Engine]):
    made = engine({280: "The dome is copper."}, wait=0.05)
    made.may_end.clear()
    reader = OCRReader()
    ticks = 0

    async def main() -> list[ReadEvent]:
        nonlocal ticks
        seen: list[ReadEvent] = []

        async def reading() -> None:
            async for event in reader.read([a_page(1), a_page(40, number=2), a_page(39, number=3)], "dome"):
                seen.append(event)
                made.began.clear()

        task = asyncio.create_task(reading())
        while not (seen and made.began.is_set()):
            ticks += 1
            if ticks > 5:
                made.may_end.set()
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    assert asyncio.run(main()) == [PageRead(1, 3)]  # asyncio.run waits for the worker thread
    assert ticks > 5
    assert made.calls < 30
    assert reader.transcribe(a_page(40)) == ("The dome is copper.",) * 40  # what was broken off is not kept


def test_closing_between_pages_reads_no_further(engine: Callable[..., Engine]):
    made = engine({280: "The dome is copper."})

    async def main() -> None:
        stream = OCRReader().read([a_page(1), a_page(2, number=2)], "dome")
        assert await anext(stream) == PageRead(1, 2)
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert made.calls == 1


def test_closing_the_reader_forgets(engine: Callable[..., Engine]):
    made = engine({280: "The dome is copper."})
    reader = OCRReader()
    reader.transcribe(a_page(1))
    asyncio.run(reader.aclose())
    reader.transcribe(a_page(1))
    assert made.calls == 2


@pytest.mark.parametrize("package", ["rapidocr", "onnxruntime"])
def test_a_missing_engine_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingExtraError, match=rf"Reading pages by OCR needs the extra 'ocr'.*'{package}'.*pip install 'glyph-pipeline\[ocr\]'"
    ):
        events(OCRReader(), [a_page(1)], "dome")


def test_a_page_that_is_no_image_is_told(engine: Callable[..., Engine]):
    engine({280: "unused"})
    with pytest.raises(ReadError, match="Page 7 is not an image"):
        events(OCRReader(), [Page(7, 10, 10, b"not a PNG", 0, 0, ())], "dome")


def test_a_failing_engine_is_told(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ocr, "_engine", lambda: fails)
    with pytest.raises(ReadError, match="out of memory"):
        events(OCRReader(), [a_page(1)], "dome")


def a_text(text: str, number: int = 1, document: str | None = None, heading: str = "", start: int = 0) -> PageText:
    return PageText(number, document, start, start + len(text), text, 1, heading)


def test_texts_are_taken_as_they_are(engine: Callable[..., Engine]):
    made = engine({280: "The dome is copper."})
    parts = [a_text("The mast is oak.\n\nThe oven is", 1), a_page(1, 2), a_text("The lamp burns\noil.", 3)]
    seen = events(OCRReader(), parts, "What does the lamp burn?")
    assert seen[0] == PageRead(1, 1)
    assert not isinstance(seen[1], PageRead)
    last = seen[-1]
    assert isinstance(last, ReadResult)
    assert made.calls == 1
    assert "The lamp burns oil." in last.text


def test_an_empty_line_in_a_text_parts_paragraphs(engine: Callable[..., Engine]):
    engine({280: "unused"})
    parts = [a_text("The mast is oak.\n\n", 1), a_text("The lamp is brass.\n\nThe oven is iron.", 1, start=18)]
    found = result(OCRReader(), parts, "lamp")
    assert [quote.text for quote in found.quotes] == ["The lamp is brass."]


def test_pages_are_counted_over_pictures_and_texts(engine: Callable[..., Engine]):
    engine({280: "The dome is copper."})
    parts = [
        a_text("The mast is oak.", 7, "mast.txt", "=== mast.txt ===\n"),
        a_text("The deck is pine.", 7, "mast.txt", start=16),
        a_text("The lamp is brass.", 8, "mast.txt", start=33),
        a_page(1, 1, "hall.txt"),
        ExactList((), "Exact spellings on these pages:", 5),
    ]
    found = result(OCRReader(), parts, "dome")
    assert [(quote.page, quote.document) for quote in found.quotes] == [(3, "hall.txt")]
    assert found.text == "[hall.txt, page 1] “The dome is copper.”"
    assert result(OCRReader(), parts[:3], "dome").text == "No passage on the 2 pages matches the question."


def test_listed_strings_replace_what_was_read_for_them_on_their_page_only(engine: Callable[..., Engine]):
    engine({280: "The key is INV-2O24-0O931 here."})
    exact = ExactList((ExactStrings(None, 1, ("INV-2024-00931",)),), "", 0)
    parts = [a_page(1, 1), a_page(1, 2), exact]
    reader = OCRReader()
    assert result(reader, [parts[0], exact], "key").quotes[0].text == "The key is INV-2024-00931 here."
    assert result(reader, [parts[1], exact], "key").quotes[0].text == "The key is INV-2O24-0O931 here."
    assert reader.transcribe(a_page(1)) == ("The key is INV-2O24-0O931 here.",)
