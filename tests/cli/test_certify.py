"""glyph-compress certify with the real OCR: certificates, pages drawn again, verification, and every way to be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glyph_pipeline import Document, RenderConfig
from glyph_pipeline.errors import EXIT_INTERRUPTED, EXIT_NOT_CERTIFIED, ReadError
from glyph_pipeline.experiments.certificate import Certificate
from tests.support.command import SAMPLE, glyph_compress
from tests.support.fake_openai import Fake, Held, in_turn, refuses, running, says
from tests.support.processes import command, interrupt, text_of

TEXT = SAMPLE.read_text("utf-8")[:2600]
# Pages of a few lines in print so small that 72 dpi can't be enough.
SMALL = ("--page-size", "240,120", "--font-size", "5", "--set", "line-height=5.5", "--no-system-fonts")


@pytest.fixture
def doc(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8")
    return path


@pytest.mark.ocr
def test_small_print_is_drawn_again_until_it_is_read(doc: Path, tmp_path: Path) -> None:
    asked = ("certify", doc, *SMALL, "--lines", "6", "--planted", "3", "--max-cer", "0.04", "--pages", tmp_path / "pages")
    done = glyph_compress(*asked, "-o", tmp_path / "cert.json", "--json", state=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    certificate = Certificate.read(tmp_path / "cert.json")
    summary = json.loads(done.stdout)
    assert summary["passed"] is True
    assert summary["text"]["cer"] == certificate.summary.text.cer <= 0.04
    pages = certificate.documents[0].pages
    assert summary["pages"] == len(pages) >= 2
    assert all(page.dpi > 72 and page.attempts[0].planted_cer > 0.04 for page in pages)
    assert "pages        " in done.stderr
    assert f"{len(pages)} of {len(pages)} pass" in done.stderr
    kept = json.loads((tmp_path / "pages" / "pages.json").read_text("utf-8"))
    assert [(page["number"], page["sha256"]) for page in kept["pages"]] == [(page.number, page.sha256) for page in pages]
    assert kept["report"]["ratio"] == certificate.summary.ratio
    # The same bytes from a run that knows nothing, and from one that has nothing left to read.
    first = (tmp_path / "cert.json").read_bytes()
    other = glyph_compress(*asked, "-o", tmp_path / "other.json", "--quiet", state=tmp_path, cwd=tmp_path)
    assert (other.returncode, other.stdout, other.stderr) == (0, "", "")
    assert (tmp_path / "other.json").read_bytes() == first
    readings = (tmp_path / "cert.readings.jsonl").read_bytes()
    glyph_compress(*asked, "-o", tmp_path / "cert.json", state=tmp_path, cwd=tmp_path)
    assert (tmp_path / "cert.json").read_bytes() == first
    assert (tmp_path / "cert.readings.jsonl").read_bytes() == readings

    held = glyph_compress("certify", "--verify", tmp_path / "cert.json", "--measure", state=tmp_path, cwd=tmp_path)
    assert (held.returncode, held.stderr) == (0, f"{tmp_path / 'cert.json'} holds: {len(pages)} pages as certified.\n")
    assert certificate.verify(Document.read(doc)) == []


@pytest.mark.ocr
def test_what_differs_is_named(doc: Path, tmp_path: Path) -> None:
    asked = ("certify", doc, "--page-size", "300,200", "--no-system-fonts", "--lines", "2", "--planted", "0")
    made = glyph_compress(*asked, "--pages", "pages", "-o", "cert.json", state=tmp_path, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    verify = ("certify", "--verify", "cert.json")
    assert glyph_compress(*verify, "--pages", "pages", state=tmp_path, cwd=tmp_path).returncode == 0

    picture = tmp_path / "pages" / "page_0002.png"
    picture.write_bytes((tmp_path / "pages" / "page_0001.png").read_bytes())
    (tmp_path / "pages" / "page_0003.png").unlink()
    found = glyph_compress(*verify, "--pages", "pages", "--json", state=tmp_path, cwd=tmp_path)
    assert found.returncode == EXIT_NOT_CERTIFIED
    told = json.loads(found.stdout)
    assert (told["holds"], told["passed"]) == (False, True)
    pages = Certificate.read(tmp_path / "cert.json").documents[0].pages
    assert [(one["page"], one["what"], one["expected"], one["found"]) for one in told["differences"]] == [
        (2, "sha256 of page_0002.png", pages[1].sha256, pages[0].sha256),
        (3, "page_0003.png", pages[2].sha256, "No such file or directory"),
    ]
    assert "page 2: sha256 of page_0002.png: certified" in found.stderr

    index = tmp_path / "pages" / "pages.json"
    data = json.loads(index.read_text("utf-8"))
    data["pages"][0]["start"] = 7  # where a citation of this page would point
    data["pages"] += [{**data["pages"][0], "number": 99}, data["pages"][0]]
    index.write_text(json.dumps(data), "utf-8")
    listed = json.loads(glyph_compress(*verify, "--pages", "pages", "--json", state=tmp_path, cwd=tmp_path).stdout)["differences"]
    assert [(one["page"], one["what"], one["expected"], one["found"]) for one in listed[:3]] == [
        (99, "entry in pages.json", "none", "page_0001.png"),
        (1, "entry in pages.json", "one", "also page_0001.png"),
        (1, "start in pages.json", 0, "7"),
    ]
    assert len(listed) == 5

    moved = tmp_path / "moved.txt"
    doc.rename(moved)
    gone = glyph_compress(*verify, state=tmp_path, cwd=tmp_path)
    assert (gone.returncode, "text.txt" in gone.stderr) == (4, True)
    assert glyph_compress(*verify, moved, state=tmp_path, cwd=tmp_path).returncode == 0
    moved.write_text(TEXT.replace("a", "e", 1), "utf-8")
    edited = glyph_compress(*verify, moved, state=tmp_path, cwd=tmp_path)
    assert edited.returncode == EXIT_NOT_CERTIFIED
    assert "sha256 of the text: certified" in edited.stderr
    assert "page 1: sha256 of the PNG: certified" in edited.stderr
    assert "cert.json does not hold" in edited.stderr


@pytest.mark.ocr
def test_pages_that_never_pass(doc: Path, tmp_path: Path) -> None:
    asked = ("certify", doc, *SMALL, "--lines", "2", "--dpi-steps", "none", "-o", "cert.json")
    done = glyph_compress(*asked, state=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (EXIT_NOT_CERTIFIED, "")
    certificate = Certificate.read(tmp_path / "cert.json")
    count = certificate.summary.pages
    assert not certificate.passed
    assert f"{count} of {count} pages don't pass:" in done.stderr
    assert f"{doc}, page 1: text CER" in done.stderr
    held = glyph_compress("certify", "--verify", "cert.json", state=tmp_path, cwd=tmp_path)
    assert (held.returncode, "holds" in held.stderr, "don't pass" in held.stderr) == (EXIT_NOT_CERTIFIED, True, True)


def test_a_server_reads_and_what_it_read_is_kept_when_it_fails(tmp_path: Path) -> None:
    doc = tmp_path / "text.txt"
    doc.write_text("The harbour lantern was lit at six.", "utf-8")
    asked = ("certify", doc, doc, "--planted", "0", "--concurrency", "1", "--dpi-steps", "none", "-o", "cert.json", "--base-url")
    right = says([{"content": "The harbour lantern was lit at six."}])
    with running(Fake(in_turn(right, refuses(400, "no such thing")))) as fake:
        done = glyph_compress(*asked, fake.base_url, state=tmp_path, cwd=tmp_path)
        assert done.returncode == ReadError.exit_code, done.stderr
        assert "no such thing" in done.stderr
        assert "1 reading is kept in cert.readings.jsonl" in done.stderr
        assert not (tmp_path / "cert.json").exists()
        (message,) = fake.requests[0]["messages"]
        assert [part["type"] for part in message["content"]] == ["image_url", "text"]
        assert fake.requests[0]["temperature"] == 0.0001
        assert fake.requests[0]["max_tokens"] < 1100
    with running(Fake(right)) as fake:
        done = glyph_compress(*asked, fake.base_url, state=tmp_path, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(fake.requests) == 1
    certificate = Certificate.read(tmp_path / "cert.json")
    assert certificate.summary.text.errors == 0
    assert (certificate.reader.name, certificate.reader.version, certificate.reader.model) == ("vLLM", "0.0-fake", "fake/Glyph")


@pytest.mark.parametrize(
    "text", [None, {"errors": 1}, {"errors": "one", "of": 35}, {"errors": -1, "of": 35}, {"errors": 1, "of": 35, "cer": 0}]
)
def test_a_reading_that_was_changed_is_named(tmp_path: Path, text: object) -> None:
    doc = tmp_path / "text.txt"
    doc.write_text("The harbour lantern was lit at six.", "utf-8")
    with running(Fake(says([{"content": "The harbour lantern was lit at six."}]))) as fake:
        asked = ("certify", doc, "--planted", "0", "-o", "cert.json", "--base-url", fake.base_url)
        first = glyph_compress(*asked, state=tmp_path, cwd=tmp_path)
        assert first.returncode == 0, first.stderr
        journal = tmp_path / "cert.readings.jsonl"
        journal.write_text(json.dumps({**json.loads(journal.read_text("utf-8")), "text": text}) + "\n", "utf-8")
        again = glyph_compress(*asked, state=tmp_path, cwd=tmp_path)
        assert again.returncode == 4, again.stderr
        assert "'cert.readings.jsonl' holds no reading under" in again.stderr
        assert "bug" not in again.stderr
        assert len(fake.requests) == 1


def test_ctrl_c_keeps_what_was_read(tmp_path: Path) -> None:
    doc = tmp_path / "text.txt"
    doc.write_text("The harbour lantern was lit at six.", "utf-8")
    held = Held()
    asked: tuple[str | Path, ...] = ("certify", doc, doc, "--planted", "0", "--concurrency", "1", "-o", tmp_path / "cert.json")
    with running(Fake(in_turn(says([{"content": "The harbour lantern was lit at six."}]), held))) as fake:
        with command(*asked, "--base-url", fake.base_url, state=tmp_path, python=tmp_path / "no-vllm") as (process, _):
            assert held.waiting.acquire(timeout=60)
            interrupt(process)
            assert process.wait(60) == EXIT_INTERRUPTED
            err = text_of(process.stderr)
        assert held.left.wait(60)  # the request is not left running on the server
    assert "1 reading is kept" in err
    assert "Traceback" not in err
    assert len((tmp_path / "cert.readings.jsonl").read_text("utf-8").splitlines()) == 1
    assert not (tmp_path / "cert.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "No document was named"),
        (["text.txt", "--measure"], 2, "--measure goes with --verify"),
        (["text.txt", "--dpi-steps", "96;120"], 2, "no list of whole numbers"),
        (["text.txt", "--dpi-steps", "60"], 3, "don't rise"),
        (["text.txt", "--dpi", "5"], 3, "dpi"),
        (["text.txt", "--reader", "ocr", "--base-url", "http://127.0.0.1:1/v1"], 2, "contradict"),
        (["text.txt", "--base-url", "http://127.0.0.1:1/v1"], 7, "127.0.0.1:1"),
        (["nothing.txt"], 4, "no file"),
        (["--verify", "text.txt", "--dpi", "96"], 2, "--verify draws and judges as the certificate says. Leave out --dpi."),
        (["--verify", "nothing.json"], 4, "no certificate 'nothing.json'"),
        (["--verify", "text.txt"], 4, "not a certificate"),
        (["text.txt", "-o", "text.txt/cert.json"], 11, "text.txt"),
        (["text.txt", "-o", "./text.txt"], 2, "would overwrite it"),
        (["text.txt", "-o", "state/.."], 2, "no name of a file"),
        (["text.txt", "-o", ""], 2, "no name of a file"),
        (["text.txt", "-o", "/"], 2, "no name of a file"),
        (["text.txt", "-o", "-"], 2, "no name of a file"),
        (["text.txt", "--max-cer", "nan"], 2, "no rate"),
        (["--verify", "text.txt", "--max-cer", "0.001", "--set", "dpi=96"], 2, "Leave out --set, --max-cer"),
        (["--verify", "text.txt", "--reader", "ocr"], 2, "--reader: --verify reads nothing back"),
    ],
)
def test_mistakes(doc: Path, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    done = glyph_compress("certify", *arguments, state=tmp_path / "state", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "certificate.json").exists()


def test_a_folder_without_an_index_and_another_number_of_documents(doc: Path, tmp_path: Path) -> None:
    with running(Fake(says([{"content": TEXT}]))) as fake:
        asked = ("certify", doc, "--base-url", fake.base_url, "--dpi-steps", "none", "--max-cer", "99", "-o", "cert.json")
        assert glyph_compress(*asked, state=tmp_path, cwd=tmp_path).returncode == 0
    assert Certificate.read(tmp_path / "cert.json").render_config == RenderConfig.preset("en")
    nothing = glyph_compress("certify", "--verify", "cert.json", "--pages", tmp_path, state=tmp_path, cwd=tmp_path)
    assert (nothing.returncode, "pages.json" in nothing.stderr) == (4, True)
    # What can't be found by its name in the certificate has to be named: here a text that was certified twice.
    with running(Fake(says([{"content": TEXT}]))) as fake:
        assert (
            glyph_compress(*asked[:1], doc, *asked[1:3], fake.base_url, *asked[4:], "-o", "2.json", state=tmp_path, cwd=tmp_path).returncode
            == 0
        )
    twice = glyph_compress("certify", "--verify", "2.json", state=tmp_path, cwd=tmp_path)
    assert (twice.returncode, f"in this order: {doc}, {doc} (2)." in twice.stderr) == (4, True)
    assert glyph_compress("certify", "--verify", "2.json", doc, doc, state=tmp_path, cwd=tmp_path).returncode == 0
    many = glyph_compress("certify", "--verify", "cert.json", doc, doc, state=tmp_path, cwd=tmp_path)
    assert (many.returncode, "of 1 documents, and 2 were given" in many.stderr) == (2, True)
