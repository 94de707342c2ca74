"""The documents and questions that the chains of these tests are about, and the examples' embedding."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
FILES = [DOCS / "sample.txt", *sorted(DOCS.glob("*.md"))]
QUESTIONS = json.loads((ROOT / "tests" / "data" / "sample_questions.json").read_text("utf-8"))
# Those whose passage the plain embedding and BM25 both find among the best four.
FERRET = next(entry for entry in QUESTIONS if "ferret" in entry["must_quote"][0])
PENNY = next(entry for entry in QUESTIONS if "27,318" in entry["must_quote"][0])

FERRY = "The ferry of Ardmoyle ran on Thursdays until 1932."
MILL = "The mill of Carrow burned down in the spring of 1911, and was never built again."


def _load_embed() -> Callable[[str], list[float]]:
    spec = importlib.util.spec_from_file_location("hashed_words", EXAMPLES / "hashed_words.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    embedding: Callable[[str], list[float]] = module.embed
    return embedding


embed = _load_embed()
