"""What is in shards: the pages, texts and facts that training libraries read out of them."""

from __future__ import annotations

import gc
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glyph_pipeline import RenderConfig, render
from glyph_pipeline.errors import InputError
from glyph_pipeline.shards import parquet as parquet_format
from tests.support.shards import CONFIG, beside, corpus, draw, prose, rows, tar_samples, write_lines


def test_webdataset_reads_every_page_of_every_document(tmp_path: Path) -> None:
    report = draw(corpus(tmp_path / "in.jsonl"), tmp_path / "out")
    samples = list(tar_samples(tmp_path / "out"))
    texts = {f"d {n}": prose(n, 300 if n % 7 else 4000) for n in range(23)}
    seen: dict[str, list[Any]] = {}
    for sample in samples:
        seen.setdefault(sample["json"]["document"], []).append(sample)
    assert list(seen) == list(texts)  # in the order of the input
    assert len({sample["__key__"] for sample in samples}) == len(samples) == report.counts.pages
    for name, text in texts.items():
        pages = list(render(text, CONFIG))
        assert len(seen[name]) == len(pages)
        for sample, page in zip(seen[name], pages, strict=True):
            facts = sample["json"]
            assert sample["png"].tobytes() == page.to_image().convert("RGB").tobytes()
            assert sample["txt"] == text[page.start : page.end] == text[facts["start"] : facts["end"]]
            assert (facts["page"], facts["pages"], facts["dpi"]) == (page.number, len(pages), 72)
            assert (facts["width"], facts["height"], facts["vision_tokens"]) == (page.width, page.height, page.vision_tokens)
            assert facts["lines"] == list(page.lines)
            assert "columns" not in facts
            assert RenderConfig(**facts["config"]) == CONFIG
            assert facts["metadata"] == {"n": int(name[2:])}
    assert (report.shards, report.counts.documents, report.counts.failed) == (5, 23, 0)
    assert report.counts.vision_tokens == sum(sample["json"]["vision_tokens"] for sample in samples)


def test_parquet_has_the_same_samples(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in.jsonl")
    draw(source, tmp_path / "tar")
    draw(source, tmp_path / "parquet", format="parquet")
    samples = list(tar_samples(tmp_path / "tar"))
    found = list(rows(tmp_path / "parquet"))
    assert len(found) == len(samples)
    for row, sample in zip(found, samples, strict=True):
        assert row.pop("text") == sample["txt"]
        assert row.pop("png").convert("RGB").tobytes() == sample["png"].tobytes()
        assert row == {**sample["json"], "columns": []}
    for one, other in zip(beside(tmp_path / "tar"), beside(tmp_path / "parquet"), strict=True):
        assert one["documents"] == other["documents"]


def test_parquet_has_a_schema_of_its_own_and_bounded_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_format, "ROW_GROUP_BYTES", 300_000)
    source = write_lines(tmp_path / "in.jsonl", [{"id": "long", "text": prose(1, 30_000)}, {"id": "bad", "text": 1}])
    draw(source, tmp_path / "out", format="parquet", shard_size=1)
    first = pyarrow.parquet.ParquetFile(tmp_path / "out" / "shard-000000.parquet")
    assert first.num_row_groups > 3
    assert all(sum(map(len, first.read_row_group(n, ["png"])["png"].to_pylist())) < 450_000 for n in range(first.num_row_groups))
    nothing = pyarrow.parquet.ParquetFile(tmp_path / "out" / "shard-000001.parquet")
    assert nothing.metadata.num_rows == 0
    assert nothing.schema_arrow == first.schema_arrow == parquet_format.schema()


def test_row_groups_are_bounded_also_by_what_is_not_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata stand in each row; those of a long document would fill the memory."""
    monkeypatch.setattr(parquet_format, "ROW_GROUP_BYTES", 300_000)
    source = write_lines(tmp_path / "in.jsonl", [{"id": "long", "text": prose(1, 3_000), "metadata": {"html": "x" * 100_000}}])
    draw(source, tmp_path / "out", format="parquet", config=CONFIG.replace(page_size="300,300"))
    found = pyarrow.parquet.ParquetFile(tmp_path / "out" / "shard-000000.parquet").metadata
    assert found.num_rows > 10
    assert max(found.row_group(n).num_rows for n in range(found.num_row_groups)) <= 2


def test_an_error_in_the_middle_is_all_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow writes the end of a file when its writer is let go, to a stream that is closed by then."""
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    source = corpus(tmp_path / "in.jsonl", 3)
    data = source.read_bytes()
    with pytest.raises(InputError, match="was changed"):
        draw(source, tmp_path / "out", format="parquet", on_begin=lambda *_: source.write_bytes(data.replace(b'"d 2"', b'"e 2"')))
    gc.collect()
    assert told == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["shards.json"]


@settings(max_examples=25)
@given(texts=st.lists(st.text(min_size=1, max_size=4000).filter(lambda text: text.strip("\xad\u200b").strip()), min_size=1, max_size=4))
def test_the_pages_texts_give_the_document_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    tmp_path = tmp_path_factory.mktemp("texts")
    source = write_lines(tmp_path / "in.jsonl", [{"id": f"{n}", "text": text} for n, text in enumerate(texts)])
    small = CONFIG.replace(page_size="120,120")
    for format in ("webdataset", "parquet"):
        report = draw(source, tmp_path / format, format=format, config=small)
        whole = dict.fromkeys(map(str, range(len(texts))), "")
        for sample in tar_samples(tmp_path / format) if format == "webdataset" else rows(tmp_path / format):
            facts = sample.get("json", sample)
            assert facts["start"] == len(whole[facts["document"]])
            whole[facts["document"]] += sample["txt" if format == "webdataset" else "text"]
            assert facts["end"] == len(whole[facts["document"]])
        failed = {failure.id for failure in report.failures}
        assert {name: text for name, text in whole.items() if text} == {
            str(n): text for n, text in enumerate(texts) if str(n) not in failed
        }


def test_half_characters_are_drawn_and_offsets_stay_true(tmp_path: Path) -> None:
    text = "A\ud83d and \udc00B, \ud83d\ude00.\n" * 400
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"id": "half \\ud800", "text": ' + json.dumps(text).encode() + b', "metadata": {"k\\udfff": "\\ud800"}}\n')
    (text,) = [json.loads(json.dumps(text))]
    for format, read in (("webdataset", tar_samples), ("parquet", rows)):
        report = draw(source, tmp_path / format, format=format)
        assert report.counts.failed == 0, report.failures
        samples = list(read(tmp_path / format))
        assert len(samples) > 1
        found = "".join(sample.get("txt", sample.get("text")) for sample in samples)
        assert found == "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
        assert samples[-1].get("json", samples[-1])["end"] == len(text)
        assert samples[0].get("json", samples[0])["metadata"] == {"k\udfff": "\ud800"}
    (facts,) = beside(tmp_path / "webdataset")
    assert facts["documents"][0]["missing"] == {"U+D83D": 400, "U+DC00": 400}


def test_columns_several_documents_and_files(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("caf\u00e9 ".encode("latin-1") * 40)
    (tmp_path / "page.html").write_text("<html><body><h1>Weir</h1><p>Tolvane.</p></body></html>", "utf-8")
    documents = [{"text": prose(1, 4000)}, {"id": "note", "text": "A note.", "metadata": {"title": "T"}}]
    lines = [
        {"id": "two", "documents": documents, "metadata": {"tag": "x"}},
        {"id": "file", "path": "latin.txt"},
        {"id": "web", "path": "page.html"},
    ]
    source = write_lines(tmp_path / "in.jsonl", lines)
    report = draw(source, tmp_path / "out", config=CONFIG.replace(columns=2), encoding="latin-1")
    found = [sample["json"] | {"text": sample["txt"], "key": sample["__key__"]} for sample in tar_samples(tmp_path / "out")]
    assert [(each["id"], each["document"], each["key"]) for each in found if each["page"] == 1] == [
        ("two", "document 1", "000000-000000-00001"),
        ("two", "note", "000000-000001-00001"),
        ("file", "latin.txt", "000000-000002-00001"),
        ("web", "page.html", "000000-000003-00001"),
    ]
    assert found[-3]["metadata"] == {"tag": "x", "title": "T"}
    assert found[-2]["text"].startswith("caf\u00e9 caf\u00e9")
    assert found[-1]["text"].startswith("# Weir")
    assert len(found[0]["columns"]) == 2
    assert report.counts.documents == 4


def test_each_text_gets_its_preset_and_the_changes(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "in.jsonl", [{"id": "en", "text": prose(1)}, {"id": "zh", "text": "\u4e2d\u6587\u5b57\u56fd\u3002" * 300}]
    )
    draw(source, tmp_path / "out", config={"dpi": 96})
    found = {sample["json"]["id"]: sample["json"] for sample in tar_samples(tmp_path / "out")}
    assert RenderConfig(**found["en"]["config"]) == RenderConfig.preset("en").replace(dpi=96)
    assert RenderConfig(**found["zh"]["config"]) == RenderConfig.preset("zh").replace(dpi=96)
    (facts,) = beside(tmp_path / "out")
    assert [font["requested"] for font in facts["fonts"]] == [RenderConfig.preset(name).font for name in ("en", "zh")]
    assert all(len(font["sha256"]) == 64 for font in facts["fonts"])


def test_what_fails_is_told_and_the_others_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for n in range(4):
        (folder / f"{n}.txt").write_text(prose(n), "utf-8")
    (folder / "broken.txt").write_bytes(b"caf\xe9")
    (folder / "empty.txt").write_bytes(b" \n")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    report = draw(folder, tmp_path / "out", shard_size=3)
    assert (report.counts.documents, report.counts.failed) == (4, 3)
    assert [sample["json"]["document"] for sample in tar_samples(tmp_path / "out")] == ["0.txt", "1.txt", "2.txt", "3.txt"]
    failed = {failure["id"]: failure for facts in beside(tmp_path / "out") for failure in facts["failed"]}
    assert {name: failure["type"] for name, failure in failed.items()} == {
        "broken.txt": "EncodingError",
        "empty.txt": "EmptyDocumentError",
        "picture.png": "BinaryDocumentError",
    }
    assert "offset 3" in failed["broken.txt"]["message"]
    assert failed["broken.txt"]["hint"]
    assert [failure.id for failure in report.failures] == ["broken.txt", "empty.txt", "picture.png"]


def test_a_document_that_fails_in_the_middle_leaves_no_page_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glyph_pipeline.rendering.renderer import Renderer

    whole = Renderer.render

    def breaks(self: Renderer, document: Any, *rest: Any) -> Any:
        for page in whole(self, document, *rest):
            if page.number == 2 and document.id == "d 7":
                raise ZeroDivisionError("oops")
            yield page

    monkeypatch.setattr(Renderer, "render", breaks)
    report = draw(corpus(tmp_path / "in.jsonl", 9), tmp_path / "out")
    assert "d 7" not in {sample["json"]["document"] for sample in tar_samples(tmp_path / "out")}
    assert len({sample["json"]["document"] for sample in tar_samples(tmp_path / "out")}) == 8
    (failure,) = report.failures
    assert (failure.id, failure.message) == ("d 7", "ZeroDivisionError: oops")
    assert "bug" in str(failure)


def test_tar_files_are_plain(tmp_path: Path) -> None:
    draw(corpus(tmp_path / "in.jsonl", 3), tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as archive:
        members = archive.getmembers()
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {(0, 0, 0, "", 0o644)}
    kinds = [member.name.split(".")[1] for member in members]
    assert kinds == ["png", "txt", "json"] * (len(members) // 3)
    assert (tmp_path / "out" / "shard-000000.tar").stat().st_size % 10240 == 0


def test_a_picture_is_the_page(tmp_path: Path) -> None:
    """The bytes of a sample are those that render() gives, not only its pixels."""
    draw(corpus(tmp_path / "in.jsonl", 1), tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as archive:
        data = archive.extractfile("000000-000000-00001.png")
        assert data is not None
        png = data.read()
    page = next(iter(render(prose(0, 4000), CONFIG)))
    assert png == page.png
    assert Image.open(io.BytesIO(png)).size == (page.width, page.height)
