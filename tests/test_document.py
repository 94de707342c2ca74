"""Documents: reading files whatever their encoding, and saying clearly what is none."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from glyph_pipeline import Document
from glyph_pipeline.document import as_documents
from glyph_pipeline.errors import BinaryDocumentError, EmptyDocumentError, EncodingError, InputError

TEXT = "Ωμέγα, Привет, Zürich\r\nsecond line\n"


def write(folder: Path, data: bytes) -> Path:
    path = folder / "given.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    ],
)
def test_the_byte_order_mark_decides_else_utf8(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, data)
    document = Document.read(path)
    assert (document.text, document.id) == (TEXT, str(path))


def test_a_named_encoding(tmp_path: Path) -> None:
    assert Document.read(write(tmp_path, "Zürich".encode("cp1252")), "cp1252").text == "Zürich"
    assert Document.read(write(tmp_path, "中文".encode("gb18030")), "gb18030").text == "中文"


def test_broken_utf8_names_offset_and_line(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"0xE9 at offset 11 \(line 3\).*--encoding"):
        Document.read(write(tmp_path, b"one\ntwo\ncaf\xe9"))


@pytest.mark.parametrize(
    "data",
    [b"PK\x03\x04x", b"\x89PNG\r\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"\x1f\x8b\x08", b"\x7fELF", b"text\x00more", b"a\x1a"],
)
def test_what_is_not_text(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BinaryDocumentError, match=r"given\.txt"):
        Document.read(write(tmp_path, data))


def test_offsets_count_from_the_files_first_byte(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"0xFF at offset 6 \(line 1\)"):
        Document.read(write(tmp_path, codecs.BOM_UTF8 + b"abc\xffde"))


@pytest.mark.parametrize("name", ["utf8", "UTF-8", "utf-8-sig"])
def test_control_characters_are_refused_however_utf8_is_spelt(tmp_path: Path, name: str) -> None:
    with pytest.raises(BinaryDocumentError):
        Document.read(write(tmp_path, b"a\x00bc"), name)
    assert Document.read(write(tmp_path, codecs.BOM_UTF8 + b"abc"), name).text == "abc"


@pytest.mark.parametrize("name", ["klingon", "undefined", "base64", "rot13"])
def test_encodings_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(EncodingError):
        Document.read(write(tmp_path, b"abc"), name)


@pytest.mark.parametrize("data", [b"", b"  \n\t", codecs.BOM_UTF8, " \n".encode("utf-16")])
def test_what_is_empty(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(EmptyDocumentError, match=r"given\.txt"):
        Document.read(write(tmp_path, data))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        Document.read(tmp_path / "nothing")
    with pytest.raises(InputError, match="is a folder"):
        Document.read(tmp_path)
    with pytest.raises(InputError, match="can't be read"):
        Document.read("nul\0byte")


def test_what_the_public_functions_take() -> None:
    one, two = Document("one", id="1"), Document("two", id="2")
    assert [document.text for document in as_documents("text")] == ["text"]
    assert as_documents(one) == [one]
    assert as_documents(document for document in (one, two)) == [one, two]
    for nothing in ("", " \n", "\u200b\u00ad \n", [], [one, Document(" ", id="blank")]):
        with pytest.raises(EmptyDocumentError):
            as_documents(nothing)  # type: ignore[arg-type]
