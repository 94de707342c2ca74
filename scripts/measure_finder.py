#!/usr/bin/env python3
"""Measures the finder of exact strings on the labelled sample: recall and precision by kind, on the files it was tuned on and on those held out."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from glyph_pipeline.exactness.finder import find_exact

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.exactness.sample import Labelled, Score, labelled, score  # noqa: E402


def table(name: str, files: Iterable[Labelled]) -> Score:
    total = Score()
    by_kind: dict[str, Score] = defaultdict(Score)
    for one in files:
        for kind, part in score(one).items():
            by_kind[kind] += part
            total += part
    print(f"\n{name}\n{'kind':10}{'labelled':>10}{'recall':>10}{'found':>10}{'precision':>11}")
    for kind, part in [*sorted(by_kind.items()), ("all", total)]:
        print(f"{kind:10}{part.labelled:>10}{part.recall:>10.3f}{part.found:>10}{part.precision:>11.3f}")
    return total


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--misses", action="store_true", help="list what was missed and what was found wrongly")
    arguments.add_argument("--only", choices=["tuned", "held-out"], help="only these files")
    options = arguments.parse_args()
    for name, held_out in (("tuned", False), ("held-out", True)):
        if options.only not in (None, name):
            continue
        files = [one for one in labelled() if one.held_out is held_out]
        table(name, files)
        if options.misses:
            for one in files:
                found = {(item.start, item.end): item for item in find_exact(one.text)}
                for start, end, kind in sorted(one.labels - {(*span, one.kinds.get(span, "")) for span in found}):
                    print(f"  {one.name}: missed {kind} {one.text[start:end]!r}")
                for span, item in found.items():
                    if span not in one.kinds:
                        print(f"  {one.name}: wrong {item.kind} {item.text!r}")
    prose = (ROOT / "docs" / "sample.txt").read_text(encoding="utf-8")
    prose *= 4_000_000 // len(prose) + 1
    began = time.perf_counter()
    find_exact(prose[:4_000_000])
    print(f"\n4 MB of prose: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
