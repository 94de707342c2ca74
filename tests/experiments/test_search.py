"""The search: the default first, nothing twice, the same again whatever stopped it, better in the end than where it began."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import RenderConfig
from glyph_pipeline.errors import OutputError
from glyph_pipeline.experiments.search import key_of, trials_in_front
from tests.experiments.searched import Computed, computed, searched, space_of


def test_the_default_and_the_presets_come_first_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    objective = Computed()
    records = searched(tmp_path, space_of(tmp_path), objective, trials=40)
    assert [record["proposed"] for record in records[:4]] == ["default", "preset newline-mark", "preset tight", "search"]
    assert records[0]["config"] == RenderConfig.preset("en").to_dict()
    assert [record["trial"] for record in records] == list(range(40))
    assert len(objective.measured) == len({key_of(config) for config in objective.measured}) == 40
    for record in records:
        assert key_of(RenderConfig(**record["config"])) == record["id"]
        assert record["ratio"] == round(record["text_tokens"] / record["vision_tokens"], 4)
        assert record["error"] == record["counts"]["text"]["errors"] / 10_000
    lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text("utf-8").splitlines()]
    assert lines == records


def gained(records: Sequence[Mapping[str, Any]], most: float = 0.2) -> float:
    """The area that a front commands: of ratio from 0, and error up to ``most`` (hypervolume; Zitzler and Thiele 1998)."""
    area = before = 0.0
    for record in reversed(trials_in_front(records)):
        area += (record["ratio"] - before) * max(0.0, most - record["error"])
        before = record["ratio"]
    return area


def test_it_finds_more_than_as_many_draws_by_lot(tmp_path: Path) -> None:
    space, found, drawn = space_of(tmp_path), [], []
    for seed in range(3):
        records = searched(tmp_path / str(seed), space, Computed(), trials=100, seed=seed)
        found.append(gained(records))
        chance = random.Random(seed)
        points = [tuple(chance.randrange(len(values)) for values in space.axes.values()) for _ in range(100)]
        drawn.append(gained([{"id": str(point), "status": "ok", **computed(space.config(point)).to_dict()} for point in points]))
        default = records[0]
        assert any(record["ratio"] > 1.2 * default["ratio"] and record["error"] <= default["error"] for record in records)
    assert sum(found) > sum(drawn)


def test_another_seed_is_another_search(tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        runs.append([record["id"] for record in searched(tmp_path / name, space_of(tmp_path), Computed(), trials=20, seed=seed)])
    assert runs[0] == runs[1] != runs[2]


def test_a_search_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", space_of(tmp_path), Computed(), trials=45)
    cut = tmp_path / "cut"
    for stop in (0, 1, 3, 17):
        before = searched(cut, space_of(tmp_path), Computed(stop), trials=45)
    assert len(before) == 21
    rest = Computed()
    after = searched(cut, space_of(tmp_path), rest, trials=45)
    assert [record["id"] for record in after] == [record["id"] for record in whole]
    assert len(rest.measured) == 24
    (cut / "study.journal").unlink()  # it holds nothing that the trials and the seed don't
    more = searched(cut, space_of(tmp_path), Computed(), trials=60)
    assert [record["id"] for record in more] == [
        record["id"] for record in searched(tmp_path / "whole", space_of(tmp_path), Computed(), trials=60)
    ]


@pytest.mark.parametrize("damage", ["torn", "foreign", "binary"])
def test_a_damaged_journal_is_mended_or_made_anew(damage: str, tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", space_of(tmp_path), Computed(), trials=25)
    cut = tmp_path / "cut"
    searched(cut, space_of(tmp_path), Computed(), trials=20)
    journal = cut / "study.journal"
    data = journal.read_bytes()
    journal.write_bytes({"torn": data[:-7], "foreign": b'{"a": 1}\n' + data, "binary": b"\0\xff\n" * 9}[damage])
    notices: list[str] = []
    after = searched(cut, space_of(tmp_path), Computed(), notices=notices, trials=25)
    assert [record["id"] for record in after] == [record["id"] for record in whole]
    assert bool(notices) == (damage != "torn")
    assert len(list(cut.glob("*.found-1.journal"))) == (damage != "torn")


def test_a_small_space_is_exhausted(tmp_path: Path) -> None:
    notices: list[str] = []
    small = space_of(tmp_path, "[space]\nfont-size = [8, 9, 10]\ndpi = [72, 84, 96]\n")
    records = searched(tmp_path, small, Computed(), notices=notices, trials=50)
    assert len(records) == small.size == 9
    assert "All 9 configurations" in notices[-1]


def test_what_cannot_be_drawn_is_told_and_never_in_front(tmp_path: Path) -> None:
    notices: list[str] = []
    small = space_of(tmp_path, "[space]\nfont-size = [9, 30]\nmargin-y = [10, 370]\nmargin-x = [10, 280]\n")
    records = searched(tmp_path, small, Computed(), notices=notices, trials=50)
    failed = [record for record in records if record["status"] == "failed"]
    assert len(records) == 8
    assert [set(record["changes"].values()) for record in failed]
    assert all("fit" in record["failure"] for record in failed)
    assert sum("can't be drawn" in notice for notice in notices) == len(failed)
    assert not {record["id"] for record in failed} & {record["id"] for record in trials_in_front(records)}
    again = searched(tmp_path, small, Computed(0), trials=50)  # and is not tried again
    assert again == records


def test_a_default_outside_the_space_is_measured_all_the_same(tmp_path: Path) -> None:
    outside = space_of(tmp_path, "[space]\nfont-size = [7, 8]\ndpi = [72, 84]\n")
    records = searched(tmp_path, outside, Computed(), trials=50)
    assert (records[0]["proposed"], records[0]["changes"]) == ("default", {})
    assert len(records) == outside.size + 1
    assert len({record["id"] for record in records}) == 5


def test_time_is_a_bound(tmp_path: Path) -> None:
    notices: list[str] = []
    records = searched(tmp_path, space_of(tmp_path), Computed(), notices=notices, trials=50, seconds=1e-9)
    assert [record["proposed"] for record in records] == ["default"]
    assert "are over" in notices[-1]


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "study.journal").mkdir()
    with pytest.raises(OutputError, match=r"study\.journal"):
        searched(tmp_path, space_of(tmp_path), Computed(), trials=3)


def test_the_front_has_the_first_of_those_that_are_alike() -> None:
    rows = [(3.0, 0.1), (2.0, 0.1), (3.0, 0.1), (4.0, 0.2), (1.0, 0.0)]
    records = [{"id": str(place), "status": "ok", "ratio": ratio, "error": error} for place, (ratio, error) in enumerate(rows)]
    assert [record["id"] for record in trials_in_front([*records, {"id": "x", "status": "failed"}])] == ["3", "0", "4"]
