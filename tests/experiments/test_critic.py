"""The critic: what it is told, which of its words are taken for proposals, and that a search survives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline.errors import ConfigError
from glyph_pipeline.experiments.critic import Critic, proposals
from tests.experiments.searched import TEXT, Computed, searched, space_of
from tests.support.fake_openai import Fake, refuses, running, says


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[{"dpi": 76}, {"font-size": 8}]', [{"dpi": 76}, {"font-size": 8}]),
        ('Here:\n```json\n[\n {"dpi": 76}\n]\n```\nGood luck [sic].', [{"dpi": 76}]),
        ('Not [{"dpi": 60}] but rather [{"dpi": 64}].', [{"dpi": 64}]),
        ('{"candidates": [{"dpi": 76}], "why": "denser"}', [{"dpi": 76}]),
        ('I would try {"dpi": 76}.', [{"dpi": 76}]),
        ('[1, 2] and {"dpi": [72]}', [{"dpi": [72]}]),
        ('[{"dpi": 76}, "more"]', [{"dpi": 76}]),
        ("[[[[", []),
        ("[" * 100_000, []),
        ('{"dpi": 76', []),
        ("{}", []),
        ("", []),
    ],
)
def test_what_is_taken_for_proposals(text: str, found: list[dict[str, Any]]) -> None:
    assert proposals(text) == found


def said(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "critic.jsonl").read_text("utf-8").splitlines()]


def test_proposals_are_tried_next_and_bad_ones_dropped(tmp_path: Path) -> None:
    wild = [{"dpi": 76, "font-size": 8}, {"dpi": 7200}, {"colour": "red"}, {"font-size": 9}, {"dpi": 64}]
    reply = says([{"content": '<think>[{"dpi": 80}]</think>\n```json\n'}, {"content": json.dumps(wild)}, {"content": "\n```"}])
    notices: list[str] = []
    with running(Fake(reply, is_vllm=False)) as server:
        critic = Critic(server.base_url)
        records = searched(tmp_path, space_of(tmp_path), Computed(), critic, notices, trials=12, every=5)
    assert [record["proposed"] for record in records[4:7]] == ["search", "critic", "search"]
    assert records[5]["changes"] == {"dpi": 76, "font-size": 8}
    first, second = said(tmp_path)
    assert (first["id"], second["id"], first["model"]) == ("after 5", "after 10", "fake/Glyph")
    refused = [entry.get("refused", "") for entry in first["proposals"]]
    assert refused[0] == ""
    assert "dpi = 7200 is not in the space. Allowed: 60 to 84 in steps of 4" in refused[1]
    assert "no key" in refused[2]
    assert refused[3] == "it was tried before"  # the default
    assert "more than 4" in refused[4]
    assert all("refused" in entry for entry in second["proposals"])  # all known by then
    assert any("4 of the critic's 5 proposals can't be used; the first: dpi = 7200" in notice for notice in notices)


def test_it_is_told_configurations_and_numbers_and_nothing_else(tmp_path: Path) -> None:
    with running(Fake(says([{"content": "[]"}]), is_vllm=False)) as server:
        records = searched(tmp_path, space_of(tmp_path), Computed(), Critic(server.base_url, api_key="k"), trials=12, every=6)
    assert len(server.requests) == 1
    sent = server.requests[0]
    assert set(sent) == {"model", "messages", "temperature", "top_p", "max_tokens", "stream", "stream_options"}
    words = sent["messages"][0]["content"][0]["text"]
    assert not any(line in words for line in TEXT.text.splitlines() if len(line) > 10)
    assert TEXT.id not in words
    data = json.loads(words[words.index('{"space"') :])
    assert data["space"]["dpi"] == {"from": 60, "to": 84, "step": 4}
    assert data["preset"]["font-size"] == 9
    assert [trial["ratio"] for trial in data["recent"]] == [record["ratio"] for record in records[:6]]
    assert all(set(trial) == {"changes", "ratio", "error"} for trial in data["front"] + data["recent"])
    assert server.headers[0]["authorization"] == "Bearer k"
    assert not [name for name in server.headers[0] if name.startswith("x-stainless")]


@pytest.mark.parametrize("reply", [refuses(400, "no"), refuses(401, "who?"), says([{"content": "cut"}], finish=None)])
def test_a_critic_that_fails_is_done_without(reply: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glyph_pipeline.experiments.critic._RETRY_BUDGET_S", 0.0)
    alone = searched(tmp_path / "alone", space_of(tmp_path), Computed(), trials=20)
    notices: list[str] = []
    with running(Fake(reply)) as server:
        records = searched(tmp_path / "with", space_of(tmp_path), Computed(), Critic(server.base_url, "m"), notices, trials=20, every=5)
    assert [record["id"] for record in records] == [record["id"] for record in alone]
    assert [notice for notice in notices if "goes on without it" in notice]
    assert len(server.requests) == 1
    assert said(tmp_path / "with") == []


def test_a_critic_that_is_not_there(tmp_path: Path) -> None:
    notices: list[str] = []
    records = searched(tmp_path, space_of(tmp_path), Computed(), Critic("http://127.0.0.1:1/v1"), notices, trials=8, every=4)
    assert len(records) == 8
    assert len([notice for notice in notices if "The critic can't be asked" in notice]) == 1


def test_a_critic_that_talks_nonsense_is_asked_again(tmp_path: Path) -> None:
    notices: list[str] = []
    with running(Fake(says([{"content": "Make it pop."}]))) as server:
        searched(tmp_path, space_of(tmp_path), Computed(), Critic(server.base_url, "m"), notices, trials=11, every=5)
    assert [record["text"] for record in said(tmp_path)] == ["Make it pop."] * 2
    assert notices.count("The critic said nothing that can be used; see critic.jsonl.") == 2


def test_a_search_with_a_critic_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    reply = says([{"content": '[{"dpi": 76}, {"dpi": 80}, {"dpi": 84}]'}])
    with running(Fake(reply)) as server:
        critic = Critic(server.base_url, "m")
        whole = searched(tmp_path / "whole", space_of(tmp_path), Computed(), critic, trials=14, every=5)
        asked = len(server.requests)
        for stop in (6, 3):
            searched(tmp_path / "cut", space_of(tmp_path), Computed(stop), critic, trials=14, every=5)
        again = searched(tmp_path / "cut", space_of(tmp_path), Computed(), critic, trials=14, every=5)
        assert len(server.requests) == 2 * asked  # none twice
    assert [record["id"] for record in again] == [record["id"] for record in whole]
    assert [record["proposed"] for record in whole].count("critic") == 3


@pytest.mark.parametrize("url", ["ftp://host/v1", "http://user:hunter2@host/v1", "no url"])
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Critic(url)
    assert "hunter2" not in str(raised.value)
