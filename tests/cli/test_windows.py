"""A document longer than the model's context, through the installed command: one answer, and the account of how it came about."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import REPOSITORY, glyph_compress
from tests.support.fake_openai import Fake, Handler, Held, in_turn, resets, running, says
from tests.support.processes import command, interrupt
from tests.test_asking import CONTEXT, answering, document, first_page, prompt_tokens

NOWHERE = "http://127.0.0.1:1/v1"
PAGES = 11  # three windows of 4,000 tokens
# Uncropped pages, each of which costs the same.
DRAWING = ["--font", "DejaVuSans.ttf", "--set", "auto-crop-width=false", "--set", "auto-crop-last-page=false"]
MERGED = "All in all: yes [page 1], and no [pages 5-6]."
WAIT_S = 60.0


def reply(question: str, pages: int) -> str:
    return f"From page {first_page(question)} [page {first_page(question)}]." if pages else MERGED


@pytest.fixture
def long(tmp_path: Path) -> Path:
    path = tmp_path / "long.txt"
    path.write_text(document(PAGES).text, "utf-8")
    return path


def ask(fake: Fake | str, doc: Path, *options: str) -> Any:
    url = fake if isinstance(fake, str) else fake.base_url
    done = glyph_compress(doc, "-q", "What?", *DRAWING, "--base-url", url, *options, state=doc.parent / "state")
    assert "Traceback" not in done.stderr
    return done


def account(err: str) -> dict[str, str]:
    """The rows of the report."""
    return {label.strip(): value.strip() for label, value in (line.split("  ", 1) for line in err.splitlines() if "  " in line)}


def pages_asked(fake: Fake) -> list[int]:
    """How many pages each request had, 0 for a merging one."""
    return [len(body["messages"][0]["content"]) - 1 for body in fake.requests]


def test_only_the_merged_answer_is_on_standard_output(long: Path) -> None:
    with running(Fake(answering(reply), max_model_len=CONTEXT)) as fake:
        done = ask(fake, long)
    assert (done.returncode, done.stdout) == (0, MERGED + "\n"), done.stderr
    assert sorted(pages_asked(fake)) == [0, 3, 4, 4]
    rows = account(done.stderr)
    assert rows["windows"] == "3, 1 more request merged their answers"
    served = sum(prompt_tokens(body) for body in fake.requests)
    assert rows["prompt tokens"] == f"{served:,}  as served, {served:,} predicted"
    assert rows["completion"].startswith("40 tokens")
    assert rows["cited"] == "page 1, page 5, page 6"
    assert "merge" in rows["time"]
    assert "From page" not in done.stderr
    assert "Hm." not in done.stderr


def test_a_window_that_found_nothing_is_counted_and_left_out(long: Path) -> None:
    def mostly_nothing(question: str, pages: int) -> str:
        return "Yes [page 5]." if first_page(question) == 4 else "NOTHING FOUND"

    with running(Fake(answering(mostly_nothing), max_model_len=CONTEXT)) as fake:
        done = ask(fake, long)
    assert (done.returncode, done.stdout) == (0, "Yes [page 5].\n"), done.stderr
    assert account(done.stderr)["windows"] == "3, 2 of them found nothing"


def test_the_answers_of_windows_are_shown_with_the_reasoning(long: Path) -> None:
    with running(Fake(answering(reply), max_model_len=CONTEXT)) as fake:
        done = ask(fake, long, "--show-reasoning")
    assert (done.returncode, done.stdout) == (0, MERGED + "\n"), done.stderr
    for label, page in (("pages 1-3", 1), ("pages 4-7", 4), ("pages 8-11", 8)):
        assert f"[{label}]\nHm.\nFrom page {page} [page {page}].\n" in done.stderr
    assert MERGED not in done.stderr


def test_json_holds_windows_merges_and_sources(long: Path) -> None:
    with running(Fake(answering(reply), max_model_len=CONTEXT)) as fake:
        done = ask(fake, long, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert data["text"] == MERGED
    assert [(window["first_page"], window["last_page"], window["label"]) for window in data["windows"]] == [
        (1, 3, "pages 1-3"),
        (4, 7, "pages 4-7"),
        (8, 11, "pages 8-11"),
    ]
    assert [window["found"] for window in data["windows"]] == [True] * 3
    (merge,) = data["merges"]
    assert (merge["final"], merge["round"], merge["labels"]) == (True, 1, ["pages 1-3", "pages 4-7", "pages 8-11"])
    requests = [*data["windows"], merge]
    assert all(request["predicted_prompt_tokens"] == request["usage"]["prompt_tokens"] for request in requests)
    assert data["usage"]["prompt_tokens"] == sum(request["usage"]["prompt_tokens"] for request in requests)
    text = document(PAGES).text
    assert [source["page"] for source in data["sources"]] == [1, 5, 6]
    assert data["sources"][0]["start"] == 0
    assert text[data["sources"][1]["end"] :].startswith(text[data["sources"][2]["start"] :][:20])


def test_overlap(long: Path) -> None:
    with running(Fake(answering(reply), max_model_len=CONTEXT)) as fake:
        data = json.loads(ask(fake, long, "--json", "--quiet", "--overlap", "1").stdout)
    assert len(data["windows"]) > 1
    assert all(later["first_page"] == earlier["last_page"] for earlier, later in pairwise(data["windows"]))


def test_the_size_of_a_request(long: Path) -> None:
    with running(Fake(answering(reply))) as fake:
        assert account(ask(fake, long, "--max-request-mb", "0.06").stderr)["windows"].split(",")[0] not in ("0", "1")
        assert max(len(json.dumps(body)) for body in fake.requests) < 60_000 + 1_000
        done = ask(fake, long, "--max-request-mb", "0.001")
    assert (done.returncode, done.stdout) == (8, "")
    assert "Page 1 takes" in done.stderr


def test_side_by_side_and_one_at_a_time(long: Path) -> None:
    side_by_side = threading.Barrier(3)

    def together(question: str, pages: int) -> str:
        if pages:
            side_by_side.wait(WAIT_S)  # which fails if they don't all come while none is answered
        return reply(question, pages)

    with running(Fake(answering(together), max_model_len=CONTEXT)) as fake:
        assert ask(fake, long).stdout == MERGED + "\n"

    under_way, most = 0, 0
    counting = threading.Lock()

    def counted(handler: Handler, body: dict[str, Any]) -> None:
        nonlocal under_way, most
        with counting:
            under_way += 1
            most = max(most, under_way)
        handler.begin([{"reasoning": "Hm."}])
        with counting:
            under_way -= 1  # before its end, upon which the next may come at once
        handler.write_event({"choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}]})
        handler.write_chunk(b"data: [DONE]\n\n")
        handler.wfile.write(b"0\r\n\r\n")

    with running(Fake(counted, max_model_len=CONTEXT)) as fake:
        assert ask(fake, long, "--concurrency", "1").stdout == "Yes.\n"
    assert (most, pages_asked(fake)) == (1, [3, 4, 4, 0])
    assert [first_page(body["messages"][0]["content"][-1]["text"]) for body in fake.requests[:3]] == [1, 4, 8]


def test_pages_are_named_only_where_it_is_of_use(long: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("A short text.\n", "utf-8")

    def questions(doc: Path, *options: str) -> list[str]:
        with running(Fake(answering(lambda question, pages: "Yes."), max_model_len=CONTEXT)) as fake:
            assert ask(fake, doc, *options).returncode == 0
        return [body["messages"][0]["content"][-1]["text"] for body in fake.requests if len(body["messages"][0]["content"]) > 1]

    cite = "Name the page of each statement in square brackets"
    assert questions(short, "--mode", "pages") == ["What?"]
    assert all(cite in question for question in questions(short, "--cite", "--mode", "pages"))
    assert all(cite in question for question in questions(long))
    assert not any(cite in question for question in questions(long, "--no-cite"))


def test_a_question_that_leaves_no_room(long: Path) -> None:
    with running(Fake(answering(reply), max_model_len=CONTEXT)) as fake:
        done = ask(fake, long, "-q", "Why? " * 1000)
    assert (done.returncode, done.stdout, fake.requests) == (8, "", [])
    assert "4000" in done.stderr


Reply = Callable[[Handler, dict[str, Any]], None]


@pytest.mark.parametrize("merging", [False, True])
def test_half_an_answer_never_gets_to_standard_output(long: Path, merging: bool) -> None:
    """A window's, and the merged one, which is streamed."""
    whole, cut = answering(reply), resets([{"content": "<answer>Half an ans"}])
    broken = threading.Lock()  # once

    def breaks(handler: Handler, body: dict[str, Any]) -> None:
        is_merging = len(body["messages"][0]["content"]) == 1
        (cut if is_merging == merging and broken.acquire(blocking=False) else whole)(handler, body)

    with running(Fake(breaks, max_model_len=CONTEXT)) as fake:
        done = ask(fake, long)
    assert (done.returncode, done.stdout) == (0, MERGED + "\n"), done.stderr
    assert "broke off its answer" in done.stderr
    assert "Asking again" in done.stderr
    assert (" of 3: The server" in done.stderr) is not merging  # which window it was
    assert len(fake.requests) == 5


def test_half_an_answer_to_a_short_document(tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("A short text.\n", "utf-8")
    with running(Fake(in_turn(resets([{"content": "<answer>Half an ans"}]), says([{"content": "<answer>The whole answer"}])))) as fake:
        done = ask(fake, short)
        assert (done.returncode, done.stdout) == (0, "The whole answer\n"), done.stderr
    with running(Fake(resets([{"content": "<answer>Half an ans"}]))) as fake:
        done = ask(fake, short, "--retry-for", "0")
        assert (done.returncode, done.stdout) == (9, "")
        assert len(fake.requests) == 1


def test_several_servers(long: Path) -> None:
    with running(Fake(answering(reply), max_model_len=CONTEXT)) as fake:
        for urls in ([NOWHERE, fake.base_url], [fake.base_url, NOWHERE]):
            done = ask(urls[0], long, "--base-url", urls[1])
            assert (done.returncode, done.stdout) == (0, MERGED + "\n"), done.stderr
    with running(Fake(answering(reply), max_model_len=CONTEXT)) as one, running(Fake(answering(reply), max_model_len=CONTEXT)) as other:
        assert ask(one, long, "--base-url", other.base_url).stdout == MERGED + "\n"
        assert sorted([*pages_asked(one), *pages_asked(other)]) == [0, 3, 4, 4]
        assert one.requests
        assert other.requests
    done = ask(NOWHERE, long, "--base-url", "http://127.0.0.1:2/v1")
    assert (done.returncode, done.stdout) == (7, "")
    assert NOWHERE in done.stderr


def test_ctrl_c_ends_the_requests_of_all_windows(long: Path) -> None:
    held = [Held([{"reasoning": "Hm."}]) for _ in range(3)]
    with running(Fake(in_turn(*held), max_model_len=CONTEXT)) as fake:
        asked = [long, "-q", "What?", *DRAWING, "--base-url", fake.base_url]
        with command(*asked, state=long.parent / "state", python=long.parent / "no-vllm") as (process, _):
            for each in held:
                while not each.waiting.acquire(timeout=1):
                    assert process.poll() is None, process.communicate()
            interrupt(process)
            out, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, out) == (130, ""), err
        assert "Interrupted." in err
        assert "Traceback" not in err
        for each in held:
            assert each.left.wait(WAIT_S)
    assert len(fake.requests) == 3


def test_the_documentation_has_the_words_that_the_model_is_told(tmp_path: Path) -> None:
    question = "When did the ferry stop?"
    told = {1: "In 1932 [page 2].", 4: "It ran again in 1947 [page 5]."}
    doc = tmp_path / "ferry.txt"
    doc.write_text(document(PAGES).text, "utf-8")
    said = answering(lambda asked, pages: told.get(first_page(asked), "NOTHING FOUND") if pages else "Both.")
    with running(Fake(said, max_model_len=CONTEXT)) as fake:
        assert ask(fake, doc, "-q", question).stdout == "Both.\n"
    documented = (REPOSITORY / "docs" / "windows.md").read_text("utf-8")
    questions = [body["messages"][0]["content"][-1]["text"] for body in fake.requests]
    (second,) = [asked for asked, pages in zip(questions, pages_asked(fake), strict=True) if pages and first_page(asked) == 4]
    for words in (second, questions[-1]):
        assert f"```\n{words}\n```" in documented
