"""Ranking: the words of a text as they are compared, and BM25 scores of texts for a question. Knows no pages, no passages and no OCR."""

from __future__ import annotations

import difflib
import functools
import importlib
import re
import threading
from collections.abc import Collection, Sequence
from typing import Any

CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
"""Chinese, Japanese and Korean characters, as they stand in a regular expression's brackets."""

K1, B = 1.2, 0.5
"""BM25's weight of repetition and of length."""

CLOSE = 0.85
"""difflib's ratio from which on one word may be another, misread."""

ONE_CJK = re.compile(rf"[{CJK}]")

_WORD = re.compile(rf"[{CJK}]+|[^\W_{CJK}]+(?:[.,][0-9]+)*(?:['’][^\W\d_]+)?")
_ASKING = frozenset({"much", "many", "whose", "tell", "please", "would", "could", "might", "shall", "ever", "exactly", "also"})


def terms(text: str) -> list[str]:
    """The words of a text as they are compared: lower case, stop words dropped, English endings cut, CJK characters in pairs."""
    return [term for _, term in placed_terms(text)]


def placed_terms(text: str) -> list[tuple[int, str]]:
    """The :func:`terms` of a text, each with the offset (characters) of the word it comes from."""
    stop = _stop_words()
    found: list[tuple[int, str]] = []
    for match in _WORD.finditer(text):
        word = match.group().lower()
        if ONE_CJK.match(word):
            found += [(match.start() + at, word[at : at + 2]) for at in range(max(1, len(word) - 1))]
        elif word not in stop:
            found.append((match.start(), _stem(word.replace("’", "'").removesuffix("'s"))))
    return found


def known(term: str, vocabulary: Collection[str]) -> str | None:
    """The term itself if it occurs, else the occurring one that a misread letter could have made of it."""
    if term in vocabulary:
        return term
    if len(term) < 6 or term[0].isdigit():
        return None
    # The ratio can't be more than lengths allow: told first, as most words fail by it.
    likely = [word for word in vocabulary if 2 * min(len(word), len(term)) >= CLOSE * (len(word) + len(term))]
    return next(iter(difflib.get_close_matches(term, likely, n=1, cutoff=CLOSE)), None)


def bm25(corpus: Sequence[Sequence[str]], question: str) -> list[float]:
    """How well each text of the corpus matches the question: BM25, 0.0 where they share no term; comparable within one call only.

    Each text is given by its :func:`terms`. A term of the question that occurs nowhere stands for the most similar one
    that does, so that a misread letter does not hide a name.
    """
    vocabulary = {term for tokens in corpus for term in tokens}
    asked = [term for term in (known(term, vocabulary) for term in dict.fromkeys(terms(question))) if term]
    if not asked:
        return [0.0] * len(corpus)
    library: Any = importlib.import_module("bm25s")
    index = library.BM25(method="lucene", k1=K1, b=B)
    index.index(corpus, show_progress=False)
    return [float(score) for score in index.get_scores(asked)]


def bm25_around(text: str, spans: Sequence[tuple[int, int]], question: str, around: int) -> list[float]:
    """How well what stands around each span of a text matches the question: :func:`bm25` over the words that begin up to ``around``
    characters before it or behind it.

    Done by counting the question's words near each span, as the surroundings of spans that stand close are nearly the same text.
    The formula is bm25s's method ``lucene``: ln(1 + (n - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean length)).
    """
    import numpy as np

    placed = placed_terms(text)
    where: dict[str, list[int]] = {}
    for start, term in placed:
        where.setdefault(term, []).append(start)
    asked = [term for term in (known(term, where.keys()) for term in dict.fromkeys(terms(question))) if term]
    if not asked or not spans:
        return [0.0] * len(spans)
    first = np.array([start - around for start, _ in spans])
    last = np.array([end + around for _, end in spans])

    def inside(starts: Sequence[int]) -> Any:
        return np.searchsorted(starts, last, "left") - np.searchsorted(starts, first, "left")

    lengths = inside([start for start, _ in placed])
    norm = K1 * (1 - B + B * lengths / (float(lengths.mean()) or 1.0))
    scores = np.zeros(len(spans))
    for term in dict.fromkeys(asked):
        times = inside(where[term])
        having = int((times > 0).sum())
        scores += np.log(1 + (len(spans) - having + 0.5) / (having + 0.5)) * times / (times + norm)
    return [float(score) for score in scores]


@functools.lru_cache(maxsize=1)
def _stop_words() -> frozenset[str]:
    library: Any = importlib.import_module("bm25s.stopwords")
    return frozenset(library.STOPWORDS_EN_PLUS) | _ASKING


# A stemmer holds the word it is at: two threads in one would cut each other's words, or fail.
_own = threading.local()


def _stemmer() -> Any:
    if not hasattr(_own, "stemmer"):
        library: Any = importlib.import_module("snowballstemmer")
        _own.stemmer = library.stemmer("english")
    return _own.stemmer


@functools.lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    return str(_stemmer().stemWord(word))
