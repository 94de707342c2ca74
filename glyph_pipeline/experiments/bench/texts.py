"""Texts to measure with: as many tokens as asked for, no two alike, the same every time. Draws nothing and asks nobody."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from glyph_pipeline.document import Document
from glyph_pipeline.tokens.text import Cl100kTokenizer

QUESTION = "What is this text about?"

# Words of sentences made by lot: plain prose as a tokenizer sees it, about 4.8 characters a token.
# fmt: off
_WHO = (
    "the harbour master", "a retired surveyor", "the night clerk", "our youngest engineer", "the council",
    "a visiting botanist", "the bookbinder", "the lock keeper", "an old neighbour", "the committee",
    "a travelling tuner", "the baker's daughter",
)
_DID = (
    "repaired", "described", "counted", "painted", "forgot", "measured", "sold", "defended", "collected", "postponed",
    "copied", "drew", "catalogued", "questioned", "inherited", "cleaned",
)
_WHAT = (
    "the eastern sluice", "forty brass hinges", "a map of the lower meadow", "the annual accounts",
    "seven crates of lamp glass", "two stone steps", "the organ's smallest pipe", "a letter about the toll",
    "the new timetable", "a barrel of tar", "the weather book", "the ferry's spare rope", "a drawing of the bridge",
    "the missing inventory",
)
_WHERE = (
    "beside the mill", "under the market hall", "in the upper village", "at the old quarry", "near the customs house",
    "on the north pier", "behind the library", "along the canal",
)
_WHEN = (
    "before the first frost", "during the long strike", "on a wet Tuesday", "after the fair", "in the spring of {}",
    "since {}", "until the winter of {}", "one evening in {}",
)
# fmt: on
# In a paragraph.
_SENTENCES = (8, 16)
# Every page of a user's text has a number of its own if it has so many characters.
_MARKED = 800
# A cut is near enough with this share of the tokens too few.
_SLACK = 1 / 500
_ROUNDS = 8
_WORD = 60


@dataclass(frozen=True, slots=True)
class TextSource:
    """Where texts come from: ``text``, of which pieces are cut (from its beginning again where it ends), or sentences made by lot."""

    name: str = "generated"
    text: str = ""

    @classmethod
    def of(cls, documents: Sequence[Document]) -> TextSource:
        """A source of these documents, one behind the other; of generated sentences if there are none."""
        if not documents:
            return cls()
        return cls(", ".join(document.id for document in documents), "\n\n".join(document.text.strip() for document in documents))

    def document(self, lot: str, tokens: int) -> Document:
        """About ``tokens`` tokens (cl100k_base), never more and at most 0.2 % or 8 fewer; its id and its content follow from ``lot``.

        It begins and ends with a number that no other lot has, and a text of the user's own has such numbers all through it: neither
        the first tokens nor any page is what the server has seen before.
        """
        chance = random.Random(lot)
        text, closing = f"Copy {_number(chance)}.\n\n", f"\n\nEnd of copy {_number(chance)}."
        tokenizer = Cl100kTokenizer()
        body = tokens - tokenizer.count(closing)
        wanted = begin = 0
        while True:
            wanted += tokens * 6 + 1000
            while (missing := wanted - len(text)) > 0:
                piece = self.text[begin : begin + missing]
                begin = begin + missing if begin + missing < len(self.text) else 0
                text += _marked(piece, chance) + "\n\n" * (not begin) if self.text else _paragraphs(chance, missing)
            counted = tokenizer.count(text)
            if counted >= body:
                return Document(_cut(text, body, counted) + closing, id=f"copy {lot}")

    def sample(self) -> str:
        """Some of it, by which the preset of the drawing is chosen."""
        return self.text or _paragraphs(random.Random(0), 1000)


def _number(chance: random.Random) -> str:
    return f"{chance.getrandbits(64):016x}"


def _marked(text: str, chance: random.Random) -> str:
    """A text with numbers between its words, or where it has none near, between its characters."""
    parts, begin = [], 0
    while len(text) - begin > _MARKED:
        space = text.find(" ", begin + _MARKED, begin + _MARKED + _WORD)
        end = space if space >= 0 else begin + _MARKED
        parts.append(f"{text[begin:end]} [{_number(chance)}]")
        begin = end
    return "".join([*parts, text[begin:]])


def _paragraphs(chance: random.Random, characters: int) -> str:
    paragraphs: list[str] = []
    size = 0
    while size < characters:
        sentences = []
        for _ in range(chance.randint(*_SENTENCES)):
            who, did, what = chance.choice(_WHO), chance.choice(_DID), chance.choice(_WHAT)
            when = chance.choice(_WHEN).format(chance.randint(1790, 1990))
            sentences.append(f"{who[0].upper()}{who[1:]} {did} {what} {chance.choice(_WHERE)} {when}.")
        paragraphs.append(" ".join(sentences))
        size += len(paragraphs[-1]) + 2
    return "\n\n".join(paragraphs) + "\n\n"


def _cut(text: str, tokens: int, counted: int) -> str:
    """The beginning of ``text`` (of ``counted`` tokens), which ends with a word, with ``tokens`` tokens or a few less."""
    tokenizer = Cl100kTokenizer()
    slack = max(4, int(tokens * _SLACK))
    best, end = "", len(text)
    for _ in range(_ROUNDS):
        # Tokens are spread about evenly, so that a few rounds find the place; halving would count a long text twenty times.
        end = max(1, min(len(text), int(end * (tokens - slack / 2) / counted)))
        space = text.rfind(" ", max(0, end - _WORD), end)  # where words have spaces between them
        end = space if space > 0 else end
        counted = max(1, tokenizer.count(text[:end]))
        if counted <= tokens and end > len(best):
            best = text[:end]
        if tokens - slack <= counted <= tokens:
            break
    return best or text[:end]
