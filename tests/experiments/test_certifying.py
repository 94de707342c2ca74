"""Certifying with readers whose mistakes are known: what decides, what is drawn again, what is kept, and that nothing else is read."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from glyph_pipeline import Document, RenderConfig
from glyph_pipeline.errors import ConfigError, ReadError
from glyph_pipeline.experiments.certificate import CertifySettings, ReaderIdentity
from glyph_pipeline.experiments.certifying import PageMeasured, certify
from glyph_pipeline.experiments.planting import ALPHABETS, Planter, Specimen, inked, lot_of
from glyph_pipeline.experiments.transcribing import PROMPT, ModelTranscriber, Transcript, errors_in
from glyph_pipeline.page import Page
from glyph_pipeline.reading.reader import ReadResult, Retrying, Usage
from glyph_pipeline.rendering.renderer import Renderer
from tests.support.command import REPOSITORY, SAMPLE

CONFIG = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False, page_size="400,300", auto_crop_width=False)
TEXT = SAMPLE.read_text("utf-8")[:6000]
GOLDENS = REPOSITORY / "tests" / "goldens"


class Knowing:
    """A reader that knows what was drawn, and gets wrong what ``errs`` says: the lines as it reads them."""

    def __init__(self, errs: Callable[[Specimen], Sequence[str]] = lambda specimen: specimen.chosen, concurrency: int = 1) -> None:
        self.concurrency = concurrency
        self.errs = errs
        self.read: list[Specimen] = []

    @property
    def identity(self) -> ReaderIdentity:
        return ReaderIdentity(kind="test", name="knowing")

    async def transcribe(self, specimen: Specimen) -> Transcript:
        self.read.append(specimen)
        if self.concurrency > 1:
            await asyncio.sleep(0)
        return Transcript(tuple(self.errs(specimen)), whole=False)

    async def aclose(self) -> None:
        pass


def dpi_of(page: Page) -> int:
    return round(page.width * 72 / 400)


def is_planted(specimen: Specimen) -> bool:
    return all(any(set(line) <= set(letters) for letters in ALPHABETS) for line in specimen.chosen)


def test_pages_that_pass_are_certified_as_they_are_drawn() -> None:
    reader = Knowing()
    certificate = certify(Document(TEXT, id="a.txt"), CONFIG, reader, settings=CertifySettings(lines=5, planted=3))
    pages = list(Renderer(CONFIG).render(Document(TEXT, id="a.txt")))
    (document,) = certificate.documents
    assert len(document.pages) == len(pages) == 4
    for one, page in zip(document.pages, pages, strict=True):
        assert (one.start, one.end, one.width, one.height) == (page.start, page.end, page.width, page.height)
        assert one.sha256 == hashlib.sha256(page.png).hexdigest()
        assert (one.text.errors, one.planted.errors, one.passed) == (0, 0, True)
        assert [attempt.dpi for attempt in one.attempts] == [72]
    assert certificate.passed
    assert certificate.summary.vision_tokens == sum(page.vision_tokens for page in pages)
    assert certificate.summary.text.characters == sum(page.text.characters for page in document.pages) > 1000
    own = [specimen for specimen in reader.read if not is_planted(specimen)]
    assert [len(specimen.places) for specimen in own[:-1]] == [5, 5, 5]
    assert len({specimen.places for specimen in own}) > 1  # not the same lines of every page
    assert [len(specimen.places) for specimen in reader.read if is_planted(specimen)] == [3, 3, 3, 3]


def test_only_pages_over_the_threshold_are_drawn_again_and_until_they_pass() -> None:
    def errs(specimen: Specimen) -> list[str]:
        blind = specimen.page.number == 2 and dpi_of(specimen.page) < 120
        return [line.replace("e", "c") for line in specimen.chosen] if blind else specimen.chosen

    reader = Knowing(errs)
    certificate = certify(TEXT, CONFIG, reader, settings=CertifySettings(lines=0))
    at = {page.number: [attempt.dpi for attempt in page.attempts] for page in certificate.documents[0].pages}
    assert at == {1: [72], 2: [72, 96, 120], 3: [72], 4: [72]}
    assert {(specimen.page.number, dpi_of(specimen.page)) for specimen in reader.read} == {
        (1, 72), (2, 72), (3, 72), (4, 72), (2, 96), (2, 120),
    }  # fmt: skip
    page = certificate.documents[0].pages[1]
    expected = next(Renderer(CONFIG.replace(dpi=120)).render(TEXT, only=frozenset({2})))
    assert (page.dpi, page.sha256) == (120, hashlib.sha256(expected.png).hexdigest())
    assert page.attempts[0].text_cer > 0.02 >= page.attempts[2].text_cer
    assert certificate.passed
    assert certificate.settings.dpi_steps == (96, 120, 150, 200)
    assert [(at.dpi, at.pages) for at in certificate.summary.pages_by_dpi] == [(72, 3), (120, 1)]


def test_what_never_passes_has_failed_at_the_last_step() -> None:
    reader = Knowing(lambda specimen: [])
    certificate = certify(TEXT[:900], CONFIG, reader, settings=CertifySettings(dpi_steps=(84, 100)))
    (page,) = certificate.documents[0].pages
    assert (page.dpi, page.passed, page.text.cer, page.planted.cer) == (100, False, 1.0, 1.0)
    assert [attempt.dpi for attempt in page.attempts] == [72, 84, 100]
    assert (certificate.passed, certificate.summary.passed_pages) == (False, 0)
    only = certify(TEXT[:900], CONFIG, reader, settings=CertifySettings(dpi_steps=()))
    assert [attempt.dpi for attempt in only.documents[0].pages[0].attempts] == [72]


def test_planted_strings_decide_where_prose_is_read_well() -> None:
    def guesses(specimen: Specimen) -> list[str]:
        return ["0" * len(line) for line in specimen.chosen] if is_planted(specimen) else specimen.chosen

    settings = CertifySettings(dpi_steps=())
    (page,) = certify(TEXT[:900], CONFIG, Knowing(guesses), settings=settings).documents[0].pages
    assert (page.text.errors, page.passed) == (0, False)
    assert page.planted.cer > 0.8
    unplanted = CertifySettings(dpi_steps=(), planted=0)
    (page,) = certify(TEXT[:900], CONFIG, Knowing(guesses), settings=unplanted).documents[0].pages
    assert (page.planted.characters, page.passed) == (0, True)


def test_more_than_was_drawn_is_wrong_too() -> None:
    reader = Knowing(lambda specimen: [*specimen.chosen, "and on and on " * 1000])
    certificate = certify("A short text.", CONFIG, reader, settings=CertifySettings(dpi_steps=()))
    (page,) = certificate.documents[0].pages
    assert page.text.cer > 1
    assert (certificate.summary.text.cer, certificate.summary.text.high) == (page.text.cer, 1.0)


def test_of_a_blank_page_nothing_is_read() -> None:
    reader = Knowing()
    pages = certify("above" + "\n" * 80 + "below", CONFIG, reader).documents[0].pages
    assert len(pages) == 4
    assert [page.text.characters for page in pages] == [5, 0, 0, 5]
    assert all(page.passed for page in pages)
    assert {specimen.page.number for specimen in reader.read} == {1, 4}


def test_several_documents_and_readers_side_by_side_give_the_same_certificate() -> None:
    documents = [Document(TEXT, id="a"), Document(TEXT[::-1], id="b"), Document("A last one.", id="a")]

    def errs(specimen: Specimen) -> list[str]:
        return [] if specimen.page.number == 3 and dpi_of(specimen.page) < 96 else specimen.chosen

    one = certify(documents, CONFIG, Knowing(errs))
    assert [document.id for document in one.documents] == ["a", "b", "a (2)"]
    assert one.to_json() == certify(documents, CONFIG, Knowing(errs, concurrency=5)).to_json()
    assert certify(documents, CONFIG, Knowing(errs), settings=CertifySettings(seed=2)) != one


def test_a_run_that_failed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = certify(TEXT, CONFIG, Knowing())

    def fails(specimen: Specimen) -> list[str]:
        if specimen.page.number == 3:
            raise ReadError("The server broke off its answer.")
        return specimen.chosen

    first = Knowing(fails)
    with pytest.raises(ReadError):
        certify(TEXT, CONFIG, first, journal=tmp_path / "kept.jsonl")
    assert {specimen.page.number for specimen in first.read} == {1, 2, 3}
    told: list[PageMeasured] = []
    second = Knowing()
    assert certify(TEXT, CONFIG, second, journal=tmp_path / "kept.jsonl", on_page=told.append) == whole
    assert {specimen.page.number for specimen in second.read} == {3, 4}
    assert [(page.number, page.known) for page in told] == [(1, True), (2, True), (3, False), (4, False)]
    third = Knowing()
    again = certify(TEXT, CONFIG, third, journal=tmp_path / "kept.jsonl", settings=CertifySettings(max_cer=0.5))
    assert (third.read, again.documents) == ([], whole.documents)  # another threshold needs no other reading
    certify(TEXT, CONFIG, third, journal=tmp_path / "kept.jsonl", settings=CertifySettings(seed=2))
    assert {specimen.page.number for specimen in third.read} == {1, 2, 3, 4}


def test_impossible_steps_are_said_before_anything_is_read() -> None:
    reader = Knowing()
    for steps in ((72,), (60, 96), (120, 96), (96, 96), (96, 601)):
        with pytest.raises(ConfigError):
            certify(TEXT, CONFIG, reader, settings=CertifySettings(dpi_steps=steps))
    with pytest.raises(ConfigError, match="megapixels"):
        certify(TEXT, CONFIG.replace(page_size="4000,4000"), reader)
    assert reader.read == []


# -- what is planted -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "text", "changes"),
    [
        ("en", TEXT, {}),
        ("en", TEXT, {"first_line_indent": 30, "alignment": "JUSTIFY", "space_after": 5}),
        ("columns", TEXT * 3, {}),
        ("newline-mark", (REPOSITORY / "glyph_pipeline" / "errors.py").read_text("utf-8"), {}),
        ("code", (REPOSITORY / "glyph_pipeline" / "errors.py").read_text("utf-8"), {}),
        ("zh", (GOLDENS / "chinese.txt").read_text("utf-8") * 5, {}),
        ("en", (GOLDENS / "arabic.txt").read_text("utf-8") * 5, {}),
        ("en", TEXT, {"page_size": "60,200"}),
        ("tight", TEXT, {"horizontal_scale": 0.9}),
    ],
)
def test_each_string_stands_on_one_line_at_every_resolution(preset: str, text: str, changes: dict[str, object]) -> None:
    config = RenderConfig.preset(preset).replace(system_fonts=False, **changes)
    strings = []
    for dpi in (72, 120):
        drawn = config.replace(dpi=dpi)
        page = next(Renderer(drawn).render(text))
        specimen = Planter(drawn).planted(page, 6, lot_of(1, "text", 1))
        assert specimen is not None
        assert len(specimen.places) == 6
        assert specimen.page.width >= page.width
        assert specimen.page.height >= page.height
        assert specimen.lines == inked(specimen.page)
        lengths = [len(line) for line in specimen.chosen]
        assert min(lengths) >= 3
        strings.append(specimen.chosen)
    assert strings[0] == strings[1]
    assert len(set(strings[0])) == 6


def test_a_string_is_about_as_wide_as_the_line_it_stands_for() -> None:
    text = "\n".join("A line of an even length, about half the page." for _ in range(20))
    page = next(Renderer(CONFIG).render(text))
    specimen = Planter(CONFIG).planted(page, 9, "lot")
    assert specimen is not None
    plain = next(Renderer(CONFIG.replace(auto_crop_width=True)).render(text)).width
    planted = next(Renderer(CONFIG.replace(auto_crop_width=True)).render("\n".join(specimen.chosen))).width
    assert 0.95 * plain <= planted <= plain


# -- how errors are counted ----------------------------------------------------------------------------------------------------

PAGE = Page(1, 28, 28, b"", 0, 1, ())
LINES = st.lists(st.text("abcd 1", min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=6)


@given(LINES, st.text("abcd 1\n", max_size=60))
def test_the_errors_of_all_lines_together_are_those_of_the_page(lines: list[str], read: str) -> None:
    transcript = Transcript(tuple(read.splitlines()), whole=True)
    drawn, every = tuple(lines), range(len(lines))
    whole = errors_in(Specimen(PAGE, drawn, tuple(every)), transcript)
    assert whole.errors == Levenshtein.distance(" ".join(" ".join(lines).split()), " ".join(read.split()))
    assert sum(errors_in(Specimen(PAGE, drawn, (place,)), transcript).errors for place in every) == whole.errors


def test_of_a_whole_transcript_only_the_lines_that_count_are_measured() -> None:
    drawn = ("The harbour lantern", "was lit at six", "and put out at eight")
    read = Transcript(("Here is the text:", "Tne harbour lantern", "was lit at six", "and put out ot ei8ht."), whole=True)
    errors = [errors_in(Specimen(PAGE, drawn, (place,)), read) for place in range(3)]
    assert [(count.errors, count.of) for count in errors] == [(19, 19), (0, 14), (3, 20)]
    part = Transcript(("was lit ot six", "and put out at eight"), whole=False)
    assert errors_in(Specimen(PAGE, drawn, (1, 2)), part).errors == 1


# -- a language model ----------------------------------------------------------------------------------------------------------


class Answering:
    """A Reader as the pipeline knows them, that answers with what was drawn."""

    name = "served/model"

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[tuple[int, str, int | None]] = []

    async def read(self, pages: Sequence[Page], question: str, *, max_tokens: int | None = None):  # type: ignore[no-untyped-def]
        self.asked.append((len(pages), question, max_tokens))
        yield Retrying("The server said nothing.", 0.0)
        yield ReadResult(self.text, "", "stop", Usage())

    async def aclose(self) -> None:
        pass


def test_a_model_is_asked_once_a_picture_and_its_answer_is_bounded() -> None:
    text = "The harbour lantern was lit at six.\nIt was put out at eight."
    reader = Answering(text)
    retries: list[str] = []
    asked = ModelTranscriber(reader, max_model_len=1200, on_retry=retries.append)
    certificate = certify(text, CONFIG, asked, settings=CertifySettings(dpi_steps=(), planted=1))
    (page,) = certificate.documents[0].pages
    assert (page.text.errors, page.text.cer) == (0, 0.0)
    assert page.planted.cer > 0.5
    assert [(pages, question) for pages, question, _ in reader.asked] == [(1, PROMPT)] * 2
    # Room for reasoning and the page's characters, and no more than its picture leaves of the context.
    assert 0 < (reader.asked[0][2] or 0) < 1200 - page.vision_tokens
    assert len(retries) == 2
    assert certificate.reader == ReaderIdentity(kind="vllm", name="OpenAI-compatible server", model="served/model")
