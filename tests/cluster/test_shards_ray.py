"""Shards on a real two-node Ray cluster: the bytes of one machine, whatever dies on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from glyph_pipeline.cluster.shards import draw_shards, on_cluster
from glyph_pipeline.errors import ClusterError, OutputError, UsageError
from glyph_pipeline.shards import ShardSummary, plan_shards
from glyph_pipeline.shards import draw_shards as draw_here
from glyph_pipeline.shards.work import WriteShard, work_off
from tests.support.command import glyph_compress
from tests.support.deadly import deadly, fine, unit
from tests.support.ray_cluster import TwoNodes
from tests.support.shards import CONFIG, beside, corpus, tar_samples, tree


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_the_same_bytes_as_on_one_machine(standing_cluster: TwoNodes, tmp_path: Path, format: str) -> None:
    source = corpus(tmp_path / "in.jsonl")
    options = {"config": CONFIG, "shard_size": 3, "format": format}
    drawn: list[ShardSummary] = []
    here = draw_here(source, tmp_path / "here", workers=1, **options)
    there = draw_shards(source, tmp_path / "there", address=standing_cluster.address, on_shard=drawn.append, **options)
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert there.counts == here.counts
    assert sorted(shard.number for shard in drawn) == list(range(8))
    # What is there is not done again, on whatever engine; for nothing no cluster is looked for.
    (tmp_path / "there" / "shard-000004.json").unlink()
    again = draw_here(source, tmp_path / "there", workers=0, **options)
    assert again.drawn.documents == 3
    assert draw_shards(source, tmp_path / "there", address="127.0.0.1:1", **options).drawn.pages == 0
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


def test_a_document_that_kills_its_process_is_a_failed_document(standing_cluster: TwoNodes, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    spec = plan_shards([corpus(tmp_path / "in.jsonl", 1)], config=CONFIG).spec(str(tmp_path / "out"))
    units = [unit(fine("a"), deadly("x"), fine("b")), *(unit(fine(f"c{n}")) for n in range(4))]
    done: list[ShardSummary] = []
    with on_cluster(standing_cluster.address) as execute:
        work_off([WriteShard(spec, number, each) for number, each in enumerate(units)], execute, done.append)
    assert sorted(shard.number for shard in done) == [0, 1, 2, 3, 4]
    assert [sample["json"]["id"] for sample in tar_samples(tmp_path / "out")] == ["a", "b", "c0", "c1", "c2", "c3"]
    (failure,) = (failure for facts in beside(tmp_path / "out") for failure in facts["failed"])
    assert (failure["id"], "The process that drew 'x' died each time" in failure["message"]) == ("x", True)


def test_what_would_fail_every_shard_ends_it(standing_cluster: TwoNodes, tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in.jsonl", 6), tmp_path / "out"

    def in_the_way(shards: int, done: object) -> None:
        for number in range(shards):
            (out / f"shard-{number:06d}.tar").mkdir()

    with pytest.raises(OutputError):
        draw_shards(source, out, address=standing_cluster.address, config=CONFIG, shard_size=1, on_begin=in_the_way)
    with pytest.raises(ClusterError, match="No Ray cluster answers"):
        draw_shards(source, tmp_path / "two", address="127.0.0.1:1", config=CONFIG)
    with pytest.raises(UsageError, match="workers is 0"):
        draw_shards(source, tmp_path / "two", workers=0)


def test_the_command_on_a_cluster(standing_cluster: TwoNodes, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in.jsonl", 8)
    options = ["--shards", "webdataset", "--shard-size", "2", "--no-system-fonts"]
    done = glyph_compress(
        "render", source, "-o", tmp_path / "there", *options, "--engine", "ray", "--address", standing_cluster.address, state=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "shards         4 in" in done.stderr
    assert glyph_compress("render", source, "-o", tmp_path / "here", *options, state=tmp_path).returncode == 0
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


def test_a_node_is_killed_in_the_middle(cluster: TwoNodes, tmp_path: Path) -> None:
    source = corpus(tmp_path / "in.jsonl", 60, words=2000)
    options = {"config": CONFIG, "shard_size": 3}
    draw_here(source, tmp_path / "here", workers=1, **options)
    drawn: list[int] = []

    def shard(summary: ShardSummary) -> None:
        drawn.append(summary.number)
        if len(drawn) == 5:
            cluster.kill()

    there = draw_shards(source, tmp_path / "there", address=cluster.address, on_shard=shard, **options)
    assert sorted(drawn) == list(range(20))
    assert there.counts.failed == 0
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
