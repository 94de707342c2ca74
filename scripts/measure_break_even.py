"""What --mode auto saves by kind of text, and that it never costs more than the text: 240 documents, asked through the pipeline.

The reader says nothing and costs nothing: what is measured is what would have been sent (report.sent), with cl100k_base's tokens and
GLM-4.1V's image arithmetic. Prose, logs, JSON, code, tables and chat are drawn by lot with a seed, from 20 to 60,000 characters each;
"sources" and "pages" are this repository's own Python files and Markdown pages. Ends with exit code 1 if a document got dearer.

    python scripts/measure_break_even.py [--documents 240] [--seed 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from glyph_pipeline import Document, GlyphPipeline
from glyph_pipeline.experiments.evaluation.filler import sentences
from glyph_pipeline.parts import Part
from glyph_pipeline.reading.reader import ReadEvent, ReadResult, Usage

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("prose", "logs", "JSON", "code", "tables", "chat", "sources", "pages")
SHORTEST, LONGEST = 20, 60_000
QUESTION = "What is the total of order ZK-48213?"


class Silent:
    """A reader that reads nothing."""

    name = "nobody"

    async def read(self, parts: Sequence[Part], question: str, *, max_tokens: int | None = None) -> AsyncIterator[ReadEvent]:
        yield ReadResult("Nothing.", "", "stop", Usage())

    async def aclose(self) -> None:
        pass


@dataclass(frozen=True)
class Row:
    """Tokens of one document: as text, as pictures only, and as sent."""

    kind: str
    plain: int
    pictures: int
    sent: int
    pages: int
    pages_as_text: int


def lines(kind: str, chance: random.Random) -> Iterator[str]:
    """Lines of a kind of text without end; what they say has no meaning."""
    prose = sentences(str(chance.random()))
    depth = 0
    while True:
        number = chance.randrange(10**6)
        stamp = f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:{chance.randint(0, 59):02}Z"
        if kind == "prose":
            yield next(prose)
        elif kind == "logs":
            level = chance.choice(("INFO", "INFO", "INFO", "WARN", "ERROR"))
            address = ".".join(str(chance.randrange(256)) for _ in range(4))
            yield f"{stamp} {level} worker-{chance.randrange(16)} request={uuid.UUID(int=chance.getrandbits(128))} peer={address} took {chance.randrange(9000)} ms\n"
        elif kind == "JSON":
            name = next(prose).split(" ")[0]
            yield f'  {{"id": {number}, "name": "{name}", "created": "{stamp}", "active": {chance.choice(("true", "false"))}, "score": {chance.random():.6f}}},\n'
        elif kind == "code":
            name = chance.choice(("total", "ferry", "berth", "ledger", "crate", "tide"))
            yield chance.choice(
                (
                    f"{'    ' * depth}if {name} > {number % 100}:\n",
                    f"{'    ' * depth}{name}_{number % 10} = compute_{name}({name}, limit={number % 1000})\n",
                    f"{'    ' * depth}return {name}.{chance.choice(('items', 'values', 'keys'))}()\n",
                    f"{'    ' * depth}# {next(prose).strip()}\n",
                    "\n",
                )
            )
            depth = max(0, min(4, depth + chance.choice((-1, 0, 0, 1))))
        elif kind == "tables":
            yield f"| {number:>7} | {chance.choice(('rope', 'tar', 'barley', 'lamp oil')):<8} | {chance.random() * 900:>8.2f} | {stamp[:10]} |\n"
        else:
            who = chance.choice(("mara", "jonas", "ilse"))
            yield f"[{stamp[11:16]}] {who}: {chance.choice(('ok', 'yes, on it', 'lol', next(prose).strip(), 'see ' + str(number), 'thanks!'))}\n"


def documents(kind: str, count: int, seed: int) -> Iterator[Document]:
    """``count`` documents of a kind; lengths are spread evenly over their logarithm."""
    if kind in ("sources", "pages"):
        files = sorted(ROOT.glob("glyph_pipeline/**/*.py" if kind == "sources" else "docs/*.md"))
        # Not the page that holds this table: its numbers would change what they count.
        files = [file for file in files if file.name != "exactness.md" and file.read_text("utf-8").strip()]
        for number in range(count):
            yield Document(files[number * len(files) // count].read_text("utf-8"))
        return
    for number in range(count):
        chance = random.Random(f"{seed} {kind} {number}")
        size = int(math.exp(math.log(SHORTEST) + (math.log(LONGEST) - math.log(SHORTEST)) * (number + 0.5) / count))
        text = ""
        source = lines(kind, chance)
        while len(text) < size:
            text += next(source)
        yield Document(text[:size].strip() or "ok")


def measure(count: int, seed: int) -> list[Row]:
    """A row for each document."""
    rows = []
    auto, pictures = GlyphPipeline(reader=Silent()), GlyphPipeline(reader=Silent(), mode="pages", exact="off")
    with auto, pictures:
        for kind in KINDS:
            for document in islice(documents(kind, count // len(KINDS), seed), count):
                sent = auto.ask(document, QUESTION).report.sent
                only = pictures.ask(document, QUESTION).report.sent
                assert sent is not None
                assert only is not None
                pages = only.runs[-1].last_page
                rows.append(Row(kind, sent.plain_tokens, only.tokens, sent.tokens, pages, sent.pages_as_text))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows by kind, as Markdown."""
    out = [
        "| kind | documents | tokens as text | as pictures | sent | ratio | ratio of pictures alone | documents dearer as pictures | pages sent as text | dearer as sent |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for kind in (*KINDS, "all"):
        of = [row for row in rows if kind in (row.kind, "all")]
        plain, only, sent = (sum(getattr(row, name) for row in of) for name in ("plain", "pictures", "sent"))
        dearer = sum(row.pictures > row.plain for row in of)
        as_text = sum(row.pages_as_text for row in of)
        worse = sum(row.sent > row.plain for row in of)
        out.append(
            f"| {kind} | {len(of)} | {plain:,} | {only:,} | {sent:,} | {plain / sent:.2f} | {plain / only:.2f} | {dearer} | {as_text} of {sum(row.pages for row in of)} | {worse} |"
        )
    return "\n".join(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(max(options.documents, len(KINDS)), options.seed)
    print(json.dumps([row.__dict__ for row in rows]) if options.json else table(rows))
    return 1 if any(row.sent > row.plain for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
