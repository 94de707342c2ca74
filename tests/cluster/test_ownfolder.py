"""The folder of an own cluster: private, gone at the end, and gone with the next one if its owner was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from glyph_pipeline.cluster.ownfolder import own_folder
from tests.support.command import REPOSITORY

HOLDS = "import sys; from glyph_pipeline.cluster.ownfolder import own_folder\nwith own_folder() as folder: print(folder, flush=True); sys.stdin.read()"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


def holder() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_private_and_goes(place: Path) -> None:
    with own_folder() as folder:
        assert folder.parent == place
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "r").mkdir()
        (folder / "r" / "log").write_text("x", "utf-8")
    assert list(place.iterdir()) == []


def test_a_long_place_is_passed_over(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = place / ("long" * 10)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with own_folder() as folder:
        assert folder.parent == Path("/tmp")


def test_what_a_killed_owner_left_goes_and_what_others_hold_stays(place: Path) -> None:
    dead, left = holder()
    living, held = holder()
    (left / "r").mkdir()
    (left / "r" / "page").write_text("x", "utf-8")
    dead.kill()
    dead.communicate()
    foreign = place / "glyph-ray-foreign"
    foreign.mkdir()
    try:
        assert left.exists()
        with own_folder():
            assert not left.exists()
            assert held.exists()
            assert foreign.exists()  # nobody knows whose
    finally:
        living.communicate("")
    assert list(place.iterdir()) == [foreign]
