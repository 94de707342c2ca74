"""The input of shards, wherever it is, how it is divided, and what is wrong from the start."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from glyph_pipeline import storage
from glyph_pipeline.errors import ConfigError, EncodingError, FontError, InputError, OutputError, UsageError
from glyph_pipeline.shards import ShardSummary, draw_shards, plan_shards
from glyph_pipeline.shards import plan as plan_module
from tests.support.s3 import new_bucket, s3_server
from tests.support.shards import CONFIG, corpus, draw, prose, rows, tar_samples, tree


def test_several_sources_stand_together_and_no_shard_spans_two(tmp_path: Path) -> None:
    first = corpus(tmp_path / "in.jsonl", 7, words=20)
    folder = tmp_path / "texts"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.txt").write_text(prose(n, 20), "utf-8")
    report = draw_shards([first, folder], tmp_path / "out", config=CONFIG, shard_size=5, workers=0)
    assert report.shards == 3
    plan = json.loads((tmp_path / "out" / "shards.json").read_text("utf-8"))
    assert plan["shards"] == [
        {"shard": 0, "first": "d 0", "documents": 5},
        {"shard": 1, "first": "d 5", "documents": 2},
        {"shard": 2, "first": "0.txt", "documents": 3},
    ]
    assert (plan["identity"], plan["counts"]["documents"]) == (report.identity, 10)
    with pytest.raises(InputError, match="Two documents of the sources are called 'd 0'"):
        draw_shards([first, corpus(tmp_path / "more.jsonl", 1)], tmp_path / "two", config=CONFIG, workers=0)
    assert not (tmp_path / "two").exists()


def test_single_files_are_documents_and_share_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "in.jsonl", 1, words=20)
    Path("a.txt").write_text(prose(1), "utf-8")
    Path("b.html").write_text("<html><body><p>Tolvane.</p></body></html>", "utf-8")
    Path("c").write_text(prose(3), "utf-8")
    sources: list[str | Path] = ["a.txt", Path("b.html"), "in.jsonl", "c"]
    for name in ("out", "again"):
        report = draw_shards(sources, name, config=CONFIG, workers=1)
    samples = [sample["json"] for sample in tar_samples(tmp_path / "out")]
    assert [(sample["id"], sample["document"]) for sample in samples if sample["page"] == 1] == [
        (id, id) for id in ("a.txt", "b.html", "d 0", "c")
    ]
    assert (report.shards, report.folder) == (3, str(tmp_path / "again"))
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def test_parquet_in_parquet_out_over_urls(tmp_path: Path) -> None:
    table = pyarrow.table({"id": ["x", "y"], "text": [prose(1), prose(2)], "metadata": ['{"k": 1}', None]})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    options: dict[str, Any] = {"format": "parquet", "config": CONFIG, "shard_size": 1}
    report = draw_shards(f"file://{tmp_path}/in.parquet", f"file://{tmp_path}/out", workers=1, **options)
    assert (report.folder, report.shards, report.counts.failed) == (f"file://{tmp_path}/out", 2, 0)
    assert [(row["id"], row["text"], row["metadata"]) for row in rows(tmp_path / "out")] == [("x", prose(1), {"k": 1}), ("y", prose(2), {})]
    draw_shards(tmp_path / "in.parquet", tmp_path / "local", workers=0, **options)
    assert tree(tmp_path / "local") == tree(tmp_path / "out")
    again = draw_shards(f"file://{tmp_path}/in.parquet", f"file://{tmp_path}/out", workers=1, **options)
    assert (again.counts, again.drawn.pages) == (report.counts, 0)


@pytest.mark.s3
def test_from_and_to_an_object_store(tmp_path: Path) -> None:
    texts = {f"{n}.txt": prose(n) for n in range(5)}
    (tmp_path / "texts").mkdir()
    for name, text in texts.items():
        (tmp_path / "texts" / name).write_text(text, "utf-8")
    draw(tmp_path / "texts", tmp_path / "local", shard_size=2)
    with s3_server():
        bucket = new_bucket()
        for name, text in texts.items():
            storage.write_whole(f"{bucket}/texts/{name}", text.encode("utf-8"))
        options: dict[str, Any] = {"config": CONFIG, "shard_size": 2, "workers": 2}
        report = draw_shards(f"{bucket}/texts", f"{bucket}/texts/out", **options)
        names = [name for name, _ in storage.list_files(f"{bucket}/texts/out")]
        there = {name: hashlib.sha256(storage.read_bytes(f"{bucket}/texts/out/{name}")).hexdigest() for name in names}
        assert there == tree(tmp_path / "local")
        storage.remove(f"{bucket}/texts/out/shard-000001.json")
        again = draw_shards(f"{bucket}/texts", f"{bucket}/texts/out", **options)
        assert (again.counts, again.drawn.documents) == (report.counts, 2)
        with pytest.raises(OutputError, match="--shard-size was 2, is 3"):
            draw_shards(f"{bucket}/texts", f"{bucket}/texts/out", **{**options, "shard_size": 3})


def test_shards_that_are_on_another_machine_are_missed(tmp_path: Path) -> None:
    """A folder that is not shared: what another machine wrote is not seen here."""
    out = tmp_path / "out"

    def lose(summary: ShardSummary) -> None:
        if summary.number == 1:
            (out / summary.file).unlink()

    with pytest.raises(OutputError, match=r"1 of the shards were written, but are not in .*shard-000001.tar.*shared"):
        draw(corpus(tmp_path / "in.jsonl", 12, words=20), out, on_shard=lose)
    assert "counts" not in json.loads((out / "shards.json").read_text("utf-8"))


def test_the_division_goes_by_the_input_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = corpus(tmp_path / "in.jsonl", 40)
    plan = plan_shards([source], config=CONFIG)
    assert [len(unit.ids) for unit in plan.units] == [40]
    assert plan.identity == plan_shards([source], config=CONFIG).identity
    monkeypatch.setattr(plan_module, "SHARD_TEXT_BYTES", 20_000)
    sizes = [len(unit.ids) for unit in plan_shards([source], config=CONFIG).units]
    assert sum(sizes) == 40
    assert 2 < len(sizes) < 30
    monkeypatch.setattr(plan_module, "SHARD_DOCUMENTS", 3)
    assert max(len(unit.ids) for unit in plan_shards([source], config=CONFIG).units) == 3


def test_output_within_the_input_is_no_input(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text(prose(n), "utf-8")
    first = draw(tmp_path, tmp_path / "shards")
    assert draw(tmp_path, tmp_path / "shards").counts == first.counts


def test_texts_below_the_output_are_input(tmp_path: Path) -> None:
    (tmp_path / "out" / "texts").mkdir(parents=True)
    (tmp_path / "out" / "texts" / "a.txt").write_text(prose(1), "utf-8")
    for _ in range(2):
        assert draw(tmp_path / "out" / "texts", tmp_path / "out").counts.documents == 1


def test_what_is_wrong_from_the_start(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in.jsonl", 1)
    for options, kind, words in (
        ({"format": "zip"}, UsageError, "no format 'zip'"),
        ({"shard_size": 0}, UsageError, "0 documents"),
        ({"workers": -1}, UsageError, "workers is -1"),
        ({"config": {"dpi": 5000}}, ConfigError, "dpi"),
        ({"config": {"font": "No Such Font"}}, FontError, "No Such Font"),
        ({"encoding": "nonsense"}, EncodingError, "no encoding 'nonsense'"),
    ):
        with pytest.raises(kind, match=words):
            draw(source, tmp_path / "out", **options)
    with pytest.raises(UsageError, match="nothing to draw"):
        draw_shards([], tmp_path / "out")
    for source, words in ((tmp_path / "nowhere", "no file"), (tmp_path / ("a" * 300), "too long")):
        with pytest.raises(InputError, match=words):
            draw_shards(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_machine_with_another_font_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from glyph_pipeline.shards.writing import write_shard

    plan = plan_shards([corpus(tmp_path / "in.jsonl", 1)], config=CONFIG)
    spec = plan.spec(str(tmp_path))
    other = replace(spec, fonts=tuple((name, installed, "0" * 64) for name, installed, _ in spec.fonts))
    with pytest.raises(FontError, match="is another one on this machine"):
        write_shard(other, 0, plan.units[0])
