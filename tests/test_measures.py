"""The scripts behind docs/exactness.md, in small: no document dearer than its text, wrong identifiers no longer given as right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def measured(script: str, *options: str) -> Any:
    done = subprocess.run([sys.executable, REPOSITORY / "scripts" / script, *options, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_document_costs_more_than_its_text() -> None:
    rows = measured("measure_break_even.py", "--documents", "56", "--seed", "2")
    assert {row["kind"] for row in rows} == {"prose", "logs", "JSON", "code", "tables", "chat", "sources", "pages"}
    assert len(rows) == 56
    assert [row for row in rows if row["sent"] > row["plain"]] == []
    assert any(row["pictures"] > row["plain"] for row in rows)  # so that it means something
    assert sum(row["plain"] for row in rows) > 2 * sum(row["sent"] for row in rows)


@pytest.mark.ocr
@pytest.mark.timeout(1200)
def test_wrong_identifiers_are_no_longer_given_as_right() -> None:
    found = measured("measure_exact.py", "--identifiers", "20", "--documents", "1", "--font-size", "6", "--seed", "3")
    rows = {row["way"]: row for row in found["ways"]}
    alone, safe = rows["pictures at 72 dpi"], rows["with exact strings and checks"]
    assert alone["wrong, given as right"] > 3
    assert safe["wrong, given as right"] < alone["wrong, given as right"] / 3
    assert safe["right"] > alone["right"]
    assert safe["ratio"] > 0.9 * alone["ratio"]
