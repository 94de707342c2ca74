"""Certificates as files: read back as they were written, never when changed; and verifying names exactly what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glyph_pipeline import Document, RenderConfig
from glyph_pipeline.errors import InputError, UsageError
from glyph_pipeline.experiments.certificate import Certificate, CertifySettings, ReaderIdentity
from glyph_pipeline.experiments.certifying import certify
from glyph_pipeline.experiments.planting import Specimen
from glyph_pipeline.experiments.transcribing import Transcript
from glyph_pipeline.experiments.verifying import Difference, measure_again
from tests.support.command import SAMPLE

CONFIG = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False, page_size="300,200")
DOCUMENTS = [Document(SAMPLE.read_text("utf-8")[:3000], id="first.txt"), Document("A short one.", id="second.txt")]


class Weak:
    """Reads page 2 wrong below 100 dpi, and drops a letter elsewhere."""

    concurrency = 1

    def __init__(self, name: str = "weak", dropped: int = 1) -> None:
        self.identity = ReaderIdentity(kind="test", name=name)
        self.dropped = dropped

    async def transcribe(self, specimen: Specimen) -> Transcript:
        blind = specimen.page.number == 2 and specimen.page.height < 250
        first, *rest = specimen.chosen
        return Transcript(() if blind else (first[: -self.dropped], *rest), whole=False)

    async def aclose(self) -> None:
        pass


CERTIFICATE = certify(DOCUMENTS, CONFIG, Weak(), settings=CertifySettings(max_cer=0.2, lines=5, planted=3))


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path
    else:
        for key, inner in items:
            yield from leaves(inner, (*path, key))


WRITTEN = json.loads(CERTIFICATE.to_json())
LEAVES = list(leaves(WRITTEN))


def changed(path: tuple[str | int, ...], value: Any) -> bytes:
    data = json.loads(CERTIFICATE.to_json())
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(data).encode()


def test_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "cert.json"
    CERTIFICATE.write(path)
    assert Certificate.read(path) == CERTIFICATE
    assert Certificate.read(path).to_json() == path.read_text("utf-8")
    # Spaces are no content.
    path.write_text(json.dumps(WRITTEN, indent=4), "utf-8")
    assert Certificate.read(path) == CERTIFICATE
    assert CERTIFICATE.render_config == CONFIG


@given(st.sampled_from(LEAVES), st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats() | st.text(max_size=5) | st.just([]))
def test_no_value_can_be_changed(path: tuple[str | int, ...], value: Any) -> None:
    inner: Any = WRITTEN
    for key in path:
        inner = inner[key]
    if type(value) is type(inner) and value == inner:
        return
    with pytest.raises(InputError):
        Certificate.parse(changed(path, value), "cert.json")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no 'kind'"),
        (b'{"kind": "a cake"}', "no 'kind'"),
        (changed(("schema_version",), 2), "schema version 2; this version reads 1"),
        (changed(("documents", 0, "pages", 1, "dpi"), "120"), "documents.0.pages.1.dpi: Input should be a valid integer"),
        (changed(("documents", 0, "pages", 1, "more"), 1), "documents.0.pages.1.more: Extra inputs are not permitted"),
        (changed(("documents", 0, "pages", 1, "text", "errors"), 0), "cer is not 0 /"),
        (changed(("documents", 0, "pages", 2, "passed"), False), "whether page 3 of 'first.txt' passed"),
        (changed(("documents", 0, "pages", 2, "start"), 5), "does not follow"),
        (changed(("summary", "ratio"), 9.5), "summary"),
        (changed(("config", "dpi"), 5), "dpi"),
        (changed(("reader", "name"), "strong"), "was changed after it was written"),
        (changed(("digest",), "0" * 64), "was changed after it was written"),
    ],
)
def test_what_is_no_certificate_is_named(data: bytes, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Certificate.parse(data, "cert.json")
    assert words in str(caught.value)
    assert "cert.json" in str(caught.value)
    assert caught.value.hint


def test_missing_keys_are_named() -> None:
    data = json.loads(CERTIFICATE.to_json())
    del data["documents"][1]["pages"][0]["sha256"]
    with pytest.raises(InputError, match=r"documents\.1\.pages\.0\.sha256: Field required"):
        Certificate.parse(json.dumps(data).encode(), "cert.json")


def test_it_holds_while_nothing_changes() -> None:
    assert [page.dpi for page in CERTIFICATE.documents[0].pages][:3] == [72, 96, 72]
    assert CERTIFICATE.verify(DOCUMENTS) == []
    # Names are not what is certified.
    assert CERTIFICATE.verify([Document(document.text, id="moved") for document in DOCUMENTS]) == []


def test_a_changed_text_is_told_and_the_pages_on_which_it_shows() -> None:
    first, second = DOCUMENTS
    place = CERTIFICATE.documents[0].pages[1].start + 40
    other = "#" if first.text[place] != "#" else "+"
    edited = Document(first.text[:place] + other + first.text[place + 1 :], id=first.id)
    found = CERTIFICATE.verify([edited, second])
    assert [(one.document, one.page, one.what) for one in found] == [
        ("first.txt", None, "sha256 of the text"),
        ("first.txt", 2, "sha256 of the PNG"),
    ]
    assert found[1].expected == CERTIFICATE.documents[0].pages[1].sha256 != found[1].found
    assert str(found[1]).startswith("first.txt, page 2: sha256 of the PNG: certified ")
    shorter = CERTIFICATE.verify([Document(first.text[:100], id=first.id), second])
    assert Difference("first.txt", None, "characters", len(first.text), 100) in shorter
    assert Difference("first.txt", 3, "page", "drawn", "not there") in shorter
    assert {one.document for one in CERTIFICATE.verify([first, Document("Another one.", id="x")])} == {"second.txt"}


def test_another_font_file_is_told(tmp_path: Path) -> None:
    data = json.loads(CERTIFICATE.to_json())
    other = CERTIFICATE.fonts[0].model_copy(update={"sha256": "0" * 64})
    certificate = CERTIFICATE.model_copy(update={"fonts": (other,)})
    (found,) = certificate.verify(DOCUMENTS)
    assert (found.document, found.page) == (None, None)
    assert str(found) == f"fonts (file sha256): certified DejaVuSans.ttf {'0' * 64}, found DejaVuSans.ttf {data['fonts'][0]['sha256']}"


def test_as_many_documents_as_are_certified() -> None:
    with pytest.raises(UsageError, match=r"of 2 documents, and 1 were given.*first\.txt, second\.txt"):
        CERTIFICATE.verify(DOCUMENTS[:1])


def test_what_is_measured_again_is_the_same_with_the_same_reader() -> None:
    assert measure_again(CERTIFICATE, DOCUMENTS, Weak()) == []
    found = measure_again(CERTIFICATE, DOCUMENTS, Weak("weaker", dropped=2))
    assert (found[0].what, found[0].expected, found[0].found) == ("reader", "test weak", "test weaker")
    page = CERTIFICATE.documents[0].pages[0].text
    assert found[2] == Difference("first.txt", 1, "text, wrong characters", f"1 of {page.characters}", f"2 of {page.characters}")
    assert [(one.document, one.page) for one in found[-2:]] == [("second.txt", 1)] * 2
