"""A batch through the installed command: what it writes, what a second run does, and what is left when it ends in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command import REPOSITORY, SAMPLE, glyph_compress
from tests.support.fake_openai import Fake, Handler, Held, in_turn, refuses, resets, running, says
from tests.support.processes import command, interrupt

TEXT = "The ferry of Ardmoyle ran on Thursdays until 1932.\n" * 30
WAIT_S = 60.0


def echo(handler: Handler, body: dict[str, Any]) -> None:
    """Answers with the question."""
    handler.stream([{"content": "<answer>" + question_of(body)}])


def question_of(body: dict[str, Any]) -> str:
    question: str = body["messages"][0]["content"][-1]["text"]
    return question


def lines(path: Path, count: int, *more: dict[str, Any]) -> Path:
    """Items "item 0" and so on, each with a question of its own."""
    items = [{"id": f"item {n}", "text": TEXT, "question": f"question {n}", "metadata": {"n": n}} for n in range(count)]
    path.write_text("".join(json.dumps(item) + "\n" for item in [*items, *more]), "utf-8")
    return path


def records(path: Path) -> list[dict[str, Any]]:
    """All results; fails if a line is not whole, or if an item has two."""
    data = path.read_text("utf-8")
    assert not data or data.endswith("\n")
    found = [json.loads(line) for line in data.splitlines()]
    ids = [record["id"] for record in found]
    assert len(set(ids)) == len(ids)
    return found


def statuses(path: Path) -> dict[str, str]:
    return {record["id"]: record["status"] for record in records(path)}


def asked(fake: Fake) -> list[str]:
    return sorted(question_of(body) for body in fake.requests)


class Bench:
    """A folder with a batch in it, and the command that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "in.jsonl"
        self.out = folder / "out.jsonl"

    def run(self, fake: Fake, *options: str | Path) -> subprocess.CompletedProcess[str]:
        done = glyph_compress(*self._arguments(fake, options), state=self.folder / "state", cwd=self.folder)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done

    @contextmanager
    def started(self, fake: Fake, *options: str | Path) -> Iterator[subprocess.Popen[str]]:
        """It runs; at the end of the block no process of it may be left, workers included."""
        with command(*self._arguments(fake, options), state=self.folder / "state", python=self.folder / "no-vllm") as (process, _):
            yield process

    def _arguments(self, fake: Fake, options: tuple[str | Path, ...]) -> list[str | Path]:
        return ["batch", self.source, "-o", self.out, "--base-url", fake.base_url, *options]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# -- what it reads and writes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [[], ["--workers", "0"]])
def test_json_lines_in_json_lines_out(bench: Bench, workers: list[str]) -> None:
    (bench.folder / "weir.txt").write_text("The weir at Tolvane.\n", "utf-8")
    more = [
        {"id": "file", "path": "weir.txt"},
        {"id": "two", "documents": [{"path": "weir.txt"}, {"id": "note", "text": "A note."}], "question": "both?"},
    ]
    lines(bench.source, 3, *more)
    with running(Fake(echo)) as fake:
        done = bench.run(fake, "-q", "common?", *workers)
    assert done.returncode == 0, done.stderr
    assert "5 of 5 items in " in done.stderr
    assert ": 5 ok; " in done.stderr
    found = {record["id"]: record for record in records(bench.out)}
    assert [found[f"item {n}"]["answer"] for n in range(3)] == ["question 0", "question 1", "question 2"]
    assert found["file"]["answer"] == "common?"
    assert "weir.txt page 1, note page 1" in found["two"]["answer"]
    record = found["item 2"]
    assert (record["question"], record["metadata"], record["error"], record["status"]) == ("question 2", {"n": 2}, None, "ok")
    assert record["windows"][0]["first_page"] == 1
    assert record["report"]["text_tokens"] == len(TEXT)
    assert record["report"]["vision_tokens"] > 0
    documented = (REPOSITORY / "docs" / "batch.md").read_text("utf-8")
    assert [key for key in record if f"`{key}`" not in documented] == []


def test_every_file_of_a_folder(bench: Bench) -> None:
    bench.source = bench.folder / "texts"
    (bench.source / "deep").mkdir(parents=True)
    for name in ("a.txt", "deep/b.md", ".hidden"):
        (bench.source / name).write_text(TEXT, "utf-8")
    (bench.source / "empty.txt").write_bytes(b" \n")
    (bench.source / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bench.out = bench.source / "out.jsonl"  # no item of the second run
    with running(Fake(echo)) as fake:
        done = bench.run(fake, "-q", "When?")
        assert done.returncode == 12, done.stderr
        assert statuses(bench.out) == {"a.txt": "ok", "deep/b.md": "ok", "empty.txt": "failed", "picture.png": "failed"}
        errors = {record["id"]: record["error"] for record in records(bench.out) if record["error"]}
        assert errors["empty.txt"]["type"] == "EmptyDocumentError"
        assert errors["picture.png"]["type"] == "BinaryDocumentError"
        assert "PNG image" in errors["picture.png"]["message"]
        assert errors["picture.png"]["hint"]
        for name in errors:
            assert f"{name}: " in done.stderr
        again = bench.run(fake, "-q", "When?")
    assert again.returncode == 12
    assert "4 of 4 items are done already. Nothing is missing." in again.stderr
    assert asked(fake) == ["When?", "When?"]


def test_quiet_says_nothing_but_the_exit_code_stays(bench: Bench) -> None:
    lines(bench.source, 1, {"id": "empty", "text": " ", "question": "?"})
    with running(Fake(echo)) as fake:
        done = bench.run(fake, "--quiet")
        assert (done.returncode, done.stderr) == (12, "")
        done = bench.run(fake, "--quiet")
        assert (done.returncode, done.stderr) == (12, "")


def test_cut_answers_are_exit_code_10_failures_12(bench: Bench) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.stream([{"content": "<answer>Half"}], finish="length" if question_of(body) == "question 1" else "stop")

    lines(bench.source, 3)
    with running(Fake(reply)) as fake:
        done = bench.run(fake)
        assert done.returncode == 10, done.stderr
        assert "2 ok, 1 truncated; " in done.stderr
        cut = {record["id"]: record for record in records(bench.out)}["item 1"]
        assert (cut["status"], cut["truncated"], cut["answer"]) == ("truncated", True, "Half")
        # What was cut is done: it would be cut again.
        assert bench.run(fake).returncode == 10
        assert len(fake.requests) == 3
        with bench.source.open("a") as source:
            source.write("not json\n")
        done = bench.run(fake)
        assert done.returncode == 12
        assert "line 4: " in done.stderr
        assert "is not JSON" in done.stderr
    assert statuses(bench.out)["line 4"] == "failed"


# -- what ends it before it begins ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options", "code", "words"),
    [
        (None, [], 4, ["There is no file or folder"]),
        ("", [], 4, ["has no items"]),
        ('{"id": "a", "text": "x", "question": "?"}\n' * 2, [], 4, ["lines 1 and 2 have one id, 'a'"]),
        ('{"text": "x"}\n', ["-q", " "], 2, ["The question is empty"]),
        ('{"text": "x"}\n', ["-q", "?", "--workers", "-1"], 2, ["--workers"]),
        ('{"text": "x"}\n', ["-q", "?", "--dpi", "5000"], 3, ["dpi = 5000"]),
        ('{"text": "x"}\n', ["-q", "?", "--font", "No Such Font"], 5, ["No Such Font"]),
        ('{"text": "x"}\n', ["-q", "?", "--model", "other"], 7, ["does not serve 'other'"]),
    ],
)
def test_what_is_wrong_from_the_start(bench: Bench, content: str | None, options: list[str], code: int, words: list[str]) -> None:
    if content is not None:
        bench.source.write_text(content, "utf-8")
    with running(Fake(echo)) as fake:
        done = bench.run(fake, *options)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("Error:") == 1
    for word in words:
        assert word in done.stderr
    assert fake.requests == []
    assert not bench.out.exists() or bench.out.read_bytes() == b""


def test_no_question_at_all(bench: Bench) -> None:
    bench.source.write_text('{"id": "a", "text": "x"}\n', "utf-8")
    with running(Fake(echo)) as fake:
        done = bench.run(fake)
        # One line without a question is that line's failure ...
        assert done.returncode == 12
        assert "there is no 'question'" in records(bench.out)[0]["error"]["message"]
        # ... but a folder has no place for one.
        bench.source, bench.out = SAMPLE.parent, bench.folder / "other.jsonl"
        done = bench.run(fake)
        assert done.returncode == 2
        assert "What shall be asked about each file" in done.stderr
    assert fake.requests == []


@pytest.mark.parametrize(("out", "words"), [("folder", "is a folder"), ("in.jsonl/out.jsonl", "is a file, not a folder")])
def test_an_output_that_cannot_be_written(bench: Bench, out: str, words: str) -> None:
    lines(bench.source, 1)
    (bench.folder / "folder").mkdir()
    bench.out = bench.folder / out
    with running(Fake(echo)) as fake:
        done = bench.run(fake)
    assert done.returncode == 11, done.stderr
    assert words in done.stderr
    assert fake.requests == []


def test_an_output_that_is_something_else_is_left_alone(bench: Bench) -> None:
    lines(bench.source, 1)
    bench.out.write_text("My diary\nof 1932\n", "utf-8")
    with running(Fake(echo)) as fake:
        done = bench.run(fake)
    assert done.returncode == 11, done.stderr
    assert "is not a batch's output" in done.stderr
    assert bench.out.read_text("utf-8") == "My diary\nof 1932\n"
    assert fake.requests == []


# -- a second run --------------------------------------------------------------------------------------------------------------


def test_a_second_run_does_what_is_missing_and_nothing_else(bench: Bench) -> None:
    lines(bench.source, 2)
    with running(Fake(echo)) as fake:
        assert bench.run(fake).returncode == 0
        first = bench.out.read_bytes()
        lines(bench.source, 5)
        done = bench.run(fake)
    assert done.returncode == 0, done.stderr
    assert "2 of 5 items are done already." in done.stderr
    assert "3 of 3 items in " in done.stderr
    assert bench.out.read_bytes().startswith(first)
    assert set(statuses(bench.out)) == {f"item {n}" for n in range(5)}
    assert asked(fake) == [f"question {n}" for n in range(5)]


def test_what_failed_is_done_again_only_if_asked_for(bench: Bench) -> None:
    lines(bench.source, 3)
    mended = False

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if question_of(body) == "question 1" and not mended:
            refuses(422, "not that one")(handler, body)
        else:
            echo(handler, body)

    with running(Fake(reply)) as fake:
        done = bench.run(fake)
        assert done.returncode == 12, done.stderr
        assert "item 1: " in done.stderr
        assert "not that one" in done.stderr
        assert statuses(bench.out) == {"item 0": "ok", "item 1": "failed", "item 2": "ok"}
        assert bench.run(fake).returncode == 12
        assert len(fake.requests) == 3
        mended = True
        done = bench.run(fake, "--retry-failed")
        assert done.returncode == 0, done.stderr
        assert asked(fake) == ["question 0", "question 1", "question 1", "question 2"]
    assert statuses(bench.out) == dict.fromkeys(("item 0", "item 1", "item 2"), "ok")


def test_a_last_line_that_is_not_whole_is_said_and_done_again(bench: Bench) -> None:
    lines(bench.source, 3)
    with running(Fake(echo)) as fake:
        bench.run(fake)
        whole = bench.out.read_bytes()
        *before, last = whole.splitlines(keepends=True)
        id = json.loads(last)["id"]
        bench.out.write_bytes(b"".join(before) + last[: len(last) // 2])
        del fake.requests[:]
        done = bench.run(fake)
    assert done.returncode == 0, done.stderr
    assert "(line 3, " in done.stderr
    assert "was not written to its end; it is cut off, and its item is done again." in done.stderr
    assert asked(fake) == [id.replace("item", "question")]
    assert bench.out.read_bytes().startswith(b"".join(before))
    assert set(statuses(bench.out)) == {"item 0", "item 1", "item 2"}


def test_two_runs_on_one_output(bench: Bench) -> None:
    lines(bench.source, 4)
    held = Held([{"content": "<answer>"}])
    with running(Fake(held)) as fake, bench.started(fake) as first:
        try:
            reached(first, held)
            second = bench.run(fake)
            assert second.returncode == 11, second.stderr
            assert f"Another run (process {first.pid}) is writing" in second.stderr
            assert "Wait for it to end, or name another file" in second.stderr
        finally:
            held.release()
        _, err = first.communicate(timeout=WAIT_S)
        assert first.returncode == 0, err
        assert len(fake.requests) == 4
    assert statuses(bench.out) == {f"item {n}": "ok" for n in range(4)}


# -- what goes wrong in the middle ---------------------------------------------------------------------------------------------


def test_a_server_that_is_refusing_for_a_moment(bench: Bench) -> None:
    lines(bench.source, 2)
    with running(Fake(in_turn(refuses(503, "loading"), refuses(429, "slowly", **{"retry-after": "0"}), echo))) as fake:
        done = bench.run(fake)
    assert done.returncode == 0, done.stderr
    assert len(fake.requests) == 4
    assert {record["id"]: record["answer"] for record in records(bench.out)} == {"item 0": "question 0", "item 1": "question 1"}


def test_of_a_cut_stream_nothing_gets_into_the_output(bench: Bench) -> None:
    lines(bench.source, 1)
    cut = resets([{"reasoning": "First thought."}, {"content": "<answer>The first ans"}])
    usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
    whole = says([{"reasoning": "Second thought."}, {"content": "<answer>The second answer"}], usage=usage)
    with running(Fake(in_turn(cut, whole))) as fake:
        done = bench.run(fake)
    assert done.returncode == 0, done.stderr
    assert len(fake.requests) == 2
    (record,) = records(bench.out)
    assert (record["answer"], record["reasoning"], record["usage"]["completion_tokens"]) == ("The second answer", "Second thought.", 7)


def test_a_server_that_goes_away_ends_it_and_what_was_done_stays(bench: Bench) -> None:
    lines(bench.source, 6)

    def dies(handler: Handler, body: dict[str, Any]) -> None:
        handler.server.shutdown()
        handler.server.socket.close()
        handler.reset()

    options = ["--concurrency", "1", "--retry-for", "1"]
    with running(Fake(in_turn(echo, echo, dies))) as fake:
        done = bench.run(fake, *options)
    assert done.returncode == 7, done.stderr
    assert "can't be reached" in done.stderr
    assert "2 of 6 items in " in done.stderr
    assert "4 are still missing: run it again" in done.stderr
    before = bench.out.read_bytes()
    assert len(records(bench.out)) == 2
    with running(Fake(echo)) as fake:
        done = bench.run(fake, *options)
    assert done.returncode == 0, done.stderr
    assert len(fake.requests) == 4
    assert bench.out.read_bytes().startswith(before)
    assert statuses(bench.out) == {f"item {n}": "ok" for n in range(6)}


def test_another_server_takes_the_requests_of_one_that_is_down(bench: Bench) -> None:
    lines(bench.source, 6)
    with running(Fake(echo)) as one, running(Fake(echo)) as other:
        done = bench.run(one, "--base-url", other.base_url, "--base-url", "http://127.0.0.1:1/v1")
    assert done.returncode == 0, done.stderr
    assert sorted([*asked(one), *asked(other)]) == [f"question {n}" for n in range(6)]
    assert asked(one)
    assert asked(other)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_in_the_middle(bench: Bench, workers: str) -> None:
    lines(bench.source, 12)
    held = [Held([{"content": "<answer>Half"}]) for _ in range(3)]
    with running(Fake(in_turn(echo, echo, *held))) as fake:
        with bench.started(fake, "--concurrency", "3", "--workers", workers) as process:
            for each in held:
                reached(process, each)
            interrupt(process)
            out, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, out) == (130, ""), err
        assert "Interrupted." in err
        assert "are still missing: run it again" in err
        assert "Traceback" not in err
        for each in held:
            assert each.left.wait(WAIT_S)  # the server need not go on for nobody
    goes_on(bench, 12, at_most=2)


def test_killed_in_the_middle(bench: Bench) -> None:
    lines(bench.source, 12)
    held = Held([{"content": "<answer>Half"}])
    with running(Fake(in_turn(*[echo] * 5, held))) as fake:
        with bench.started(fake, "--concurrency", "2") as process:
            reached(process, held)
            reached(process, held)
            assert len(psutil.Process(process.pid).children()) > 0
            process.send_signal(signal.SIGKILL)
            _, err = process.communicate(timeout=60)  # until its workers, too, are gone
        assert (process.returncode, err) == (-signal.SIGKILL, "")
    goes_on(bench, 12, at_most=5)


def test_an_output_that_is_removed_while_it_runs(bench: Bench) -> None:
    lines(bench.source, 4)
    held = Held([{"content": "<answer>"}])
    with running(Fake(in_turn(echo, echo, held))) as fake, bench.started(fake, "--concurrency", "1") as process:
        try:
            reached(process, held)
            bench.out.unlink()
        finally:
            held.release()
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (11, ""), err
    assert "was removed or moved while the batch ran. All results so far were put back" in err
    # Both answers, and the one that found the file gone.
    assert len(records(bench.out)) in (2, 3)
    goes_on(bench, 4, at_most=3)


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="a limit on the size of files stands for a full disk")
def test_a_disk_that_gets_full(bench: Bench) -> None:
    lines(bench.source, 6)
    held = Held([{"content": "<answer>"}])
    with running(Fake(in_turn(echo, echo, held))) as fake, bench.started(fake, "--concurrency", "1") as process:
        try:
            reached(process, held)
            size = bench.out.stat().st_size
            psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (size + 200, size + 200))
        finally:
            held.release()
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (11, ""), err
    assert "is full (File too large)" in err
    assert "The results before it are whole." in err
    assert "Make room, then run the same command again" in err
    assert len(records(bench.out)) == 2
    goes_on(bench, 6, at_most=2)


JUMPS = """
import itertools, time
clock, jumps = time.time, itertools.cycle([0, 1e6, -1e6, 3e7])
time.time = lambda: clock() + next(jumps)
"""


def test_a_clock_that_jumps(bench: Bench) -> None:
    """Waits and times go by clocks that never jump, and a Retry-After by the server's own clock."""
    lines(bench.source, 3)
    (bench.folder / "site").mkdir()
    (bench.folder / "site" / "sitecustomize.py").write_text(JUMPS, "utf-8")

    def busy(handler: Handler, body: dict[str, Any]) -> None:
        refuses(503, "busy", **{"retry-after": handler.date_time_string()})(handler, body)  # from now on

    path = os.pathsep.join(filter(None, [str(bench.folder / "site"), os.environ.get("PYTHONPATH")]))
    with running(Fake(in_turn(echo, busy, busy, echo))) as fake:
        arguments = ["batch", bench.source, "-o", bench.out, "--base-url", fake.base_url, "--retry-for", "300"]
        done = glyph_compress(*arguments, state=bench.folder / "state", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert len(fake.requests) == 5
    for record in records(bench.out):
        assert all(0 <= seconds < 1e5 for seconds in record["seconds"].values())  # the clock's jumps are of a million and more


def reached(process: subprocess.Popen[str], held: Held) -> None:
    """One more request has come to ``held``."""
    while not held.waiting.acquire(timeout=1):
        assert process.poll() is None, process.communicate()


def goes_on(bench: Bench, count: int, at_most: int) -> None:
    """A second run does what the first, which ended in the middle, left; together they have done each item once."""
    before = bench.out.read_bytes()
    done_before = before.count(b"\n")
    assert 1 <= done_before <= at_most
    with running(Fake(echo)) as fake:
        done = bench.run(fake)
    assert done.returncode == 0, done.stderr
    assert f"{done_before} of {count} items are done already." in done.stderr
    assert len(fake.requests) == count - done_before
    assert bench.out.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert statuses(bench.out) == {f"item {n}": "ok" for n in range(count)}


# -- much of it ----------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_a_thousand_documents_need_little_memory(bench: Bench) -> None:
    text = (SAMPLE.read_text("utf-8") * 2)[:20_000]
    with bench.source.open("w", encoding="utf-8") as source:
        for n in range(1000):
            source.write(json.dumps({"id": f"item {n}", "text": f"{n}\n{text}", "question": f"question {n}"}) + "\n")

    answered = 0

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        nonlocal answered
        answered += 1
        handler.fake.requests.clear()  # the test's own process is not measured, but it need not hold a thousand either
        echo(handler, body)

    early, late, processes = 0, 0, 0
    # No vLLM, so that the workers count the text tokens, too.
    with running(Fake(reply, is_vllm=False)) as fake, bench.started(fake, "--workers", "2") as process:
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            resident = []
            for each in (parent, *children(parent)):
                try:
                    resident.append(each.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            if answered < 500:
                early = max(early, sum(resident))
            late, processes = max(late, sum(resident)), max(processes, len(resident))
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert statuses(bench.out) == {f"item {n}": "ok" for n in range(1000)}
    assert processes == 3  # or else less was measured than there is
    print(f"\n{late / 1e6:.0f} MB at most, {early / 1e6:.0f} MB in the first half, of {processes} processes; {err.strip()}")
    assert 50e6 < late < 2e9
    assert late < 1.3 * early  # it does not grow with what is done


def children(process: psutil.Process) -> list[psutil.Process]:
    """Workers: each is in a session of its own. Python's platform module starts "uname -p" now and then, which is in ours."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in process.children(recursive=True):
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(child.pid) == child.pid:
                    found.append(child)
    return found


def test_every_test_that_the_documentation_names_is_there() -> None:
    documented = "".join(path.read_text("utf-8") for path in (REPOSITORY / "docs").glob("*.md"))
    named = re.findall(r"(tests/\w+(?:/\w+)*\.py)::(\w+)", documented)
    assert len(named) > 50
    assert [name for file, name in named if f"def {name}(" not in (REPOSITORY / file).read_text("utf-8")] == []
