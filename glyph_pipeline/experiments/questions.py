"""Questions with known answers, from a file or about planted facts, and whether an answer holds the right one. Asks nobody."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glyph_pipeline.document import Document
from glyph_pipeline.errors import InputError
from glyph_pipeline.experiments.needles import KINDS, NeedlePlan, Needles, graded
from glyph_pipeline.tokens.text import Cl100kTokenizer

_FORM = 'Each line is {"question": "When?", "answer": "1933"}.'


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the documents, and the words that a right answer holds."""

    question: str
    answer: str

    def is_answered_by(self, text: str) -> bool:
        """Whether the text holds the answer: as whole words, letter case and white space aside."""
        wanted, given = _folded(self.answer), _folded(text)
        place = given.find(wanted)
        while place >= 0:
            before, after = given[place - 1 : place], given[place + len(wanted) :][:1]
            # "19" is not in "1933"; at the edge of a sign there is nothing to be part of.
            if not (_joins(before, wanted[0]) or _joins(wanted[-1], after)):
                return True
            place = given.find(wanted, place + 1)
        return False


@dataclass(frozen=True, slots=True)
class Fact(Question):
    """A question about a planted fact; its answer is graded as needles.py grades."""

    def is_answered_by(self, text: str) -> bool:
        """Whether the text holds the fact as a whole. Raises MissingExtraError."""
        return bool(graded(self.answer, text)["right"])


@dataclass(frozen=True, slots=True)
class Task:
    """A question, and the documents that it is asked about."""

    documents: tuple[Document, ...]
    question: Question


def planted(documents: Sequence[Document], count: int, seed: int) -> list[Task]:
    """``count`` facts for each document, each planted in a copy of it: words, numbers and UUIDs in turn, at depths from its beginning to its
    end. Raises UsageError for a document that is too short, InputError for one that holds all that could be planted.
    """
    tasks: list[Task] = []
    for document in documents:
        length = Cl100kTokenizer().count(document.text)
        for number in range(count):
            depth = 50.0 if count == 1 else 100 * number / (count - 1)
            plan = NeedlePlan((depth,), (length,), (tuple(KINDS)[number % len(KINDS)],), seed=seed)
            sample = next(Needles(plan, document).samples())
            tasks.append(Task((Document(sample.text, document.id),), Fact(sample.question, sample.expected["value"])))
    return tasks


def read_questions(path: str | Path) -> list[Question]:
    """The questions of a JSON Lines file. Raises InputError naming file, line and what is wrong with it."""
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        raise InputError(f"{str(path)!r} is not valid UTF-8: {e.reason} at byte {e.start}.", hint=_FORM) from None
    except (OSError, ValueError) as e:
        raise InputError(f"{str(path)!r} can't be read: {getattr(e, 'strerror', None) or e}.", hint=_FORM) from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise InputError(f"{path}, line {number}: not JSON ({e}).", hint=_FORM) from None
        if not isinstance(entry, dict) or set(entry) != {"question", "answer"}:
            keys = f"its keys are {', '.join(map(str, entry))}" if isinstance(entry, dict) else "it is no object"
            raise InputError(f"{path}, line {number}: {keys}; expected question and answer.", hint=_FORM)
        for key, value in entry.items():
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"{path}, line {number}: {key} = {value!r} is not a text.", hint=_FORM)
        found.append(Question(entry["question"], entry["answer"]))
    if not found:
        raise InputError(f"{str(path)!r} has no questions.", hint=_FORM)
    return found


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _joins(left: str, right: str) -> bool:
    """Whether two neighbours are of one word. Scripts without spaces (Han, kana) have no such thing."""
    return bool(left and right) and all(char.isalnum() and not _unspaced(char) for char in (left, right))


def _unspaced(char: str) -> bool:
    return unicodedata.category(char) == "Lo"
