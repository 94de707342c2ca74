"""PDF, Word and HTML files wherever a path is taken: their words arrive, in order, and what can't be converted says why."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import docx
import pytest
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen import canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate

from glyph_pipeline import Document, conversion
from glyph_pipeline.errors import BinaryDocumentError, EmptyDocumentError, EncodingError, InputError
from tests.support.command import glyph_compress

FACT = "The harbour lantern was lit by Ottoline Marsh in 1907."
PARAGRAPHS = [f"Paragraph {number} tells of ships, of rain and of the price of rope." for number in range(60)]


def pdf(path: Path, encrypt: StandardEncryption | None = None) -> Path:
    style = getSampleStyleSheet()["Normal"]
    SimpleDocTemplate(str(path), encrypt=encrypt).build([Paragraph(text, style) for text in [*PARAGRAPHS, FACT]])
    return path


def word(path: Path) -> Path:
    document = docx.Document()
    document.add_heading("The lantern", level=1)
    for text in [*PARAGRAPHS, FACT]:
        document.add_paragraph(text)
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "rope", "12 crowns"
    picture = io.BytesIO()
    Image.new("L", (40, 40), 128).save(picture, "PNG")
    document.add_picture(picture)
    document.save(str(path))
    return path


def html(path: Path) -> Path:
    items = "".join(f"<p>{text}</p>" for text in PARAGRAPHS)
    path.write_text(
        f"<!doctype html><html><head><title>x</title><style>p {{color: red}}</style><script>var secret = 'script';</script></head>"
        f"<body><h1>The lantern</h1>{items}<p>{FACT}</p><p>Rope &amp; tar, 5&nbsp;&euro;</p>"
        "<table><tr><th>rope</th><th>12 crowns</th></tr></table></body></html>",
        "utf-8",
    )
    return path


@pytest.mark.parametrize(("make", "name"), [(pdf, "a.pdf"), (word, "a.docx"), (html, "a.html"), (html, "A.HTM")])
def test_the_words_arrive_in_order(make: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    path = make(tmp_path / name)
    document = Document.read(path)
    assert document.id == str(path)
    words = " ".join(document.text.split())
    places = [words.index(text) for text in [*PARAGRAPHS, FACT]]
    assert places == sorted(places)
    for unwanted in ("secret", "color: red", "base64,", "<p>", "\x00"):
        assert unwanted not in document.text
    if make is not pdf:
        assert "# The lantern" in document.text
        assert "| rope | 12 crowns |" in document.text
    if make is html:
        assert "Rope & tar, 5\xa0€" in document.text
    assert Document.read(path) == document


def test_a_pdf_is_known_by_its_content_and_html_by_its_name(tmp_path: Path) -> None:
    renamed = pdf(tmp_path / "report.bin")
    assert FACT in " ".join(Document.read(renamed).text.split())
    source = html(tmp_path / "page.html").read_text("utf-8")
    as_text = tmp_path / "page.txt"
    as_text.write_text(source, "utf-8")
    assert Document.read(as_text).text == source
    assert Document.read(tmp_path / "page.html", convert=False).text == source
    with pytest.raises(BinaryDocumentError, match="a PDF"):
        Document.read(renamed, convert=False)


@pytest.mark.parametrize("declared", ["latin-1", None])
def test_html_says_its_encoding_or_is_told(declared: str | None, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    meta = f"<meta charset='{declared}'>" if declared else ""
    path.write_bytes(f"<html><head>{meta}</head><body>Käse und Brötchen</body></html>".encode("latin-1"))
    if declared is None:
        with pytest.raises(EncodingError, match="not valid utf-8"):
            Document.read(path)
    assert "Käse und Brötchen" in Document.read(path, "latin-1" if declared is None else None).text
    path.write_bytes("<html><body>Käse</body></html>".encode("utf-16"))
    assert "Käse" in Document.read(path).text
    path.write_bytes(b"<html><head><meta charset='klingon'></head><body>x</body></html>")
    with pytest.raises(EncodingError, match="klingon"):
        Document.read(path)
    path.write_bytes(b"<html><head><meta charset='a\x00b'></head><body>x</body></html>")
    with pytest.raises(EncodingError, match="no encoding"):
        Document.read(path)


def test_warnings_are_caught_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second that caught them meanwhile would put the first one's silence back for the whole process."""
    before = list(warnings.filters)
    waiting: list[bool] = []

    class Lock:
        def __enter__(self) -> None:
            waiting.append(list(warnings.filters) == before)

        def __exit__(self, *failure: object) -> None:
            waiting.append(list(warnings.filters) == before)

    monkeypatch.setattr(conversion, "_lock", Lock())
    assert FACT in Document.read(html(tmp_path / "a.html")).text
    assert waiting == [True, True]


def test_comments_before_the_first_tag(tmp_path: Path) -> None:
    comments = "<!-- > -- -->\n<!---->" * 150
    path = tmp_path / "page"
    path.write_text(f"{comments}<html><body><p>Rope</p></body></html>")
    assert Document.read(path).text == "Rope"
    path.write_text(f"{comments}Rope")  # a reader of them that tried every way to part them would take for ever
    assert Document.read(path).text == f"{comments}Rope"


def test_a_word_document_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = word(tmp_path / "a.docx")
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
    monkeypatch.setattr(conversion, "MAX_UNPACKED", size)
    assert FACT in Document.read(path).text
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/media/zeros", bytes(1_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=rf"unpacks to {size + 1_000_000:,} bytes"):
        Document.read(path)


def test_what_cannot_be_converted_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = pdf(tmp_path / "whole.pdf").read_bytes()
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(whole[:200])
    with pytest.raises(InputError, match=r"broken\.pdf' is a PDF"):
        Document.read(broken)
    with pytest.raises(InputError, match="without its password"):
        Document.read(pdf(tmp_path / "locked.pdf", StandardEncryption("key", "owner")))
    with zipfile.ZipFile(tmp_path / "broken.docx", "w") as archive:
        archive.writestr("word/document.xml", "<no")
    with pytest.raises(InputError, match=r"broken\.docx' is a Word document that can't be converted"):
        Document.read(tmp_path / "broken.docx")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(BinaryDocumentError, match="ZIP"):
        Document.read(tmp_path / "other.zip")
    scanned = canvas.Canvas(str(tmp_path / "scanned.pdf"))
    scanned.drawImage(ImageReader(Image.new("L", (200, 200), 128)), 50, 50)
    scanned.save()
    with pytest.raises(EmptyDocumentError, match="pictures"):
        Document.read(tmp_path / "scanned.pdf")
    (tmp_path / "empty.html").write_text("<html><body> </body></html>")
    with pytest.raises(EmptyDocumentError, match="HTML") as caught:
        Document.read(tmp_path / "empty.html")
    assert "OCR" not in str(caught.value)  # that is advice for pictures of pages
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [("PDF_SECONDS", 3.0, "not converted within 3 s"), ("PDF_MEMORY", 700_000_000, "more than 0.7 GiB of memory")],
)
def test_a_pdf_that_never_ends_is_given_up(
    limit: str, value: float, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bomb = tmp_path / "bomb.pdf"
    drawing = canvas.Canvas(str(bomb), pageCompression=1)
    drawing._code = ["1 0 0 1 0 0 cm BT ET " * 20_000_000]  # 440 MB, of which zlib makes half a megabyte
    drawing.save()
    assert bomb.stat().st_size < 3_000_000
    monkeypatch.setattr(conversion, limit, value)
    with pytest.raises(InputError, match=re.escape(words)):
        Document.read(bomb)
    assert capfd.readouterr() == ("", "")


def test_the_command_takes_them_as_files_in_folders_and_from_standard_input(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pdf(folder / "a.pdf"), word(folder / "b.docx"), html(folder / "c.html")
    done = glyph_compress("render", folder / "a.pdf", folder / "b.docx", "-o", tmp_path / "pages", state=tmp_path)
    assert done.returncode == 0, done.stderr
    pages = json.loads((tmp_path / "pages" / "pages.json").read_text())["pages"]
    text = Document.read(folder / "a.pdf").text
    assert [page["end"] for page in pages if page["document"] == str(folder / "a.pdf")][-1] == len(text)
    done = glyph_compress("-", "--json", state=tmp_path, stdin=(folder / "c.html").read_bytes())
    assert json.loads(done.stdout)["report"]["characters"] == len(Document.read(folder / "c.html").text)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing")
    done = glyph_compress(folder / "broken.pdf", state=tmp_path)
    assert done.returncode == 4
    assert done.stderr.startswith(f"Error: '{folder / 'broken.pdf'}' is a PDF that can't be converted")


@pytest.mark.ocr
def test_a_batch_reads_a_folder_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pdf(folder / "a.pdf"), word(folder / "b.docx"), html(folder / "c.html")
    (folder / "d.pdf").write_bytes(b"%PDF-1.7\nnothing")
    asked = ("batch", folder, "-o", tmp_path / "out.jsonl", "-q", "Who lit the harbour lantern in 1907?", "--reader", "ocr")
    done = glyph_compress(*asked, state=tmp_path)
    assert done.returncode == 12, done.stderr
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "out.jsonl").read_text("utf-8").splitlines())}
    for name in ("a.pdf", "b.docx", "c.html"):
        assert "Ottoline Marsh" in rows[name]["answer"].split("\n\n")[0]
    assert rows["d.pdf"]["status"] == "failed"


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "markitdown.py").write_text("raise ImportError('not here')")
    done = glyph_compress(pdf(tmp_path / "a.pdf"), state=tmp_path, PYTHONPATH=str(tmp_path / "without"))
    assert done.returncode == 6
    assert "glyph-pipeline[docs]" in done.stderr
    (tmp_path / "partly").mkdir()
    (tmp_path / "partly" / "mammoth.py").write_text("raise ImportError('not here')")
    done = glyph_compress(word(tmp_path / "a.docx"), state=tmp_path, PYTHONPATH=str(tmp_path / "partly"))
    assert done.returncode == 6
    assert "glyph-pipeline[docs]" in done.stderr
