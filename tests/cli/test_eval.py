"""glyph-compress eval: what it prints, the rows it keeps, that a second run does what is missing, and what is said of mistakes."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline.cli.evaluating import reading_progress
from glyph_pipeline.cli.main import run
from tests.support.clock import Clock
from tests.support.command import environment, glyph_compress
from tests.support.fake_openai import Fake, Handler, Held, refuses, running
from tests.support.processes import command, interrupt

SMALL = ("--lengths", "200", "--depths", "0,100")


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Command:
    """The command in this process: it need not start, and import what a report takes, for each of many runs. Draws in this process, too."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path, workers: str | None = "0") -> Done:
        drawing = () if workers is None else ("--workers", workers)
        code = run(["eval", *map(str, arguments), *drawing])
        return Done(code, *self._capsys.readouterr())


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    kept = environment(tmp_path / "state")
    for name in os.environ.keys() - kept.keys():
        monkeypatch.delenv(name)
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    return Command(capsys)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def question_of(body: dict[str, Any]) -> str:
    question: str = body["messages"][0]["content"][-1]["text"]
    return question


def says_its_name(handler: Handler, body: dict[str, Any]) -> None:
    handler.stream([{"content": f"<answer>{question_of(body)}"}], usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11})


@pytest.mark.ocr
def test_needles_read_by_ocr_and_once_more(evaluate: Command, tmp_path: Path) -> None:
    asked = (
        "needle",
        "--reader",
        "ocr",
        "--lengths",
        "200",
        "--depths",
        "100",
        "--kinds",
        "word, number",
        "--config",
        "en",
        "--config",
        "tight",
    )
    asked += ("-o", str(tmp_path / "out"))
    done = glyph_compress("eval", *asked, state=tmp_path)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "out" / "needle.jsonl")
    assert len(found) == 2 * 2
    assert {row["way"] for row in found} == {"en", "tight"}
    assert sum(row["right"] for row in found) >= 3
    for row in found:
        assert row["right"] == (row["value"] in row["answer"])
        assert (row["reader"], row["finish_reason"], row["tokenizer"]) == ("OCR quotes (RapidOCR)", "quote", "cl100k_base (tiktoken)")
        assert row["text_tokens"] == row["tokens"]
        assert row["ratio"] == pytest.approx(row["text_tokens"] / row["vision_tokens"], abs=1e-3)
    # The same texts in both ways of drawing.
    assert len({(row["value"], row["tokens"], row["question"]) for row in found}) == 2
    assert re.search(r"^en +100 % +[12]/2$", done.stdout, re.MULTILINE)
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Depth and length" in report
    assert "Accuracy against ratio" in report
    assert "quotes passages" in report
    before = (tmp_path / "out" / "needle.jsonl").read_bytes()
    again = evaluate(*asked, "--json")
    assert again.returncode == 0, again.stderr
    assert "4 of 4 items are done already" in again.stderr
    assert (tmp_path / "out" / "needle.jsonl").read_bytes() == before
    whole = json.loads(again.stdout)
    assert [row["way"] for row in whole["rows"]] == ["en"] * 2 + ["tight"] * 2
    assert whole["kinds"][0]["n"] == 1


@pytest.mark.ocr
def test_rulers_needle_is_found_by_ocr(evaluate: Command, tmp_path: Path) -> None:
    hay = "\n".join(f"The river ran past village {number} in the rain." for number in range(12))
    text = f"A number is hidden in this text.\n{hay}\nThe magic number of the lantern is 8830417.\n{hay}\nWhat is the magic number of the lantern?"
    folder = tmp_path / "data" / "niah_single_1"
    folder.mkdir(parents=True)
    (folder / "validation.jsonl").write_text(json.dumps({"index": 0, "input": text, "outputs": ["8830417"], "length": 400}) + "\n")
    done = evaluate("ruler", "--data", tmp_path / "data", "--reader", "ocr", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path / "out" / "ruler.jsonl")
    assert (row["task"], row["score"], row["expected"]["outputs"]) == ("niah_single_1", 1.0, ["8830417"])
    assert "mean of the tasks: 100.0" in done.stdout
    assert "By task" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_what_failed_is_a_row_and_is_done_again_if_asked_for(evaluate: Command, tmp_path: Path) -> None:
    mended = False

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if "password" in question_of(body) and not mended:
            refuses(422, "not that one")(handler, body)
        else:
            says_its_name(handler, body)

    out = tmp_path / "out"
    with running(Fake(reply)) as fake:
        asked = ("needle", *SMALL, "--kinds", "word,number", "--base-url", fake.base_url, "-o", out)
        done = evaluate(*asked)
        assert done.returncode == 12, done.stderr
        failed = [row for row in rows(out / "needle.jsonl") if row["status"] == "failed"]
        assert [row["task"] for row in failed] == ["word", "word"]
        assert all("not that one" in row["error"] for row in failed)
        assert "0/1" in done.stdout  # what failed is not among those that were answered
        assert "not that one" in (out / "report.html").read_text("utf-8")
        assert evaluate(*asked).returncode == 12
        assert len(fake.requests) == 4
        mended = True
        done = evaluate(*asked, "--retry-failed", "--json")
        assert done.returncode == 0, done.stderr
        # Those that were done again are last in the file, but told in their place.
        assert [row["task"] for row in rows(out / "needle.jsonl")] == ["number", "number", "word", "word"]
        assert [(row["depth"], row["task"]) for row in json.loads(done.stdout)["rows"]] == [
            (0, "word"),
            (0, "number"),
            (100, "word"),
            (100, "number"),
        ]
        assert len(fake.requests) == 6
        # Another model's rows are others, and so are those of another length of the answer.
        fake.model = "fake/Other"
        assert evaluate(*asked).returncode == 0
        assert evaluate(*asked, "--max-tokens", "77").returncode == 0
        assert len(fake.requests) == 14
    assert len(rows(out / "needle.jsonl")) == 12


def test_an_answer_that_was_cut_off(evaluate: Command, tmp_path: Path) -> None:
    def cut(handler: Handler, body: dict[str, Any]) -> None:
        handler.stream([{"reasoning": "Let me see"}], finish="length")

    with running(Fake(cut)) as fake:
        done = evaluate("needle", *SMALL, "--kinds", "uuid", "--base-url", fake.base_url, "-o", tmp_path / "out")
    assert done.returncode == 10, done.stderr
    assert {(row["status"], row["right"], row["answer"], row["reasoning"]) for row in rows(tmp_path / "out" / "needle.jsonl")} == {
        ("truncated", False, "", "Let me see")
    }


def test_a_grid_with_a_way_that_cannot_be_drawn(evaluate: Command, tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text('[axes]\npage-size = ["A4", "200,60"]\nfont-size = [20]')
    with running(Fake(says_its_name)) as fake:
        asked = ("needle", *SMALL, "--kinds", "word", "--grid", grid, "--base-url", fake.base_url, "-o", tmp_path / "out")
        done = evaluate(*asked, "--json")
        assert len(fake.requests) == 2
    assert done.returncode == 12, done.stderr
    found = json.loads(done.stdout)["rows"]
    assert [row["status"] for row in found] == ["ok", "ok", "failed", "failed"]
    assert "don't fit" in found[2]["error"]
    assert found[0]["changes"] == {"page-size": "A4", "font-size": 20}


def test_ctrl_c_in_the_middle_and_then_the_rest(tmp_path: Path) -> None:
    held = Held([{"content": "<answer>Half"}])
    first = threading.Event()

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if first.is_set():
            held(handler, body)
        else:
            first.set()
            says_its_name(handler, body)

    out = tmp_path / "out"
    with running(Fake(reply)) as fake:
        asked = ["eval", "needle", *SMALL, "--kinds", "word,number", "--base-url", fake.base_url, "-o", out, "--concurrency", "1"]
        with command(*asked, state=tmp_path / "state", python=tmp_path / "no-vllm") as (process, _):
            assert held.waiting.acquire(timeout=60)
            interrupt(process)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 130, err
            assert "Traceback" not in err
        assert len(rows(out / "needle.jsonl")) == 1
    with running(Fake(says_its_name)) as fake:
        asked[asked.index("--base-url") + 1] = fake.base_url
        done = glyph_compress(*asked, state=tmp_path / "state")
        assert done.returncode == 0, done.stderr
        assert len(fake.requests) == 3
    assert "1 of 4 items are done already" in done.stderr


def test_longbench_in_pages_with_its_own_instructions(evaluate: Command, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    record = {"context": "The weir is old.", "answers": ["old"], "all_classes": None, "language": "en", "length": 4}
    lines = [record | {"input": f"Question {number}?", "_id": str(number)} for number in range(5)]
    (data / "qasper.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (data / "hotpotqa_e.jsonl").write_text(json.dumps(lines[0]) + "\n")
    (data / "dataset2prompt.json").write_text(json.dumps({"qasper": "{context}\n{input} old", "hotpotqa": "{context}\nOnly: {input} old"}))
    with running(Fake(says_its_name)) as fake:
        asked = ("longbench", "--data", data, "--base-url", fake.base_url, "--limit", "2", "--dpi", "96", "-o", tmp_path / "out")
        done = evaluate(*asked, "--tasks", "hotpotqa_e, qasper")
        assert done.returncode == 0, done.stderr
        assert len(fake.requests) == 3
        content = fake.requests[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert "weir" not in content[-1]["text"]
    found = rows(tmp_path / "out" / "longbench.jsonl")
    assert {row["task"]: row["instruction"] for row in found} == {"qasper": "dataset2prompt.json", "hotpotqa_e": "dataset2prompt.json"}
    assert {row["config"]["dpi"] for row in found} == {96}
    for row in found:
        assert 0 < row["score"] < 1  # of the words of the question only "old" is right
        assert row["prompt_tokens"] == 9
    lines_out = done.stdout.splitlines()
    assert lines_out[0].split() == ["task", "n", "score", "failed", "cut", "off", "ratio", "seconds"]
    assert [line.split()[:2] for line in lines_out[1:3]] == [["qasper", "2"], ["hotpotqa_e", "1"]]


def test_without_what_a_report_needs_the_rows_are_kept(evaluate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with running(Fake(says_its_name)) as fake:
        done = evaluate("needle", *SMALL, "--kinds", "word", "--base-url", fake.base_url, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "No report.html: An HTML report needs the extra 'experiments' (the package 'plotly' is not installed)." in done.stderr
    assert len(rows(tmp_path / "out" / "needle.jsonl")) == 2
    assert not (tmp_path / "out" / "report.html").exists()


def test_another_run_in_the_same_folder(evaluate: Command, tmp_path: Path) -> None:
    held = Held([{"content": "<answer>Half"}])
    with running(Fake(held)) as fake:
        asked = ["needle", *SMALL, "--kinds", "word", "--base-url", fake.base_url, "-o", tmp_path / "out"]
        with command("eval", *asked, "--workers", "0", state=tmp_path / "other", python=tmp_path / "no-vllm") as (process, _):
            assert held.waiting.acquire(timeout=60)
            done = evaluate(*asked)
            assert (done.returncode, done.stdout) == (11, "")
            assert f"Another run (process {process.pid}) is writing" in done.stderr
            held.release()
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        assert "0/1" in out
    assert len(rows(tmp_path / "out" / "needle.jsonl")) == 2


def test_it_is_told_how_far_the_reading_of_the_data_is() -> None:
    clock, told = Clock(), []
    tell = reading_progress(told.append, clock)
    for count in range(1, 1001):
        tell(count)
    assert told == []
    clock.now += 11
    tell(1001)
    tell(1002)
    clock.now += 11
    tell(1003)
    assert told == ["Reading the data: 1,001 samples so far.", "Reading the data: 1,003 samples so far."]


def test_bad_data_are_told_before_anything_is_begun(evaluate: Command, tmp_path: Path) -> None:
    (tmp_path / "qasper.jsonl").write_text("{}\n")
    done = evaluate("longbench", "--data", tmp_path, "--base-url", "http://127.0.0.1:9/v1", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    assert "qasper.jsonl, line 1: the field" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("needle", "--depths", "0,deep"), 2, "'0,deep' is no list of numbers"),
        (("needle", "--depths", "120"), 2, "from 0 to 100"),
        (("needle", "--kinds", "colour"), 2, "Kinds: word, number, uuid"),
        (("needle", "--lengths", "5"), 2, "100 or more"),
        (("needle", "--repeat", "1000000"), 2, "That is 30,000,000 questions"),
        (("needle", "--depths", "0,100,100"), 2, "each once"),
        (("needle", "--config", "nonesuch"), 3, "nonesuch"),
        (("needle", "--grid", "nonesuch"), 3, "There is no grid"),
        (("needle", "--grid", "quick", "--config", "en"), 2, "contradict"),
        (("needle", "--haystack", "nowhere.txt"), 4, "nowhere.txt"),
        (("longbench",), 2, "--data"),
        (("longbench", "--data", "nowhere"), 4, "is not there"),
        (("mrcr", "--data", "."), 4, "no file of MRCR"),
        (("ruler", "--data", "."), 4, "no file of RULER"),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...], code: int, words: str, evaluate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = evaluate(*arguments, "--reader", "ocr")
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "empty").iterdir()) == []  # nothing was begun
