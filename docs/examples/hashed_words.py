"""An embedding that needs no model and no network: words counted in hashed places. For the examples; a model's finds more."""

from __future__ import annotations

import math
import re
import zlib

_PLACES = 4096
_RARE_ENOUGH = 3  # letters; shorter words are in every text


def embed(text: str) -> list[float]:
    """4,096 numbers of length 1: how often each word is in the text, words by their hash."""
    counts = [0.0] * _PLACES
    for word in re.findall(r"\w+", text.lower()):
        if len(word) > _RARE_ENOUGH:
            counts[zlib.crc32(word.encode()) % _PLACES] += 1
    counts = [math.sqrt(count) for count in counts]
    length = math.sqrt(sum(count * count for count in counts)) or 1.0
    return [count / length for count in counts]
