"""Texts drawn by lot that the oracle tests share, the same every time. Knows no renderer."""

from __future__ import annotations

import random

ENGLISH = "the of and a ships harbour lantern when morning, came slowly; rivers unhurriedly - extraordinarily I am (so) far."
GREEK_AND_CYRILLIC = "ο λόγος θάλασσα Ἀθήνη φως, και γη; в начале было слово, корабль ёлка плывёт — там"
MARKUP_LIKE = "<b>bold</b> &amp; AT&T a<b \"quoted\" 'single' “curly” & <br/> x>y"
# The official files' other newline-markup.
RED = '<font color="#FF0000"> \\n </font>'


def words(vocabulary: str, count: int, seed: float) -> str:
    """``count`` words of a vocabulary."""
    return " ".join(random.Random(seed).choices(vocabulary.split(), k=count))


def lines_of(count: int, longest: int, seed: int, vocabulary: str = ENGLISH) -> str:
    """``count`` lines of up to ``longest`` words."""
    chance = random.Random(seed)
    return "\n".join(words(vocabulary, chance.randint(0, longest), chance.random()) for _ in range(count))
