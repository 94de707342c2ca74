"""glyph-compress render --cache, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command import glyph_compress


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_draws_nothing_and_writes_the_same_files(tmp_path: Path) -> None:
    names = []
    for number in range(3):
        path = tmp_path / f"log{number}.txt"
        path.write_text(f"Watch {number}: wind from the west, glass falling. \u6e2f \u05e9\n" * 90, "utf-8")
        names.append(path.name)
    cache = tmp_path / "cache"

    def run(output: str, *more: str) -> tuple[str, str]:
        done = glyph_compress("render", *names, "-o", output, *more, state=tmp_path / "state", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    plain = run("plain")[1]
    assert "cache" not in plain
    assert "0 of 3 documents were drawn before" in run("first", "--cache", "cache")[1]
    (tmp_path / "log1.txt").write_text("Rewritten.\n", "utf-8")
    assert "2 of 3 documents were drawn before" in run("third", "--cache", "cache")[1]
    (tmp_path / "log1.txt").write_text("Watch 1: wind from the west, glass falling. \u6e2f \u05e9\n" * 90, "utf-8")
    before = files(cache)
    out, told = run("second", "--cache", "cache", "--json")
    assert "3 of 3 documents were drawn before" in told
    assert json.loads(out)["drawn_before"] == 3
    assert files(tmp_path / "plain") == files(tmp_path / "first") == files(tmp_path / "second")
    assert files(cache) == before


def test_what_is_wrong_is_said_before_anything_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Log.\n")
    (tmp_path / "taken").write_text("a file")
    done = glyph_compress("render", "a.txt", "--cache", "taken", state=tmp_path / "state", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (11, False)
    assert "The page store 'taken' can't be written" in done.stderr
    done = glyph_compress("render", "a.txt", "--cache-size", "5", state=tmp_path / "state", cwd=tmp_path)
    assert done.returncode == 2
    assert "--cache-size needs --cache" in done.stderr
    assert not (tmp_path / "pages").exists()
