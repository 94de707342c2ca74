"""Needles: facts planted in long texts at given depths, the questions about them, and whether an answer holds them. Asks nobody.

A needle is one sentence. What it says is a word (which a reader may guess from half of its letters), a number or a UUID (which nobody
can guess).
"""

from __future__ import annotations

import random
import re
import unicodedata
import uuid
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from rapidfuzz.distance import Levenshtein
from rapidfuzz.fuzz import partial_ratio_alignment

from glyph_pipeline.document import Document
from glyph_pipeline.errors import InputError, UsageError
from glyph_pipeline.experiments.evaluation.filler import sentences, split_at_bars
from glyph_pipeline.experiments.evaluation.sample import Sample
from glyph_pipeline.tokens.text import Cl100kTokenizer

SHORTEST, LONGEST = 100, 10_000_000
"""Tokens: a shorter text has too few sentences to hide one among, and no model reads a longer one."""
MOST = 100_000
"""Questions of a plan: each takes a reader about a second, and its row is held in memory."""

# An answer is near if at most one character in so many is wrong.
_NEAR = 8
_ROOM = 0.01  # the share of its length by which a user's own text may fall short
_STRETCH = 100  # tokens that a long sentence of it may add to or take from a short text

_WORDS = split_at_bars(
    "pelican|turbine|walnut|compass|saffron|mosaic|thimble|glacier|anvil|papaya|trumpet|obsidian|bicycle|hammock|cactus|zeppelin|marzipan|gondola"
    "|tambourine|volcano|porcupine|telescope|cinnamon|pyramid|umbrella|dolphin|parachute|jasmine|sapphire|octopus"
)
_NAMES = split_at_bars(
    "Abernoth|Bexuvia|Cordavine|Drelland|Elmorath|Fenwick|Galdoria|Hollarin|Istvane|Jorvale|Kestrane|Lumetta|Morvane|Nadrica|Ostrelle|Pandrith"
    "|Quillon|Rothmere|Sarvola|Tamsin|Umbrecht|Vandora|Wexland|Xanthe|Yolande|Zephrin"
)
# What ends a sentence, not after an initial or an abbreviation of two letters; and the end of a line. A run of stops is tried once, from its beginning.
_ENDS = re.compile(r"(?<!\b\w)(?<!\b[A-Z]\w)(?<![.!?…])[.!?…]+[\"'”’)\]]*(?=\s|\Z)|[。！？]+[”’」』）]*|(?<=\S)(?=[ \t]*[\r\n])")
# 4,812,331 is 4812331; digits that stand beside a number are not of it.
_GROUPED = re.compile(r"(?<!\w)\d{1,3}([,.'’ ])\d{3}(?:\1\d{3})*(?!\w)")
# What makes a word longer: Latin letters (Chinese stands beside them without a space) and digits, over a hyphen, too.
_PART = "[0-9a-z\u00df-\u024f]"


@dataclass(frozen=True, slots=True)
class _Kind:
    """``sentence`` and ``question`` name what they are about ({name}); ``value`` draws what is to be found, none of the words given."""

    sentence: str
    question: str
    value: Callable[[random.Random, Collection[str]], str]


KINDS: Mapping[str, _Kind] = {
    "word": _Kind(
        "The secret password of the {name} vault is {value}.",
        "What is the secret password of the {name} vault? Give only the password.",
        lambda chance, taken: chance.choice([word for word in _WORDS if word not in taken]),
    ),
    "number": _Kind(
        "The serial number of the {name} engine is {value}.",
        "What is the serial number of the {name} engine? Give only the number.",
        lambda chance, _: str(chance.randrange(1_000_000, 10_000_000)),
    ),
    "uuid": _Kind(
        "The access key of the {name} terminal is {value}.",
        "What is the access key of the {name} terminal? Give only the key.",
        lambda chance, _: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
    ),
}


@dataclass(frozen=True, slots=True)
class Planted:
    """A text with a fact in it: its tokens by cl100k_base, and where the fact stands, in per cent of the characters before it."""

    text: str
    tokens: int
    at: float


class Haystack:
    """What facts are planted in: ``text``, or sentences by lot without end. ``seed`` and ``repeat`` say by which lot."""

    def __init__(self, document: Document | None = None, seed: int = 1) -> None:
        self._document, self._seed = document, seed
        self._count = Cl100kTokenizer().count
        self.words: frozenset[str] = frozenset(re.findall(r"\w+", document.text.lower())) if document is not None else frozenset()
        self._cut = lru_cache(maxsize=8)(self._cut_to)

    @property
    def name(self) -> str:
        """For rows: the document's id, or the seed."""
        return f"seed {self._seed}" if self._document is None else self._document.id

    def planted(self, sentence: str, length: int, depth: float, repeat: int) -> Planted:
        """A text of about ``length`` tokens with ``sentence`` at the end of the sentence nearest to ``depth`` per cent of it.

        The same haystack for the same length and repeat, whatever is planted, but for the last few sentences. Raises InputError if
        the user's own text is too short.
        """
        hay, ends = self._cut(length - self._count(" " + sentence), repeat)
        target = depth / 100 * len(hay)
        place = bisect_left(ends, target)
        end = min(ends[max(0, place - 1) : place + 1], key=lambda end: abs(end - target))
        text = f"{hay[:end]} {sentence}{hay[end:]}" if end else f"{sentence} {hay}"
        return Planted(text, self._count(text), round(100 * end / len(hay), 2))

    def _cut_to(self, tokens: int, repeat: int) -> tuple[str, Sequence[int]]:
        """The first sentences, as many as come nearest to ``tokens``, and where sentences end in them, 0 included."""
        text = self._grown(tokens, repeat) if self._document is None else self._document.text
        size = self._enough(text, tokens)
        found = {0}
        for match in _ENDS.finditer(text):
            found.add(match.end())
            if match.end() > size:
                break
        else:
            found.add(len(text.rstrip()))
        ends = sorted(found)
        place = bisect_left(ends, tokens, key=lambda end: self._count(text[:end]))
        if place == len(ends):
            there = self._count(text)
            if there < tokens * (1 - _ROOM):
                raise InputError(
                    f"{self.name!r} has {there:,} tokens, too few for a text of {tokens:,} to plant in.",
                    hint="Name a longer file with --haystack, or shorter --lengths.",
                )
            place -= 1
        near = [end for end in ends[max(0, place - 1) : place + 1] if end]
        end = min(near, key=lambda end: abs(self._count(text[:end]) - tokens))
        if abs(self._count(text[:end]) - tokens) > max(_STRETCH, 0.05 * tokens):
            raise InputError(
                f"{self.name!r} has no end of a sentence or line near its token {tokens:,}.", hint="Name another file with --haystack."
            )
        return text[:end], [one for one in ends if one <= end]

    def _enough(self, text: str, tokens: int) -> int:
        """Characters that hold so many tokens, few more than are needed: nobody waits until the whole of a long text is counted."""
        size = 4 * tokens
        while size < len(text) and self._count(text[:size]) <= tokens:
            size *= 2
        return size

    def _grown(self, tokens: int, repeat: int) -> str:
        """Sentences by lot, a few more than are needed."""
        parts: list[str] = []
        characters = 0
        for part in sentences(f"{self._seed}/{repeat}"):
            parts.append(part)
            characters += len(part)
            # No token of such a text has six characters on average.
            if characters > 6 * tokens + 200:
                break
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class NeedlePlan:
    """What is planted: every kind at every depth (per cent) in texts of every length (tokens), ``repeat`` times. A haystack and a needle go by
    ``seed``. Raises UsageError for impossible values and for more than :data:`MOST` questions."""

    depths: tuple[float, ...]
    lengths: tuple[int, ...]
    kinds: tuple[str, ...]
    repeat: int = 1
    seed: int = 1

    def __post_init__(self) -> None:
        told = (
            ("depths", [f"{depth:g}" for depth in self.depths]),
            ("lengths", [str(length) for length in self.lengths]),
            ("kinds", self.kinds),
        )
        for name, values in told:
            if not values or len(set(values)) < len(values):
                raise UsageError(f"{name} are {', '.join(values) or 'none'}.", hint="Give at least one, and each once.")
        for depth in self.depths:
            if not 0 <= depth <= 100:
                raise UsageError(f"The depth {depth:g} is not possible.", hint="Depths are per cent, from 0 to 100.")
        for length in self.lengths:
            if not SHORTEST <= length <= LONGEST:
                fault = "short" if length < SHORTEST else "long"
                raise UsageError(
                    f"The length {length:,} is too {fault}.", hint=f"Lengths are tokens, {SHORTEST} or more, {LONGEST:,} at most."
                )
        for kind in self.kinds:
            if kind not in KINDS:
                raise UsageError(f"There is no kind {kind!r}.", hint=f"Kinds: {', '.join(KINDS)}.")
        if (questions := len(self.depths) * len(self.lengths) * len(self.kinds) * self.repeat) > MOST:
            raise UsageError(
                f"That is {questions:,} questions.", hint=f"Ask {MOST:,} at most: a smaller --repeat, or fewer depths and lengths."
            )


class Needles:
    """A :class:`~.evaluation.sample.Benchmark` of planted facts; its tasks are their kinds. The same plan and haystack give the same samples."""

    name = "needle"

    def __init__(self, plan: NeedlePlan, haystack: Document | None = None) -> None:
        self._plan = plan
        self._haystack = Haystack(haystack, plan.seed)
        self._names = [name for name in _NAMES if name.lower() not in self._haystack.words]
        if not self._names or self._haystack.words.issuperset(_WORDS):
            raise InputError(f"{self._haystack.name!r} holds all that could be planted in it.", hint="Name another file with --haystack.")

    def tasks(self) -> Collection[str]:
        """The kinds."""
        return self._plan.kinds

    def samples(self, tasks: Collection[str] = ()) -> Iterator[Sample]:
        """Length by length, depth by depth. Raises InputError if the haystack is too short."""
        plan = self._plan
        for length, repeat, depth, kind in product(plan.lengths, range(1, plan.repeat + 1), plan.depths, plan.kinds):
            if tasks and kind not in tasks:
                continue
            chance = random.Random(f"{plan.seed}/{length}/{repeat}/{depth:g}/{kind}")
            value = KINDS[kind].value(chance, self._haystack.words)
            named = {"name": chance.choice(self._names), "value": value}
            planted = self._haystack.planted(KINDS[kind].sentence.format(**named), length, depth, repeat)
            about: dict[str, Any] = {"length": length, "depth": depth, "repeat": repeat, "tokens": planted.tokens, "at": planted.at}
            about |= {"haystack": self._haystack.name, "value": value}
            question = KINDS[kind].question.format(**named)
            yield Sample(kind, f"{length} {depth:g}% {repeat}", planted.text, question, {"value": value}, about)

    def grade(self, sample: Sample, answer: str) -> Mapping[str, Any]:
        """``right``, ``near`` and ``similarity``: see :func:`graded`."""
        return graded(sample.expected["value"], answer)

    def require(self, tasks: Collection[str]) -> None:
        """Nothing that the base install lacks."""


def graded(value: str, answer: str) -> dict[str, Any]:
    """Whether an answer, or a quoted passage, holds ``value``.

    ``right``: it does, as a whole token; case, white space, the form of a character (Unicode's NFKC) and what groups the digits of a
    number don't count. Else ``near``: a piece of it is ``value`` but for at most one character in eight, rounded up (Levenshtein distance), as
    when a letter was misread. ``similarity``: of the most similar piece, from 0 to 1 (one less the distance for each character).
    ``score``: 1 if right.
    """
    said, wanted = _GROUPED.sub(lambda match: match.group().replace(match.group(1), ""), _folded(answer)), _folded(value)
    if _holds(said, wanted):
        return {"score": 1.0, "right": True, "near": False, "similarity": 1.0}
    allowed = -(-len(wanted) // _NEAR)
    distance = max(1, _distance(said, wanted, allowed))  # what stands there as a part of something longer has that much too much
    return {"score": 0.0, "right": False, "near": distance <= allowed, "similarity": round(max(0.0, 1 - distance / len(wanted)), 3)}


def _folded(text: str) -> str:
    # NFKC makes one hyphen of U+2011, which does not break and which models like to write in a UUID, and the one it maps it to.
    return " ".join(unicodedata.normalize("NFKC", text).replace("\u2010", "-").casefold().split())


def _holds(said: str, wanted: str) -> bool:
    return re.search(f"(?<!{_PART})(?<!{_PART}[-_]){re.escape(wanted)}(?!{_PART})(?![-_]{_PART})", said) is not None


def _distance(said: str, wanted: str, room: int) -> int:
    """The characters in which the piece of ``said`` that is most like ``wanted`` differs from it. A piece may have up to ``room`` characters more or less."""
    if not said:
        return len(wanted)
    piece = partial_ratio_alignment(wanted, said)
    assert piece is not None  # only a cutoff could make it so
    # That piece is as long as what is wanted; the most like one may be longer or shorter.
    starts = range(max(0, piece.dest_start - room), piece.dest_start + room + 1)
    ends = range(piece.dest_end - room, min(len(said), piece.dest_end + room) + 1)
    return min(int(Levenshtein.distance(wanted, said[start:end])) for start, end in product(starts, ends) if start <= end)
