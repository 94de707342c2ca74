"""glyph-compress web in a real browser: drop, draw, count, ask, take away; and who may not use it."""

from __future__ import annotations

import http.client
import io
import json
import re
import signal
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import expect

from glyph_pipeline import Document, RenderConfig, compress
from tests.reading.test_ocr import QUESTIONS
from tests.support.browser import opened
from tests.support.command import COMMAND, SAMPLE, environment, glyph_compress
from tests.support.fake_openai import Fake, Handler, running

TEXT = Document.read(SAMPLE).text
DRAWN = 200_000  # ms that a busy machine may take to draw or read


@contextmanager
def site(tmp_path: Path, *options: str, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command, once it serves: its URL. Ended by Ctrl-C, with which it must end well and leave nothing."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    with (tmp_path / "stderr").open("w+") as errors:
        process = subprocess.Popen(
            [COMMAND, "web", "--listen", "0", *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(tmp_path, TMPDIR=str(folder), **env),
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, (tmp_path / "stderr").read_text()
            yield url, process
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert "Traceback" not in (tmp_path / "stderr").read_text()
            assert [path.name for path in folder.iterdir() if path.name.startswith("glyph-web-")] == []
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def counts(page: BrowserPage, config: RenderConfig | None = None, text: str = TEXT) -> None:
    """Waits until the page shows what compress counts with this configuration."""
    report = compress(text, config).report
    figures = [f"{report.text_tokens:,}", f"{report.vision_tokens:,}", f"{report.ratio:.2f}", f"{report.pages:,}"]
    expect(page.locator("#glyph-counts b")).to_have_text(figures, timeout=DRAWN)


def choose(page: BrowserPage, box: str, option: str) -> None:
    page.locator(f"#{box} input").click()
    page.get_by_role("option", name=option, exact=True).click()


@pytest.mark.ocr
@pytest.mark.timeout(900)
def test_a_file_is_drawn_counted_asked_about_and_taken_away(tmp_path: Path) -> None:
    (question,) = (entry for entry in QUESTIONS if "croquet mallets" in json.dumps(entry))
    with site(tmp_path, "--reader", "ocr") as (url, _), opened(url) as shown:
        page = shown.page
        page.set_input_files("#glyph-file input[type=file]", SAMPLE)
        counts(page)
        expected = compress(TEXT)
        images = page.locator(".glyph-pages img")
        assert images.count() == len(expected.pages)
        for number, drawn in enumerate(expected.pages):
            size = images.nth(number).evaluate("image => [image.naturalWidth, image.naturalHeight, image.clientWidth]")
            assert size == [drawn.width, drawn.height, drawn.width]
        page.locator("#glyph-question textarea, #glyph-question input").fill(question["question"])
        page.click("#glyph-ask")
        answer = page.locator("#glyph-answer textarea")
        expect(answer).to_have_value(re.compile("croquet mallets"), timeout=DRAWN)
        assert answer.input_value().startswith("[page 2]")
        expect(page.locator("#glyph-answer-status")).to_contain_text("cites page 2", timeout=DRAWN)
        assert page.locator("#glyph-plain").count() == 0  # no text model was named
        with page.expect_download() as download:
            page.click("#glyph-pack")
        assert download.value.suggested_filename == "pages.zip"
        with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
            names = [f"page_{drawn.number:04d}.png" for drawn in expected.pages]
            assert archive.namelist() == [*names, "pages.json"]
            assert [archive.read(name) for name in names] == [drawn.png for drawn in expected.pages]
            index = json.loads(archive.read("pages.json"))
        assert [entry["end"] for entry in index["pages"]] == [drawn.end for drawn in expected.pages]
        with page.expect_download() as download:
            page.click("#glyph-report")
        account = json.loads(Path(download.value.path()).read_text("utf-8"))
        assert account["document"] == SAMPLE.name
        assert account["report"] == json.loads(json.dumps(expected.report.to_dict()))
        origin = urlsplit(url).netloc
        assert {urlsplit(request).netloc for request in shown.requests if request.startswith("http")} == {origin}


def test_what_is_pasted_and_chosen_is_drawn_at_once(tmp_path: Path) -> None:
    text = "\n".join(TEXT[:4000].split(". "))
    with site(tmp_path, "--reader", "ocr") as (url, _), opened(url) as shown:
        page = shown.page
        expect(page.locator("#glyph-counts")).to_contain_text("Paste a text")
        page.locator("#glyph-text textarea").fill(text)
        counts(page, None, text)
        page.locator("#glyph-dpi input, #glyph-dpi textarea").fill("96")
        en = RenderConfig.preset("en")
        counts(page, en.replace(dpi=96), text)
        page.get_by_label("red \\n").check()
        red = {"newline_markup": '<font color="#FF0000"> \\n </font>'}
        counts(page, en.replace(dpi=96, **red), text)
        choose(page, "glyph-preset", "columns")
        columns = RenderConfig.preset("columns").replace(dpi=96, **red)
        counts(page, columns, text)
        choose(page, "glyph-font", "DejaVu Sans Mono")
        counts(page, columns.replace(font="DejaVu Sans Mono"), text)
        for wrong, words in (("ninety", "no number"), ("9999", "dpi = 9999")):
            page.locator("#glyph-dpi input, #glyph-dpi textarea").fill(wrong)
            expect(page.locator("#glyph-counts .glyph-error")).to_contain_text(words, timeout=DRAWN)
            assert page.locator(".glyph-pages").count() == 0
        page.locator("#glyph-dpi input, #glyph-dpi textarea").fill("")
        counts(page, columns.replace(font="DejaVu Sans Mono", dpi=72), text)
        page.locator("#glyph-text textarea").fill("")
        expect(page.locator("#glyph-counts")).to_contain_text("Paste a text", timeout=DRAWN)
        page.click("#glyph-ask")
        expect(page.locator("#glyph-answer-status")).to_contain_text("no document", timeout=DRAWN)


def test_a_file_that_cannot_be_read_is_told_and_what_was_there_stays(tmp_path: Path) -> None:
    bad = tmp_path / "<b>bad.bin"
    bad.write_bytes(b"\x00\x01\x02 text")
    with site(tmp_path, "--reader", "ocr") as (url, _), opened(url) as shown:
        page = shown.page
        page.locator("#glyph-text textarea").fill(TEXT[:3000])
        counts(page, None, TEXT[:3000])
        page.set_input_files("#glyph-file input[type=file]", bad)
        expect(page.get_by_text("is not a text file")).to_be_visible(timeout=DRAWN)
        counts(page, None, TEXT[:3000])


def scripted(release: threading.Event) -> Any:
    """Pages are answered with reasoning first, and the rest only once the test has seen that; text at once."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        content = body["messages"][-1]["content"]
        if isinstance(content, str) or not any(part["type"] == "image_url" for part in content):
            handler.stream([{"reasoning": "I read text."}, {"content": "From text."}], usage={"prompt_tokens": 900, "completion_tokens": 5})
            return
        handler.begin([{"reasoning": "I look at "}, {"reasoning": "page 1."}])
        release.wait(60)
        for delta in ({"content": "From <b>pages"}, {"content": "</b>."}):
            handler.write_event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        handler.write_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        handler.write_event({"choices": [], "usage": {"prompt_tokens": 700, "completion_tokens": 9, "total_tokens": 709}})
        handler.write_chunk(b"data: [DONE]\n\n")
        handler.wfile.write(b"0\r\n\r\n")

    return reply


def test_reasoning_and_answer_stream_side_by_side_with_the_plain_text(tmp_path: Path) -> None:
    release = threading.Event()
    with (
        running(Fake(scripted(release))) as fake,
        site(tmp_path, "--base-url", fake.base_url, "--text-url", fake.base_url) as (url, _),
        opened(url) as shown,
    ):
        page = shown.page
        page.locator("#glyph-text textarea").fill(TEXT[:2000])
        expect(page.locator(".glyph-pages img")).to_have_count(1, timeout=DRAWN)
        page.locator("#glyph-question textarea, #glyph-question input").fill("What is told?")
        page.click("#glyph-ask")
        expect(page.locator("#glyph-answer-reasoning textarea")).to_have_value("I look at page 1.", timeout=DRAWN)
        assert page.locator("#glyph-answer textarea").input_value() == ""
        expect(page.locator("#glyph-plain textarea")).to_have_value("From text.", timeout=DRAWN)
        expect(page.locator("#glyph-plain-reasoning textarea")).to_have_value("I read text.")
        expect(page.locator("#glyph-plain-status")).to_contain_text("900 prompt tokens")
        release.set()
        expect(page.locator("#glyph-answer textarea")).to_have_value("From <b>pages</b>.", timeout=DRAWN)
        expect(page.locator("#glyph-answer-status")).to_contain_text("700 prompt tokens")
        (as_text,) = (body for body in fake.requests if "image_url" not in json.dumps(body))
        sent = as_text["messages"][-1]["content"]
        sent = sent if isinstance(sent, str) else "".join(part["text"] for part in sent)
        assert sent == f"{TEXT[:2000]}\n\nWhat is told?"


def test_a_server_that_fails_is_told_and_stop_ends_a_request(tmp_path: Path) -> None:
    gone = threading.Event()

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin([{"reasoning": "Thinking"}])
        try:
            while not gone.is_set():
                handler.write_event({"choices": [{"index": 0, "delta": {"reasoning": "."}, "finish_reason": None}]})
                gone.wait(0.05)
        except OSError:  # the client has left
            gone.set()

    with running(Fake(reply)) as fake, site(tmp_path, "--base-url", fake.base_url) as (url, _), opened(url) as shown:
        page = shown.page
        page.locator("#glyph-text textarea").fill(TEXT[:2000])
        expect(page.locator(".glyph-pages img")).to_have_count(1, timeout=DRAWN)
        page.locator("#glyph-question textarea, #glyph-question input").fill("What is told?")
        page.click("#glyph-ask")
        expect(page.locator("#glyph-answer-reasoning textarea")).to_have_value(re.compile("Thinking"), timeout=DRAWN)
        page.click("#glyph-stop")
        assert gone.wait(60)
        fake.reply = lambda handler, body: handler.send(400, {"error": {"message": "the model is <i>out</i>"}})
        page.click("#glyph-ask")
        expect(page.locator("#glyph-answer-status .glyph-error")).to_contain_text("the model is <i>out</i>", timeout=DRAWN)


def status(url: str, method: str = "GET", **headers: str) -> int:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=30)) as connection:
        connection.request(method, parts.path or "/", headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse().status


def test_foreign_names_are_refused_and_others_need_a_password(tmp_path: Path) -> None:
    with site(tmp_path, "--reader", "ocr") as (url, _):
        assert status(url) == 200
        assert status(url, Host="evil.example") == 400
    for host in ("0.0.0.0", "0", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"):  # all of them mean all networks
        refused = glyph_compress("web", "--reader", "ocr", "--host", host, "--listen", "0", state=tmp_path)
        assert refused.returncode == 2
        assert "--password" in refused.stderr
    impossible = glyph_compress("web", "--reader", "ocr", "--host", "a..b", "--password", "sesame", state=tmp_path)
    assert impossible.returncode == 2
    assert "can't be listened on" in impossible.stderr
    (tmp_path / "locked").mkdir()
    with site(tmp_path / "locked", "--reader", "ocr", "--host", "0.0.0.0", GLYPH_WEB_PASSWORD="sesame") as (url, _):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert status(f"{url}config") == 401
        with opened(url) as shown:
            shown.page.locator("input").nth(0).fill("glyph")
            shown.page.locator("input[type=password]").fill("sesame")
            shown.page.get_by_role("button", name="Login").click()
            expect(shown.page.locator("#glyph-text textarea")).to_be_visible(timeout=DRAWN)


def test_pages_of_elsewhere_cannot_send_or_embed_and_nothing_of_elsewhere_is_fetched(tmp_path: Path) -> None:
    with (
        running(Fake(lambda handler, body: None)) as fake,
        site(tmp_path, "--reader", "ocr", GRADIO_ROOT_PATH="/elsewhere", GRADIO_MCP_SERVER="true") as (url, _),
    ):
        assert status(url, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == 200  # a link to the page
        assert status(f"{url}theme.css", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors") == 403
        assert status(f"{url}theme.css", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="no-cors") == 200
        for path in ("gradio_api/upload", "gradio_api/queue/join", "login"):
            assert status(url + path, "POST", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == 403
        assert status(f"{url}gradio_api/file={fake.base_url}/models") == 403
        with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
            connection.request("GET", "/config", headers={"Host": "[::1]", "Origin": "http://evil.example"})
            response = connection.getresponse()
            assert response.status == 200
            assert not [name for name in response.headers if name.lower().startswith("access-control-")]
            assert "elsewhere" not in response.read().decode()
            policy = dict(entry.strip().split(" ", 1) for entry in str(response.headers["content-security-policy"]).split(";"))
        assert policy["default-src"] == policy["connect-src"] == policy["form-action"] == "'self'"


def test_mistakes(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "gradio.py").write_text("raise ImportError('not here')")
    missing = glyph_compress("web", "--reader", "ocr", state=tmp_path, PYTHONPATH=str(tmp_path / "without"))
    assert missing.returncode == 6
    assert "glyph-pipeline[web]" in missing.stderr
    unsaid = glyph_compress("web", "--text-model", "x", state=tmp_path)
    assert unsaid.returncode == 2
    unreachable = glyph_compress("web", "--reader", "ocr", "--text-url", "http://127.0.0.1:9/v1", state=tmp_path)
    assert unreachable.returncode == 7
    with site(tmp_path, "--reader", "ocr") as (url, _):
        taken = glyph_compress("web", "--reader", "ocr", "--listen", str(urlsplit(url).port), state=tmp_path)
        assert taken.returncode == 2
        assert "can't be listened on" in taken.stderr
