"""Metrics: how near an answer is to what was expected, by the formulas of the benchmarks. Pure functions on strings; know no files.

Every score is from 0 to 1. LongBench's are those of its published ``metrics.py`` and ``eval.py`` (github.com/THUDM/LongBench,
arXiv 2308.14508), RULER's those of its ``eval/synthetic/constants.py`` (github.com/NVIDIA/RULER, arXiv 2404.06654), MRCR's that of
the data set's card (huggingface.co/datasets/openai/mrcr). Written anew from what they compute.
"""

from __future__ import annotations

import importlib
import re
import string
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from glyph_pipeline.errors import MissingExtraError

# What LongBench takes for Chinese punctuation beside ASCII's: first and last code points of the runs of it.
_RUNS = (
    (0xFF01, 0xFF0D),
    (0xFF0F, 0xFF0F),
    (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40),
    (0xFF5B, 0xFF64),
    (0x3001, 0x3003),
    (0x300B, 0x3011),
    (0x3014, 0x301F),
    (0x3030, 0x3030),
    (0x303E, 0x303F),
    (0x2013, 0x2014),
    (0x2018, 0x2019),
    (0x201B, 0x201F),
    (0x2026, 0x2027),
    (0xFE4F, 0xFE4F),
)
_PUNCTUATION = frozenset(string.punctuation) | {chr(code) for first, last in _RUNS for code in range(first, last + 1)}
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_DIGITS = re.compile(r"\d+")
_CONTROL = re.compile("[\x00-\x1f]")
# rouge 1.0.1 keeps its quotient finite with it.
_ROUGE_EPSILON = 1e-8


def word_f1(answer: str, expected: str) -> float:
    """LongBench's F1 of English: of words, in lower case, without punctuation and articles, each counted as often as it comes up."""
    return _f1(_words(answer), _words(expected))


def chinese_f1(answer: str, expected: str) -> float:
    """LongBench's F1 of Chinese: of the words that jieba finds, without punctuation. Raises MissingExtraError."""
    return _f1(_chinese_words(answer), _chinese_words(expected))


def rouge_l(answer: str, expected: str) -> float:
    """LongBench's Rouge-L, which is the F measure of ``rouge`` 1.0.1: the summary-level one of Lin (2004), of distinct words.

    Both sides are split at full stops. The words of the longest common subsequence of each pair of sentences are put together in
    one set; it is divided by the distinct words of what was expected (recall) and of the answer (precision). Where ``rouge`` gives
    up for want of stack, and LongBench then counts 0, this goes on.
    """
    said, wanted = _rouge_sentences(answer), _rouge_sentences(expected)
    if not said or not wanted:
        return 0.0
    common = {word for sentence in wanted for other in said for word in _longest_common(sentence, other)}
    recall = len(common) / len({word for sentence in wanted for word in sentence})
    precision = len(common) / len({word for sentence in said for word in sentence})
    return 2 * recall * precision / (recall + precision + _ROUGE_EPSILON)


def chinese_rouge_l(answer: str, expected: str) -> float:
    """:func:`rouge_l` of the words that jieba finds. Raises MissingExtraError."""
    return rouge_l(" ".join(_cut(answer)), " ".join(_cut(expected)))


def classification(answer: str, expected: str, classes: Sequence[str]) -> float:
    """LongBench's accuracy: one divided by the classes that the answer names, if the right one is among them.

    A class that is only a part of the right one's name doesn't count against it. As published, the class that follows one that was
    dropped is not looked at.
    """
    named = [name for name in classes if name in answer]
    place = 0
    while place < len(named):
        if named[place] in expected and named[place] != expected:
            del named[place]
        place += 1
    return 1.0 / len(named) if expected in named else 0.0


def number_share(answer: str, expected: str) -> float:
    """LongBench's score for counts and paragraph numbers: the share of the answer's numbers that are ``expected``, digit by digit."""
    numbers = _DIGITS.findall(answer)
    return numbers.count(expected) / len(numbers) if numbers else 0.0


def code_similarity(answer: str, expected: str) -> float:
    """LongBench's similarity of code: of the answer's first line with no backtick, ``#`` or ``//`` in it, by difflib, in whole per cent."""
    lines = answer.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    return round(100 * SequenceMatcher(None, line, expected).ratio()) / 100


def prefixed_ratio(answer: str, expected: str, prefix: str) -> float:
    """MRCR's: difflib's ratio of what follows ``prefix`` on both sides; 0 if the answer does not begin with it."""
    if not answer.startswith(prefix):
        return 0.0
    return SequenceMatcher(None, answer.removeprefix(prefix), expected.removeprefix(prefix)).ratio()


def all_parts(answer: str, expected: Sequence[str]) -> float:
    """RULER's ``string_match_all``: the share of what was expected that stands in the answer, whatever the case."""
    said = _ruler(answer)
    return sum(one.lower() in said for one in expected) / len(expected)


def any_part(answer: str, expected: Sequence[str]) -> float:
    """RULER's ``string_match_part``: 1 if any of what was expected stands in the answer, whatever the case."""
    said = _ruler(answer)
    return float(any(one.lower() in said for one in expected))


def require_chinese() -> None:
    """Raises MissingExtraError if Chinese can't be cut into words."""
    _jieba()


def _ruler(answer: str) -> str:
    return _CONTROL.sub("\n", answer.strip()).strip().lower()


def _f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    """2 P R / (P + R) of two bags of words."""
    same = sum((Counter(said) & Counter(wanted)).values())
    if not same:
        return 0.0
    precision, recall = same / len(said), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    return _ARTICLE.sub(" ", bare).split()


def _chinese_words(text: str) -> list[str]:
    words = ("".join("".join(char for char in word.lower() if char not in _PUNCTUATION).split()) for word in _cut(text))
    return [word for word in words if word]


def _cut(text: str) -> list[str]:
    words: list[str] = _jieba().cut(text)
    return words


def _jieba() -> Any:
    # The Rust one, which cuts as jieba does with the same dictionary; jieba itself is no longer kept and can't be imported with warnings as errors.
    try:
        return importlib.import_module("rjieba")
    except ImportError as error:
        raise MissingExtraError("Grading Chinese answers", "experiments", package="rjieba") from error


def _rouge_sentences(text: str) -> list[list[str]]:
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _longest_common(one: Sequence[str], other: Sequence[str]) -> set[str]:
    """The words of the longest common subsequence that ``rouge`` finds: where several are as long, the one with the later words of ``one``."""
    rows = [[0] * (len(other) + 1)]
    for word in one:
        before, row = rows[-1], [0]
        for place, opposite in enumerate(other):
            row.append(before[place] + 1 if word == opposite else max(before[place + 1], row[place]))
        rows.append(row)
    found: set[str] = set()
    i, j = len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:
            found.add(one[i - 1])
            i, j = i - 1, j - 1
        elif rows[i - 1][j] > rows[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found
