"""scripts/bench_render.py runs, and its report has every row, number and target. No time is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "bench_render.py"
TEXTS = ("prose", "short lines", "long paragraphs", "Chinese prose", "Arabic", "Hindi")
TARGETS = (
    "prose: 1,500 kchar/s",
    "short lines: 20 times the oracle",
    "500,000 characters of long paragraphs: 300 times the oracle",
    "prose: at most 4 times the PNG alone",
    "linear from 100 kB to 100 MB",
    "peak at 100 MB: 300 MB",
    "two processes: 1.7 times",
    "first page: 150 ms",
    "Arabic: 100 kchar/s",
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """(what it prints, what it writes) on texts of a few thousand characters."""
    numbers = tmp_path_factory.mktemp("bench") / "numbers.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--scale", "0.005", "--repeats", "1", "--json", str(numbers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(numbers.read_text("utf-8"))


def rows(printed: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in printed.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in cells}


def test_every_text_has_a_row_and_its_numbers(bench: tuple[str, dict[str, Any]]) -> None:
    printed, numbers = bench
    for name in TEXTS:
        row = numbers["texts"][name]
        assert any(first.startswith(name) for first in rows(printed))
        if "skipped" not in row:
            assert {"characters", "pages", "seconds", "png_floor_s", "png_bytes", "peak_mb", "oracle"} <= row.keys()
            assert row["pages"] > 0
            assert row["png_bytes"] > 0
    assert "skipped" not in numbers["texts"]["prose"], numbers["texts"]["prose"]


def test_the_oracle_is_measured_on_the_same_text(bench: tuple[str, dict[str, Any]]) -> None:
    printed, numbers = bench
    oracle = numbers["texts"]["short lines"]["oracle"]
    assert "skipped" not in oracle, oracle
    assert {"characters", "pages", "seconds", "pdf_s", "poppler_s", "png_s"} <= oracle.keys()
    assert f"{oracle['characters']:,}" in rows(printed)["short lines"]
    assert rows(printed)["short lines"][-1].endswith("x")
    assert "skipped" in numbers["texts"]["Arabic"]["oracle"]


def test_lengths_processes_and_starts(bench: tuple[str, dict[str, Any]]) -> None:
    printed, numbers = bench
    assert [row["characters"] for row in numbers["linear"]] == [1000, 5000]
    assert all(row["peak_mb"] > 10 for row in numbers["linear"])
    assert "skipped" in numbers["processes"] or numbers["processes"]["speed_up"] > 0
    assert list(numbers["cold"]) == ["python alone", "import numpy", "first page of 1 kB", "first page of 10 MB"]
    assert all(0 < row["best_ms"] <= row["median_ms"] for row in numbers["cold"].values())
    assert set(numbers["cold"]) < set(rows(printed))


def test_every_target_stands_beside_its_measured_value(bench: tuple[str, dict[str, Any]]) -> None:
    printed, _ = bench
    measured = {name: cells[0] for name, cells in rows(printed).items() if name.startswith(TARGETS)}
    assert len(measured) == len(TARGETS)
    assert "not measured" not in measured.values()
    # A target that only --full can measure says what it was measured on.
    assert "the oracle given 500 characters only" in measured["500,000 characters of long paragraphs: 300 times the oracle or more"]


def test_the_machine_is_named(bench: tuple[str, dict[str, Any]]) -> None:
    printed, numbers = bench
    assert {"cpu", "cores", "load", "python", "numpy", "freetype-py", "isal", "pillow", "reportlab", "poppler"} <= numbers["machine"].keys()
    assert printed.startswith(numbers["machine"]["cpu"])
