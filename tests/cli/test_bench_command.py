"""glyph-compress bench against a server of the tests' own: exit codes, what is left behind, and what a second run does."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import SAMPLE, glyph_compress
from tests.support.fake_openai import Fake, Handler, Held, drops, in_turn, running, says
from tests.support.processes import command, interrupt

OK = says([{"content": "a"}], usage={"prompt_tokens": 7, "completion_tokens": 4})
FEW = ("--lengths", "200,400", "--concurrency", "1", "--repeats", "1", "--warmups", "0", "--max-tokens", "4")
# For each cell: one request of each side.
CELL = 2


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "bench.jsonl").read_text("utf-8").splitlines()]


def test_a_run_leaves_records_a_table_and_a_report_and_is_not_done_twice(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(Fake(OK)) as fake:
        asked = ("bench", SAMPLE, *FEW, "--base-url", fake.base_url, "-o", out)
        done = glyph_compress(*asked, state=tmp_path)
        assert done.returncode == 0, done.stderr
        sent = len(fake.requests)
        again = glyph_compress(*asked, "--json", state=tmp_path)
        assert len(fake.requests) == sent == 2 * CELL
        more = glyph_compress(*asked, "--concurrency", "1,2", "--json", state=tmp_path)
    assert "no tokenizer folder is known" in done.stderr
    assert done.stdout.splitlines()[0].split()[:3] == ["tokens", "at", "a"]
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [["200", "1"], ["400", "1"]]
    assert "Where the time of pages goes" in done.stdout
    assert "2 of 2 cells are measured already." in again.stderr
    rows = json.loads(again.stdout)["rows"]
    assert [row["length"] for row in rows] == [200, 400]
    for row, record in zip(rows, records(out), strict=False):
        assert (row["text"]["prompt_tokens"], row["pages"]["output_tokens"]) == (7, 4)
        assert row["speed_up"] == pytest.approx(row["text"]["ttft"] / row["pages"]["ttft"])
        assert sum(row["pages"]["shares"].values()) == pytest.approx(1)
        assert record["source"] == str(SAMPLE)
        assert {"processor", "cores", "load"} <= record["machine"].keys()
    report = (out / "report.html").read_text("utf-8")
    assert "Time to the first token" in report
    assert "fake/Glyph" in report
    assert "2 of 4 cells are measured already." in more.stderr
    assert [(row["length"], row["concurrency"]) for row in json.loads(more.stdout)["rows"]] == [(200, 1), (400, 1), (200, 2), (400, 2)]


def test_what_does_not_fit_is_a_row_and_nothing_that_fits_is_an_error(tmp_path: Path) -> None:
    with running(Fake(OK, max_model_len=1500)) as fake:  # it counts characters
        asked = ("bench", *FEW, "--base-url", fake.base_url, "-o", tmp_path / "out")
        done = glyph_compress(*asked, state=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "text: does not fit" in done.stdout.splitlines()[2]
        assert glyph_compress(*asked, "--quiet", state=tmp_path).stderr == ""
    with running(Fake(OK, max_model_len=60)) as fake:
        done = glyph_compress("bench", *FEW, "--base-url", fake.base_url, "-o", tmp_path / "none", state=tmp_path)
    assert done.returncode == 8
    assert "Nothing fits" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", ["gone", "broken"])
def test_what_was_measured_before_the_server_failed_is_kept(how: str, tmp_path: Path) -> None:
    def leave(handler: Handler, body: dict[str, Any]) -> None:
        handler.server.shutdown()
        handler.server.socket.close()
        handler.close_connection = True

    out = tmp_path / "out"
    with running(Fake(in_turn(*[OK] * CELL, leave if how == "gone" else drops()))) as fake:
        done = glyph_compress("bench", *FEW, "--base-url", fake.base_url, "-o", out, state=tmp_path)
    assert done.returncode == (7 if how == "gone" else 9), done.stderr
    assert done.stderr.count("Error:") == 1
    assert "Traceback" not in done.stderr
    assert "1 of 2 cells are measured" in done.stderr
    assert [record["length"] for record in records(out)] == [200]
    with running(Fake(OK)) as fake:
        done = glyph_compress("bench", *FEW, "--base-url", fake.base_url, "-o", out, state=tmp_path)
        assert len(fake.requests) == CELL
    assert done.returncode == 0, done.stderr
    assert [record["length"] for record in records(out)] == [200, 400]


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    held = Held([{"content": "a"}])
    with running(Fake(in_turn(*[OK] * CELL, held))) as fake:
        asked = ("bench", *FEW, "--base-url", fake.base_url, "-o", tmp_path / "out")
        with command(*asked, state=tmp_path, python=tmp_path / "nothing") as (process, _):
            assert held.waiting.acquire(timeout=60)
            interrupt(process)
            _, err = process.communicate(timeout=60)
        assert held.left.wait(60)  # the request under way was ended on the server, too
        held.release()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert [record["length"] for record in records(tmp_path / "out")] == [200]


@pytest.mark.parametrize(
    ("code", "words", "options"),
    [
        (2, "--lengths 4K,x: 'x'", ["--lengths", "4K,x"]),
        (2, "--lengths 50", ["--lengths", "50"]),
        (2, "--lengths 1.2345K", ["--lengths", "1.2345K"]),
        (2, "--concurrency 0", ["--concurrency", "0"]),
        (2, "--concurrency 1K", ["--concurrency", "1K"]),
        (2, "--reader ocr", ["--reader", "ocr"]),
        (2, "one server", ["--base-url", "http://127.0.0.1:1", "--base-url", "http://127.0.0.1:2"]),
        (3, "there is no tokenizer", ["--tokenizer", "/nowhere"]),
        (3, "dpi = 5000", ["--dpi", "5000"]),
        (4, "no file", ["nothing.txt"]),
        (5, "No Such Font", ["--font", "No Such Font"]),
        (6, "glyph-pipeline[vllm]", ["--reader", "vllm"]),
        (7, "Nothing answers", ["--base-url", "http://127.0.0.1:1/v1"]),
        (7, "There is no model server to measure", []),
        (11, "can't be written", ["-o", "/dev/null/bench"]),
    ],
)
def test_mistakes(code: int, words: str, options: list[str], tmp_path: Path) -> None:
    done = glyph_compress("bench", *options, state=tmp_path / "state", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.stdout, done.stderr.count("Error:")) == ("", 1)


def test_requests_of_a_block_are_under_way_together(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=60)

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        together.wait()  # breaks, and so fails the request, unless three have come
        OK(handler, body)

    with running(Fake(reply)) as fake:
        few = ("--lengths", "150", "--concurrency", "3", "--repeats", "2", "--warmups", "0")
        done = glyph_compress("bench", *few, "--base-url", fake.base_url, "-o", tmp_path / "out", state=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(records(tmp_path / "out")[0]["pages"]["requests"]) == 6


def test_without_plotly_everything_but_the_report_is_there(tmp_path: Path) -> None:
    (tmp_path / "hidden" / "plotly").mkdir(parents=True)
    (tmp_path / "hidden" / "plotly" / "__init__.py").write_text("raise ImportError('not installed')")
    with running(Fake(OK)) as fake:
        asked = ("bench", *FEW, "--base-url", fake.base_url, "-o", tmp_path / "out")
        done = glyph_compress(*asked, state=tmp_path, PYTHONPATH=str(tmp_path / "hidden"))
    assert done.returncode == 0, done.stderr
    assert "glyph-pipeline[experiments]" in done.stderr
    assert len(records(tmp_path / "out")) == 2
    assert not (tmp_path / "out" / "report.html").exists()
