"""What exact strings, checks and sharper pages are good for: 300 identifiers planted in texts, read from 72-dpi pages by OCR.

Each identifier stands in one sentence of a text made by lot; the question names what it belongs to, and the OCR reader quotes the
passage that matches best. An answer is right if it holds the identifier to the letter. One that doesn't is "given as right" if no check
of the answer says that something in that sentence was probably misread or is not in the text.

The ways: pictures alone, as tools without the source text have them; with checks; with exact strings (--exact auto) and checks; with
--repair; sharper pages (--resolution auto); and pictures at 120 dpi. "Ratio" is text tokens for each token sent (report.sent).

    python scripts/measure_exact.py [--identifiers 300] [--documents 12] [--dpi 72] [--font-size 9] [--seed 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import string
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glyph_pipeline import Answer, Document, GlyphPipeline
from glyph_pipeline.experiments.evaluation.filler import sentences
from glyph_pipeline.experiments.intervals import Count, wilson
from glyph_pipeline.reading.ocr import OCRReader

# Tokens between two identifiers: each stands alone in the passage that is quoted.
FILLER_SENTENCES = 14
UPPER = string.ascii_uppercase + string.digits
BASE64 = string.ascii_letters + string.digits


def _drawn(letters: str, length: int) -> Callable[[random.Random], str]:
    return lambda chance: "".join(chance.choices(letters, k=length))


def _iban(chance: random.Random) -> str:
    account = "".join(chance.choices(string.digits, k=18))
    return f"DE{98 - int(account + '131400') % 97:02}{account}"


# name of the kind: (what it is called, how one is drawn)
KINDS: Mapping[str, tuple[str, Callable[[random.Random], str]]] = {
    "UUID": ("session key", lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4))),
    "SHA-1": ("commit", lambda chance: f"{chance.getrandbits(160):040x}"),
    "API key": ("access token", _drawn(BASE64, 32)),
    "IBAN": ("bank account", _iban),
    "e-mail": (
        "mailbox",
        lambda chance: f"{_drawn(string.ascii_lowercase + string.digits, 9)(chance)}@{chance.choice(('quay', 'mill', 'tide'))}.example",
    ),
    "URL": ("archive", lambda chance: f"https://files.example/{_drawn(BASE64, 11)(chance)}"),
    "long number": ("customer number", _drawn(string.digits, 12)),
    "product code": ("part", lambda chance: f"{_drawn(UPPER, 4)(chance)}-{_drawn(UPPER, 5)(chance)}"),
    "version": (
        "firmware",
        lambda chance: f"{chance.randrange(30)}.{chance.randrange(30)}.{chance.randrange(4000)}-rc.{chance.randrange(20)}",
    ),
    "MAC address": ("adapter", lambda chance: ":".join(f"{chance.randrange(256):02x}" for _ in range(6))),
}
SYLLABLES = (
    "bar",
    "del",
    "fen",
    "gor",
    "hal",
    "kes",
    "lum",
    "mor",
    "nad",
    "ost",
    "pel",
    "quil",
    "rov",
    "sar",
    "tam",
    "umb",
    "ven",
    "wex",
    "yar",
    "zeph",
)


@dataclass(frozen=True)
class Planted:
    """An identifier in a document, and the question for it."""

    document: Document
    kind: str
    owner: str
    identifier: str

    @property
    def question(self) -> str:
        return f"What is the {KINDS[self.kind][0]} of {self.owner}?"


def planted(identifiers: int, documents: int, seed: int) -> list[Planted]:
    """``identifiers`` in ``documents`` texts; the kinds take turns, owners are all different."""
    chance = random.Random(seed)
    owners = [f"{a}{b}{c}".capitalize() for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]
    chance.shuffle(owners)
    found: list[Planted] = []
    for number in range(documents):
        source = sentences(f"{seed} {number}")
        text, here = "", []
        for place in range(number, identifiers, documents):
            kind = list(KINDS)[place % len(KINDS)]
            identifier = KINDS[kind][1](chance)
            text += "".join(next(source) for _ in range(FILLER_SENTENCES))
            text += f"The {KINDS[kind][0]} of {owners[place]} is {identifier}, as far as anybody knows. "
            here.append((kind, owners[place], identifier))
        text += "".join(next(source) for _ in range(FILLER_SENTENCES))
        document = Document(text.strip(), id=f"{number}.txt")
        found += [Planted(document, *each) for each in here]
    return found


@dataclass(frozen=True)
class Outcome:
    """What came of one question: ``right`` to the letter, ``found`` the sentence at all, ``told`` by a check that it is not right."""

    kind: str
    right: bool
    found: bool
    told: bool
    plain: int
    sent: int
    seconds: float


def outcome(asked: Planted, answer: Answer) -> Outcome:
    sent = answer.report.sent
    assert sent is not None
    # Where the sentence stands in the answer: its owner's name and what follows, as far as an identifier may reach.
    at = answer.text.lower().find(asked.owner.lower())
    found = at >= 0 or asked.identifier in answer.text
    reach = range(at, at + len(asked.owner) + len(asked.identifier) + 24)
    told = any(
        check.status != "found" and not check.repaired and (check.start in reach or check.source == asked.identifier)
        for check in answer.checks
    )
    return Outcome(asked.kind, asked.identifier in answer.text, found, told, sent.plain_tokens, sent.tokens, answer.seconds["total"])


def measure(all_planted: Sequence[Planted], reader: OCRReader, arguments: Mapping[str, Any]) -> list[Outcome]:
    """The outcome of every question in one way of asking; what was read before is not read again."""
    with GlyphPipeline(reader=reader, **arguments) as pipeline:
        return [outcome(each, pipeline.ask(each.document, each.question)) for each in all_planted]


def ways(dpi: int, font_size: float) -> dict[str, tuple[dict[str, Any], bool]]:
    """Arguments of GlyphPipeline, and whether the checks count, by name."""
    drawing = {"font-size": font_size, "line-height": font_size + 1}
    plain = {"config": drawing | {"dpi": dpi}, "mode": "pages", "exact": "off"}
    return {
        f"pictures at {dpi} dpi": (plain, False),
        "with checks": (plain, True),
        "with exact strings and checks": (plain | {"exact": "auto"}, True),
        "with exact strings, checks and repair": (plain | {"exact": "auto", "repair": True}, True),
        "sharper pages (--resolution auto)": (plain | {"resolution": "auto"}, False),
        "all at 120 dpi": (plain | {"config": drawing | {"dpi": 120}}, False),
    }


def row(name: str, outcomes: Sequence[Outcome], checked: bool) -> dict[str, Any]:
    wrong = [one for one in outcomes if one.found and not one.right]
    given = [one for one in wrong if not (checked and one.told)]
    estimate = wilson(Count(len(given), len(outcomes)))
    plain, sent = sum(one.plain for one in outcomes), sum(one.sent for one in outcomes)
    return {
        "way": name,
        "questions": len(outcomes),
        "right": sum(one.right for one in outcomes),
        "not found": sum(not one.found and not one.right for one in outcomes),
        "wrong, and told so": len(wrong) - len(given),
        "wrong, given as right": len(given),
        "95 %": f"{estimate.low:.1%}-{estimate.high:.1%}",
        "ratio": round(plain / sent, 3),
    }


def _of_kind(kind: str, pictures: Sequence[Outcome], exact: Sequence[Outcome], *_: Sequence[Outcome]) -> dict[str, Any]:
    alone, listed = ([one for one in outcomes if one.kind == kind] for outcomes in (pictures, exact))
    return {
        "kind": kind,
        "questions": len(alone),
        "misread from pictures": sum(one.found and not one.right for one in alone),
        "with exact strings": sum(one.found and not one.right for one in listed),
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(rows[0])
    return "\n".join(
        [
            f"| {' | '.join(names)} |",
            f"|---|{'---:|' * (len(names) - 1)}",
            *(f"| {' | '.join(str(row[name]) for name in names)} |" for row in rows),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identifiers", type=int, default=300)
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--dpi", type=int, default=72)
    parser.add_argument("--font-size", type=float, default=9, help="pt; leading is one more")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    everything = planted(options.identifiers, options.documents, options.seed)
    reader = OCRReader(quotes=1)
    rows: list[dict[str, Any]] = []
    measured: dict[str, list[Outcome]] = {}
    for name, (arguments, checked) in ways(options.dpi, options.font_size).items():
        key = json.dumps(arguments, sort_keys=True)
        if key not in measured:
            measured[key] = measure(everything, reader, arguments)
        rows.append(row(name, measured[key], checked))
        print(f"{name}: done", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({"ways": rows}))
        return 0
    before, after = rows[0], rows[2]
    print(markdown(rows))
    given = "wrong, given as right"
    print(
        f"\nWrong answers given as right: {before[given]} before, {after[given]} with exact strings and checks; ratio {after['ratio'] / before['ratio'] - 1:+.1%}.\n"
    )
    print(markdown([_of_kind(kind, *measured.values()) for kind in KINDS]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
