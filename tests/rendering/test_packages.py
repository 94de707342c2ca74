"""Debian packages for characters that no font has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from glyph_pipeline.rendering import packages
from glyph_pipeline.rendering.packages import packages_with

TABLE = [
    {"ranges": [["0900", "097F"], ["A8E0", "A8FF"]], "script": "Devanagari", "debian": "fonts-deva"},
    {"ranges": [["0000", "10FFFF"]], "script": "all", "debian": "fonts-all"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(packages, "resource_dir", lambda name: tmp_path)
    packages._table.cache_clear()
    yield tmp_path
    packages._table.cache_clear()


def test_both_ends_of_a_range_and_each_package_once(folder: Path) -> None:
    (folder / "packages.json").write_text(json.dumps(TABLE[:1]), "utf-8")
    assert packages_with("\u0900\u097f\ua8ff") == ("fonts-deva",)
    assert packages_with("\u08ff\u0980") == packages_with("") == ()


def test_in_name_order(folder: Path) -> None:
    (folder / "packages.json").write_text(json.dumps(TABLE), "utf-8")
    assert packages_with("xक") == ("fonts-all", "fonts-deva")


@pytest.mark.parametrize("char", ["\x07", "\ud800", "\ue000", "\U000f0000", "\ufffe", "\U0010ffff", "\ufdd0"])
def test_no_advice_for_what_no_font_could_have(folder: Path, char: str) -> None:
    (folder / "packages.json").write_text(json.dumps(TABLE), "utf-8")
    assert packages_with(char) == ()


def test_without_the_file_no_advice(folder: Path) -> None:
    assert packages_with("क") == ()
