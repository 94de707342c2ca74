"""glyph-compress render --shards: what it prints, what it leaves behind, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glyph_pipeline.errors import EXIT_ITEMS_FAILED
from tests.support.command import REPOSITORY, glyph_compress
from tests.support.shards import beside, corpus, prose, tar_samples, tree, write_lines

FAST = ["--no-system-fonts", "--workers", "0"]


def test_a_folder_into_shards_and_the_account_of_it(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for n in range(5):
        (texts / f"{n}.txt").write_text(prose(n), "utf-8")
    render = ["render", "texts", "-o", "out", "--shards", "webdataset", "--shard-size", "2", "--workers", "2"]
    done = glyph_compress(*render, state=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    report = dict(re.split(r"  +", line, maxsplit=1) for line in done.stderr.splitlines())
    counts = json.loads((tmp_path / "out" / "shards.json").read_text("utf-8"))["counts"]
    assert report["documents"] == "5"
    assert report["text tokens"] == f"{counts['text_tokens']:,}  cl100k_base (tiktoken)"
    assert report["vision tokens"] == f"{counts['vision_tokens']:,}  GLM-4.1V, {counts['pages']} pages"
    assert report["ratio"].startswith(f"{counts['text_tokens'] / counts['vision_tokens']:.2f} ")
    assert report["shards"].startswith(f"3 in {tmp_path / 'out'}, ")
    assert "pages/s" in report["time"]
    assert len(list(tar_samples(tmp_path / "out"))) == counts["pages"]
    again = glyph_compress(*render, "--json", state=tmp_path, cwd=tmp_path)
    assert "3 of 3 shards are done already. Nothing is missing." in again.stderr
    told = json.loads(again.stdout)
    assert (told["pages"], told["drawn"]["pages"], told["shards"], told["failures"]) == (counts["pages"], 0, 3, [])


def test_failed_documents_are_exit_code_12_each_time_and_ten_are_named(tmp_path: Path) -> None:
    lines = [{"id": f"bad {n}", "text": " "} for n in range(12)]
    source = write_lines(tmp_path / "in.jsonl", [*lines, {"id": "good", "text": prose(1)}])
    render = ["render", source, "-o", tmp_path / "out", "--shards", "parquet", *FAST]
    for _ in range(2):
        done = glyph_compress(*render, state=tmp_path)
        assert done.returncode == EXIT_ITEMS_FAILED, done.stderr
        assert "bad 9: " in done.stderr
        assert "bad 10: " not in done.stderr
        assert "Further failures are only beside the shards." in done.stderr
        assert "1, 12 failed" in done.stderr
    (facts,) = beside(tmp_path / "out")
    assert [failure["id"] for failure in facts["failed"]] == [f"bad {n}" for n in range(12)]
    quiet = glyph_compress(*render, "--quiet", state=tmp_path)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (EXIT_ITEMS_FAILED, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["in.jsonl", "--engine", "ray"], 2, ["--engine ray is for drawing into shards", "--shards webdataset"]),
        (["in.jsonl", "--shard-size", "3"], 2, ["--shard-size is for drawing into shards"]),
        (["in.jsonl", "--workers", "3"], 2, ["--workers is for drawing into shards"]),
        (["in.jsonl", "--address", "auto"], 2, ["--address is an option of --engine ray"]),
        (["in.jsonl", "--shards", "webdataset", "--address", "auto"], 2, ["--address is an option of --engine ray"]),
        (["in.jsonl", "--shards", "zip"], 2, ["'zip' is not one of"]),
        (["-", "--shards", "parquet"], 2, ["standard input"]),
        (["in.jsonl", "--shards", "parquet", "--dpi", "5000"], 3, ["dpi = 5000"]),
        (["nowhere", "--shards", "parquet"], 4, ["There is no file or folder"]),
        (["in.jsonl", "in.jsonl", "--shards", "parquet"], 4, ["Two documents of the sources are called 'd 0'"]),
        (["in.jsonl", "--shards", "parquet", "--font", "No Such Font"], 5, ["No Such Font"]),
        (["in.jsonl", "--shards", "parquet", "-o", "in.jsonl/out"], 11, ["can't be written"]),
    ],
)
def test_what_is_wrong_from_the_start(tmp_path: Path, arguments: list[str], code: int, words: list[str]) -> None:
    corpus(tmp_path / "in.jsonl", 2, words=20)
    done = glyph_compress("render", *arguments, state=tmp_path, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("Error:") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "pages").exists()


def test_another_plan_is_refused(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "in.jsonl", 4, words=20), tmp_path / "out"
    assert glyph_compress("render", source, "-o", out, "--shards", "webdataset", *FAST, state=tmp_path).returncode == 0
    before = tree(out)
    done = glyph_compress("render", source, "-o", out, "--shards", "webdataset", "--dpi", "96", *FAST, state=tmp_path)
    assert (done.returncode, done.stdout) == (11, "")
    assert "how pages are drawn differ" in done.stderr
    assert "another folder" in done.stderr
    assert tree(out) == before


def test_the_programs_on_the_page_read_what_the_command_writes(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "shards.md").read_text("utf-8")
    tar, parquet, python = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "texts").mkdir()
    for n in range(3):
        (tmp_path / "texts" / f"{n}.txt").write_text(prose(n), "utf-8")
    drawn = subprocess.run([sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
    assert drawn.stdout.startswith("shard-000000.parquet 3\n3 ")
    read = subprocess.run([sys.executable, "-c", parquet], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
    assert [line.split()[0] for line in read.stdout.splitlines()] == ["0.txt", "1.txt", "2.txt"]
    (tmp_path / "shards").rename(tmp_path / "parquet")
    options = ["--shards", "webdataset", *FAST]
    assert glyph_compress("render", "texts", "-o", "shards", *options, state=tmp_path, cwd=tmp_path).returncode == 0
    program = tar.replace("{000000..000012}", "000000")
    read = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
    assert [line.split()[0] for line in read.stdout.splitlines()] == ["0.txt", "1.txt", "2.txt"]
