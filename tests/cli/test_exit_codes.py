"""Bad input through the installed command: its documented exit code, one clear message, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import errors
from tests.support.command import SAMPLE, glyph_compress
from tests.support.fake_openai import Fake, refuses, running, says

TEXT = "The weir at Tolvane was rebuilt in 1788 for 300 pounds.\n" * 30
NOWHERE = "http://127.0.0.1:1/v1"


@pytest.fixture
def doc(tmp_path: Path) -> Path:
    path = tmp_path / "weir.txt"
    path.write_text(TEXT, "utf-8")
    return path


def expect(code: int, *words: str, out: str = "", tmp_path: Path, arguments: list[Any], **options: Any) -> None:
    done = glyph_compress(*arguments, state=tmp_path / "state", cwd=tmp_path, **options)
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Error:") == 1
    for word in words:
        assert word in done.stderr


def file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "given.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["given.txt", "empty"]),
        (b" \n\t\n", ["given.txt", "empty"]),
        ("\u200b\u00ad\n".encode(), ["given.txt", "empty"]),
        (b"%PDF-1.7\n%abc", ["given.txt", "a PDF that can't be converted", "save it as text"]),
        (b"\x89PNG\r\n\x1a\n", ["PNG image"]),
        (b"some text \x00\x01\x02", ["control character", "byte 10"]),
        (b"fine line\nbroken \xff here", ["not valid utf-8", "offset 17", "line 2", "--encoding"]),
    ],
)
def test_documents_that_are_none(tmp_path: Path, data: bytes, words: list[str]) -> None:
    expect(errors.InputError.exit_code, *words, tmp_path=tmp_path, arguments=[file(tmp_path, data)])


def test_document_missing_or_a_folder(tmp_path: Path) -> None:
    expect(4, "no file", "nothing.txt", tmp_path=tmp_path, arguments=["nothing.txt"])
    expect(4, "is a folder", tmp_path=tmp_path, arguments=[tmp_path])


def test_nothing_on_standard_input(tmp_path: Path) -> None:
    expect(4, "standard input", "empty", tmp_path=tmp_path, arguments=["-"])


def test_broken_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    done = glyph_compress(file(tmp_path, "Café".encode("latin-1")), "--encoding", "latin-1", state=tmp_path)
    assert done.returncode == 0
    expect(4, "no encoding 'klingon'", tmp_path=tmp_path, arguments=[file(tmp_path, b"x"), "--encoding", "klingon"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dpi", "5000"], ["dpi = 5000", "600"]),
        (["--dpi", "0"], ["dpi = 0", "36"]),
        (["--page-size", "40,40"], ["page-size", "don't fit"]),
        (["--page-size", "30,842"], ["no glyph fits"]),
        (["--page-size", "big"], ["page-size = 'big'", "595,842", "A4"]),
        (["--font-size", "1"], ["font-size", "2"]),
        (["--set", "font-colour=#000000"], ["unknown key 'font-colour'", "font-color"]),
        (["--set", "font-color=red"], ["font-color = 'red'", "#000000"]),
        (["--config", "nonesuch"], ["nonesuch", "Presets: aligned, code, columns, en"]),
        (["--dpi", "600", "--page-size", "5000,5000"], ["megapixels"]),
    ],
)
def test_configurations_that_cannot_be(doc: Path, tmp_path: Path, options: list[str], words: list[str]) -> None:
    expect(errors.ConfigError.exit_code, *words, tmp_path=tmp_path, arguments=[doc, *options])


def test_configuration_files_that_cannot_be(doc: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"dpi": 72,}', "utf-8")
    expect(3, "broken.json", "line 1", "not valid JSON", tmp_path=tmp_path, arguments=[doc, "--config", "broken.json"])
    (tmp_path / "list.json").write_text("[1]", "utf-8")
    expect(3, "list.json", "JSON object", tmp_path=tmp_path, arguments=[doc, "--config", "list.json"])


def test_missing_fonts(doc: Path, tmp_path: Path) -> None:
    expect(5, "no font 'No Such Font'", "DejaVuSans", tmp_path=tmp_path, arguments=[doc, "--font", "No Such Font"])
    expect(5, "no font '/nowhere/DejaVuSans.ttf'", tmp_path=tmp_path, arguments=[doc, "--font", "/nowhere/DejaVuSans.ttf"])
    expect(5, "not a usable font", tmp_path=tmp_path, arguments=[doc, "--font", doc])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-option"], ["--no-such-option"]),
        (["-q", "  "], ["question is empty"]),
        (["--set", "dpi"], ["KEY=VALUE"]),
        (["-q", "x", "--reader", "ocr", "--model", "a/b"], ["--reader ocr"]),
        (["-q", "x", "--base-url", NOWHERE, "--profile", "cpu"], ["--base-url"]),
        (["-q", "x", "--max-tokens", "0"], ["--max-tokens"]),
    ],
)
def test_wrong_usage(doc: Path, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    expect(2, *words, tmp_path=tmp_path, arguments=[doc, *arguments])


def test_no_server(doc: Path, tmp_path: Path) -> None:
    expect(7, NOWHERE, "Nothing answers", tmp_path=tmp_path, arguments=[doc, "-q", "When?", "--base-url", NOWHERE])
    expect(7, NOWHERE, tmp_path=tmp_path, arguments=[doc, "--base-url", NOWHERE])
    expect(3, "ftp", tmp_path=tmp_path, arguments=[doc, "-q", "When?", "--base-url", "ftp://127.0.0.1"])


def test_wrong_model(doc: Path, tmp_path: Path) -> None:
    with running(Fake(says([]))) as fake:
        expect(
            7, "fake/Glyph", "'other'", tmp_path=tmp_path, arguments=[doc, "-q", "When?", "--base-url", fake.base_url, "--model", "other"]
        )


def test_a_model_folder_that_does_not_exist(doc: Path, tmp_path: Path) -> None:
    python = tmp_path / "state" / "no-vllm"
    assert not python.exists()
    done = glyph_compress(doc, "-q", "When?", "--model", "./nothing", state=tmp_path / "state", cwd=tmp_path)
    assert done.returncode == 3
    assert "model folder" in done.stderr
    assert "doesn't exist" in done.stderr


def test_no_vllm_names_the_extra(doc: Path, tmp_path: Path) -> None:
    expect(6, "vLLM", "glyph-pipeline[vllm]", tmp_path=tmp_path, arguments=[doc, "-q", "When?", "--reader", "vllm"])


def test_something_else_listens_there(doc: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        expect(7, f"127.0.0.1:{port}", tmp_path=tmp_path, arguments=[doc, "-q", "When?", "--base-url", f"http://127.0.0.1:{port}"])


def test_context_too_long(doc: Path, tmp_path: Path) -> None:
    with running(Fake(says([]), max_model_len=200)) as fake:
        expect(8, "context is 200 tokens", tmp_path=tmp_path, arguments=[doc, "-q", "When?", "--base-url", fake.base_url])


def test_a_refused_request(doc: Path, tmp_path: Path) -> None:
    with running(Fake(refuses(400, "Failed to load image: cannot identify image file"))) as fake:
        expect(9, "Failed to load image", "HTTP 400", tmp_path=tmp_path, arguments=[doc, "-q", "When?", "--base-url", fake.base_url])


def test_a_broken_off_answer_keeps_the_pages_already_drawn(doc: Path, tmp_path: Path) -> None:
    with running(Fake(says([{"content": "<answer>17"}], finish=None))) as fake:
        asked = (doc, "-q", "When?", "--base-url", fake.base_url, "--retry-for", "0", "-o", tmp_path / "pages")
        done = glyph_compress(*asked, state=tmp_path / "state")
    assert (done.returncode, done.stdout) == (9, "")  # half an answer is none
    assert "broke off" in done.stderr
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {"page_0001.png", "pages.json"}


def test_a_truncated_answer_is_printed_and_said(doc: Path, tmp_path: Path) -> None:
    with running(Fake(says([{"reasoning": "Hm"}, {"content": "<answer>In 17"}], finish="length"))) as fake:
        done = glyph_compress(doc, "-q", "When?", "--base-url", fake.base_url, state=tmp_path / "state")
    assert (done.returncode, done.stdout) == (10, "In 17\n")
    assert "cut off" in done.stderr
    assert "--max-tokens" in done.stderr


def test_an_answer_cut_off_while_reasoning_is_never_an_empty_success(doc: Path, tmp_path: Path) -> None:
    with running(Fake(says([{"reasoning": "Hm"}], finish="length"))) as fake:
        done = glyph_compress(doc, "-q", "When?", "--base-url", fake.base_url, "--show-reasoning", state=tmp_path / "state")
    assert (done.returncode, done.stdout) == (10, "")
    assert "Hm" in done.stderr
    assert "before any answer" in done.stderr


def test_output_that_cannot_be_written(doc: Path, tmp_path: Path) -> None:
    expect(11, "weir.txt", "can't be written", tmp_path=tmp_path, arguments=["render", doc, "-o", doc])
    expect(11, "can't be written", tmp_path=tmp_path, arguments=["render", doc, "-o", "/dev/null/pages"])


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    import subprocess

    from tests.support.command import COMMAND, environment

    with running(Fake(says([{"content": "line\n" * 100_000}]))) as fake:
        asked = [COMMAND, SAMPLE, "-q", "When?", "--quiet", "--base-url", fake.base_url]
        with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path)) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"line\n"
            process.stdout.close()
            complaint = process.stderr.read()
            assert (process.wait(), complaint) == (0, b"")


TORN = """
import asyncio
from glyph_pipeline.cli import main as module

def torn(*arguments, **options):
    async def second():
        raise KeyboardInterrupt
    async def first():
        task = asyncio.ensure_future(second())
        await asyncio.sleep(60)
    asyncio.run(first())

module.cli.main = torn
module.main()
"""


@pytest.mark.parametrize("debug", [False, True])
def test_a_second_interrupt_is_as_quiet_as_the_first(debug: bool) -> None:
    """It tears asyncio from its clearing up; what that says of it is for who looks for a bug."""
    environment = {**os.environ, "GLYPH_DEBUG": "1" if debug else ""}
    done = subprocess.run([sys.executable, "-c", TORN], capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 130
    assert (done.stderr == "Interrupted.\n") is not debug
    assert "Interrupted." in done.stderr
