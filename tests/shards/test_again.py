"""Shards are the same every time: with any number of workers, resumed, drawn again; other shards are not touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import __version__
from glyph_pipeline.errors import InputError, OutputError
from glyph_pipeline.pagestore import PageStore
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.shards import ShardSummary
from tests.support.shards import CONFIG, corpus, draw, prose, tree, write_lines


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_the_same_bytes_with_any_number_of_workers(tmp_path: Path, format: str) -> None:
    source = corpus(tmp_path / "in.jsonl")
    for workers in (0, 1, 2):
        draw(source, tmp_path / f"{workers}", workers=workers, format=format)
    assert tree(tmp_path / "0") == tree(tmp_path / "1") == tree(tmp_path / "2")
    assert len(tree(tmp_path / "0")) == 11


def test_a_page_store_changes_nothing_but_the_time(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in.jsonl", 8)
    draw(source, tmp_path / "plain")
    store = PageStore(tmp_path / "store")
    draw(source, tmp_path / "first", store=store)
    draw(source, tmp_path / "second", store=store, workers=1)
    assert tree(tmp_path / "plain") == tree(tmp_path / "first") == tree(tmp_path / "second")
    assert len(list((tmp_path / "store").glob("*.zip"))) == 8


def test_a_second_run_does_what_is_missing(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in.jsonl"), tmp_path / "out"
    first = draw(source, out)
    before = tree(out)
    (out / "shard-000001.json").unlink()  # killed before it was written
    (out / "shard-000003.tar").unlink()
    (out / "shard-000003.json").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    drawn: list[ShardSummary] = []
    begun: list[tuple[int, list[int]]] = []
    again = draw(source, out, on_shard=drawn.append, on_begin=lambda shards, done: begun.append((shards, sorted(s.number for s in done))))
    assert sorted(shard.number for shard in drawn) == [1, 3]
    assert begun == [(5, [0, 2, 4])]
    assert tree(out) == before
    for name in ("shard-000000.tar", "shard-000002.json"):
        assert (out / name).stat().st_mtime_ns == times[name]
    assert again.counts == first.counts
    assert again.drawn.documents == 10
    nothing = draw(source, out, on_shard=drawn.append)
    assert len(drawn) == 2
    assert (nothing.counts, nothing.drawn.pages) == (first.counts, 0)


def test_what_failed_is_drawn_again_when_that_is_asked_for(tmp_path: Path) -> None:
    folder, out = tmp_path / "texts", tmp_path / "out"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}.txt").write_text(prose(n) if n != 3 else "", "utf-8")
    assert draw(folder, out, shard_size=2).counts.failed == 1
    (folder / "3.txt").write_text(prose(3), "utf-8")
    with pytest.raises(OutputError, match=r"documents' sizes differ\..*--retry-failed"):
        draw(folder, out, shard_size=2)
    drawn: list[ShardSummary] = []
    report = draw(folder, out, shard_size=2, retry_failed=True, on_shard=drawn.append)
    assert ([shard.number for shard in drawn], report.counts.failed, report.counts.documents) == ([1], 0, 6)
    assert draw(folder, out, shard_size=2).counts == report.counts
    draw(folder, tmp_path / "new", shard_size=2)
    assert tree(out) == tree(tmp_path / "new")


def test_a_file_that_was_missing_is_drawn_when_it_is_there(tmp_path: Path) -> None:
    source, out = write_lines(tmp_path / "in.jsonl", [{"id": "a", "path": "a.txt"}, {"id": "b", "text": prose(2)}]), tmp_path / "out"
    assert draw(source, out).counts.failed == 1
    (tmp_path / "a.txt").write_text(prose(1), "utf-8")
    report = draw(source, out, retry_failed=True)
    assert (report.counts.documents, report.counts.failed) == (2, 0)


def test_another_font_file_makes_other_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name says nothing; its path is the same for every process, whatever folder that works in."""
    fonts = Path(find_font("DejaVuSans.ttf", False).path).parent
    (tmp_path / "mine.ttf").write_bytes((fonts / "DejaVuSans.ttf").read_bytes())
    source, out = corpus(tmp_path / "in.jsonl", 6, words=20), tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    draw(source, out, config={"font": "mine.ttf"}, workers=1)
    before = tree(out)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    draw(source, out, config={"font": str(tmp_path / "mine.ttf")})
    (tmp_path / "mine.ttf").write_bytes((fonts / "DejaVuSansMono.ttf").read_bytes())
    with pytest.raises(OutputError, match="the font file was"):
        draw(source, out, config={"font": str(tmp_path / "mine.ttf")})
    assert tree(out) == before


def test_input_that_goes_away_ends_it_and_fails_no_document(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in.jsonl", 12, words=20), tmp_path / "out"
    data = source.read_bytes()
    with pytest.raises(InputError, match="No such file"):
        draw(source, out, on_begin=lambda *_: source.unlink())
    assert [path.name for path in out.iterdir()] == ["shards.json"]
    source.write_bytes(data)
    with pytest.raises(InputError, match="was changed"):
        draw(source, out, on_shard=lambda _: source.write_bytes(data.replace(b'"d 7"', b'"e 7"')))
    assert sorted(path.name for path in out.iterdir()) == ["shard-000000.json", "shard-000000.tar", "shards.json"]
    source.write_bytes(data)
    assert draw(source, out).counts.documents == 12


def test_one_run_at_a_time(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in.jsonl", 12, words=20), tmp_path / "out"

    def another(*_: object) -> None:
        with pytest.raises(OutputError, match="Another run"):
            draw(source, out)

    assert draw(source, out, on_shard=another).counts.documents == 12


def test_no_sums_stand_there_while_something_is_missing(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in.jsonl", 12, words=20), tmp_path / "out"
    draw(source, out)
    assert "counts" in json.loads((out / "shards.json").read_text("utf-8"))
    (out / "shard-000001.json").unlink()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(source, out, on_begin=killed)
    assert "counts" not in json.loads((out / "shards.json").read_text("utf-8"))
    draw(source, out)
    assert "counts" in json.loads((out / "shards.json").read_text("utf-8"))


def test_a_shard_that_is_gone_or_broken_beside_is_done_again(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in.jsonl", 12), tmp_path / "out"
    draw(source, out)
    before = tree(out)
    (out / "shard-000000.tar").unlink()
    (out / "shard-000001.json").write_text('{"identity"', "utf-8")
    with (out / "shard-000002.tar").open("ab") as shard:
        shard.truncate(5000)
    draw(source, out)
    assert tree(out) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "parquet"}, ['the format was "webdataset", is "parquet"']),
        ({"shard_size": 6}, ["--shard-size was 5, is 6"]),
        ({"shard_size": None}, ["--shard-size was 5, is null"]),
        ({"config": CONFIG.replace(dpi=96)}, ["how pages are drawn differs (dpi was 72, is 96)"]),
        ({"config": {}}, ["how pages are drawn differs"]),
        ({"encoding": "latin-1"}, ['--encoding was null, is "latin-1"']),
    ],
)
def test_other_shards_are_not_touched(tmp_path: Path, options: dict[str, Any], words: list[str]) -> None:
    source, out = corpus(tmp_path / "in.jsonl", 12, words=20), tmp_path / "out"
    draw(source, out)
    before = tree(out)
    with pytest.raises(OutputError) as caught:
        draw(source, out, **options)
    for word in [*words, "another folder"]:
        assert word in str(caught.value)
    assert tree(out) == before


def test_other_documents_or_another_version_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    draw(corpus(tmp_path / "in.jsonl", 12, words=20), out)
    with pytest.raises(OutputError, match="the number of documents was 12, is 13"):
        draw(corpus(tmp_path / "in.jsonl", 13, words=20), out)
    lines = [{"id": f"e {n}", "text": "x"} for n in range(12)]
    with pytest.raises(OutputError, match="the documents differ"):
        draw(write_lines(tmp_path / "other.jsonl", lines), out)
    monkeypatch.setattr("glyph_pipeline.shards.plan.__version__", "0.0.1")
    with pytest.raises(OutputError, match=f'the version of glyph-pipeline was "{__version__}", is "0.0.1"'):
        draw(corpus(tmp_path / "in.jsonl", 12, words=20), out)


def test_foreign_shards_are_not_touched(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in.jsonl", 2), tmp_path / "out"
    out.mkdir()
    (out / "shard-000000.tar").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"shard-000000.tar among them.*no shards.json"):
        draw(source, out)
    (out / "shards.json").write_text("[1]", "utf-8")
    with pytest.raises(OutputError, match="is no plan of shards"):
        draw(source, out)
    assert (out / "shard-000000.tar").read_bytes() == b"mine"
