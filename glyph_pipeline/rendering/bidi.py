"""The Unicode Bidirectional Algorithm (UAX #9): levels of the characters of a paragraph, order of a line. Knows no fonts and no widths."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.bidi_classes import (
    AL,
    AN,
    CS,
    EN,
    ES,
    ET,
    FSI,
    LRE,
    LRI,
    LRO,
    NSM,
    ON,
    PDF,
    PDI,
    RLE,
    RLO,
    WS,
    B,
    Classes,
    CodePoints,
    Isolates,
    L,
    Mask,
    Positions,
    R,
    S,
    bidi_classes,
    bracket_pairs,
    match_brackets,
    match_isolates,
    needs_bidi,
)

__all__ = ["bidi_classes", "embedding_levels", "needs_bidi", "reset_trailing", "visual_runs"]

MAX_DEPTH = 125  # UAX #9, BD2

Levels = npt.NDArray[np.uint8]

_NO_OVERRIDE = 255
_RAISED = np.array([[0, 1, 0, 2, 2], [1, 0, 0, 1, 1]], np.uint8)  # rules I1, I2: [parity of the level, L R AL EN AN]


def embedding_levels(text: str, base: int | None = None) -> tuple[int, Levels]:
    """The level of the paragraph and the resolved level of each of its characters, shape (len(text),), before rule L1.

    ``base`` is 0 (left to right), 1 (right to left) or None: that of the first strong character (P2, P3), 0 if there is none.
    Characters that the algorithm removes (X9: embeddings, overrides, boundary neutrals such as the zero-width joiner)
    have the level of the character before them, at the start that of the paragraph. ``text`` is one paragraph: a
    separator within it is one more neutral and ends nothing. Raises ValueError for any other ``base``.
    """
    if base not in (None, 0, 1):
        raise ValueError(f"The base level of a paragraph is 0, 1 or None, not {base!r}.")
    codepoints = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if not base and not needs_bidi(codepoints).any():
        return 0, np.zeros(len(text), np.uint8)
    classes = bidi_classes(codepoints)
    controls = np.flatnonzero((classes >= LRI) & (classes <= PDF))
    isolates = match_isolates(classes, controls)
    if base is None:
        base = isolates.base
    levels, types = _explicit(classes, controls, isolates.right_to_left, base)
    removed = classes >= LRE
    kept = np.flatnonzero(~removed)
    if kept.size:
        sequences = _isolating_runs(classes, levels, kept, isolates, base)
        levels[kept] = _resolve(types[kept], codepoints[kept], sequences)
    _follow(levels, removed, base)
    return base, levels


def reset_trailing(levels: Levels, classes: Classes, base: int) -> Levels:
    """Rule L1 for one line: white space at its end and before tabs, and separators, at the level of the paragraph; shape (n,).

    ``levels`` (n,) is the line's part of what :func:`embedding_levels` gave, ``classes`` (n,) that of :func:`bidi_classes`.
    Isolate formatting counts as white space. A joiner or another removed character stays with the character before it.
    """
    removed = classes >= LRE
    result: Levels = levels.copy()
    if removed.any():
        result[~removed] = reset_trailing(levels[~removed], classes[~removed], base)
        _follow(result, removed, int(levels[0]))
        return result
    separator = (classes == S) | (classes == B)
    white = (classes >= WS) & (classes != ON)
    starts, ends = _runs(white)
    reset = np.concatenate((separator, [True]))  # the end of the line, too
    reset[:-1][white] = np.repeat(reset[ends], ends - starts)
    result[reset[:-1]] = base
    return result


def visual_runs(levels: Levels) -> list[tuple[int, int, bool]]:
    """Rule L2 for one line: runs (start, end, right to left) of one level in visual order, from left to right.

    ``levels`` (n,) is what :func:`reset_trailing` gave. The runs tile range(n); a right-to-left one is drawn from its end.
    """
    if not len(levels):
        return []
    starts = _run_starts(levels)
    runs = list(pairwise([*starts.tolist(), len(levels)]))
    depths: list[int] = levels[starts].tolist()
    order = list(range(len(runs)))
    for depth in range(max(depths), (min(depths) | 1) - 1, -1):
        # What was reversed at deeper levels lies within what is reversed at this one: the bounds are those of the stored order.
        start = None
        for place, level in enumerate([*depths, -1]):
            if level >= depth:
                start = place if start is None else start
            elif start is not None:
                order[start:place] = order[start:place][::-1]
                start = None
    return [(*runs[run], depths[run] % 2 == 1) for run in order]


def _explicit(classes: Classes, controls: Positions, right_to_left: list[bool], base: int) -> tuple[Levels, Classes]:
    """Rules X1-X8: the explicit level of each character, and its class after overrides; both of shape (n,).

    One pass over the ``controls``, which lie between stretches of text of one level and one override.
    """
    if not controls.size:
        return np.full(len(classes), base, np.uint8), classes
    stack: list[tuple[int, int, bool]] = [(base, _NO_OVERRIDE, False)]  # level, override, begun by an isolate
    overflown_isolates = overflown_embeddings = open_isolates = 0
    stretches: list[tuple[int, int]] = [stack[0][:2]]  # text, control, text, ..., control, text
    for kind, right in zip(classes[controls].tolist(), right_to_left, strict=True):
        own = stack[-1]
        if kind == PDF:
            if overflown_embeddings and not overflown_isolates:
                overflown_embeddings -= 1
            elif not overflown_isolates and not stack[-1][2] and len(stack) > 1:
                stack.pop()
        elif kind == PDI:
            if overflown_isolates:
                overflown_isolates -= 1
            elif open_isolates:
                overflown_embeddings = 0
                while not stack.pop()[2]:
                    pass
                open_isolates -= 1
            own = stack[-1]
        else:
            isolate = kind < PDI
            level = (own[0] + 1) | 1 if right or kind in (RLE, RLO) else (own[0] + 2) & ~1  # the next odd, the next even one
            if level <= MAX_DEPTH and not overflown_isolates and not overflown_embeddings:
                stack.append((level, L if kind == LRO else R if kind == RLO else _NO_OVERRIDE, isolate))
                open_isolates += isolate
            elif isolate:
                overflown_isolates += 1
            elif not overflown_isolates:
                overflown_embeddings += 1
        stretches += (own[:2], stack[-1][:2])
    lengths = np.ones(len(stretches), np.intp)
    lengths[::2] = np.diff(np.concatenate(([-1], controls, [len(classes)]))) - 1
    levels, overrides = np.repeat(np.array(stretches, np.uint8), lengths, axis=0).T.copy()
    types = np.where((overrides == _NO_OVERRIDE) | (classes >= LRE), classes, overrides)
    separator = classes == B  # X8
    levels[separator] = base
    types[separator] = B
    return levels, types


@dataclass(frozen=True, slots=True)
class _Sequences:
    """Isolating run sequences (BD13) one after the other, each between two places of its own: its sos and its eos (X10).

    ``order`` (m,) numbers the kept characters in that order, ``places`` (m,) says where each stands, ``levels``
    (m + 2 sequences,) is the level at every place. ``sos`` and ``eos`` (sequences,) are classes, L or R, ``starts`` and
    ``ends`` (sequences,) their places.
    """

    order: Positions
    places: Positions
    levels: Levels
    sos: Classes
    eos: Classes
    starts: Positions
    ends: Positions


def _isolating_runs(classes: Classes, levels: Levels, kept: Positions, isolates: Isolates, base: int) -> _Sequences:
    """The sequences of the characters at the positions ``kept``, which X9 does not remove."""
    count = len(kept)
    level = levels[kept]
    run_starts = _run_starts(level)
    run_lengths = np.diff(np.concatenate((run_starts, [count])))
    # Each level run has the number of the sequence it belongs to, which is that of the sequence's first run.
    if isolates.pairs and len(run_starts) > 1:
        numbers = list(range(len(run_starts)))
        runs = np.searchsorted(run_starts, np.searchsorted(kept, np.array(isolates.pairs)), "right") - 1
        for opening, closing in runs.tolist():
            numbers[closing] = numbers[opening]
        number = np.repeat(np.array(numbers), run_lengths)
        order = np.argsort(number, kind="stable")
        number = number[order]
        starts = _run_starts(number)
    else:
        order, starts = np.arange(count), run_starts
    lengths = np.diff(np.concatenate((starts, [count])))
    first, last = order[starts], order[starts + lengths - 1]
    own = level[first]
    fenced = np.concatenate(([base], level, [base]))  # fenced[i + 1] is level[i]
    last_class = classes[kept[last]]
    unmatched = (last_class >= LRI) & (last_class <= FSI)  # a matched initiator is never the last of its sequence
    return _Sequences(
        order=order,
        places=np.arange(count) + np.repeat(2 * np.arange(len(starts)) + 1, lengths),
        levels=np.repeat(own, lengths + 2),
        sos=np.maximum(own, fenced[first]).astype(np.uint8) % 2,
        eos=np.maximum(own, np.where(unmatched, base, fenced[last + 2])).astype(np.uint8) % 2,
        starts=starts + 2 * np.arange(len(starts)),
        ends=starts + 2 * np.arange(len(starts)) + lengths + 1,
    )


def _resolve(types: Classes, codepoints: CodePoints, sequences: _Sequences) -> Levels:
    """Rules W1-I2: the levels of the kept characters, shape (m,), from their classes and code points, both of shape (m,)."""
    placed = np.empty(len(sequences.levels), np.uint8)
    placed[sequences.places] = types[sequences.order]
    placed[sequences.starts] = sequences.sos
    placed[sequences.ends] = sequences.eos
    marks = placed == NSM
    _resolve_weak(placed, marks)
    candidates = np.flatnonzero(placed[sequences.places] == ON)
    pairs = bracket_pairs(codepoints[sequences.order[candidates]])
    found = pairs != 0
    if found.any():
        _resolve_brackets(placed, marks, sequences, sequences.places[candidates[found]], pairs[found].tolist())
    # N1, N2: neutrals between two of one direction follow them, others the embedding.
    neutral = placed >= B
    starts, ends = _runs(neutral)
    before, after = placed[starts - 1] != L, placed[ends] != L  # numbers count as R
    placed[neutral] = np.repeat(np.where(before == after, before, sequences.levels[starts] % 2), ends - starts)
    resolved = sequences.levels + _RAISED[sequences.levels % 2, placed]
    levels = np.empty(len(types), np.uint8)
    levels[sequences.order] = resolved[sequences.places]
    return levels


def _resolve_weak(types: Classes, marks: Mask) -> None:
    """Rules W1-W7, in place. Sequences begin and end with L or R, so no rule reaches over their bounds."""
    starts, ends = _runs(marks)
    if starts.size:  # W1; behind an isolate's control the rule says ON, which is no more neutral than that control
        types[marks] = np.repeat(types[starts - 1], ends - starts)
    numbers = types == EN
    starts, ends = _runs(numbers)
    if starts.size:  # W2
        arabic = _last_strong(types, starts) == AL
        types[numbers] = np.repeat(np.where(arabic, AN, EN).astype(np.uint8), ends - starts)
    types[types == AL] = R  # W3
    single = np.flatnonzero((types == CS) | (types == ES))  # W4
    before, after = types[single - 1], types[single + 1]
    joins = (before == after) & ((before == EN) | ((before == AN) & (types[single] == CS)))
    types[single[joins]] = before[joins]
    terminators = types == ET
    starts, ends = _runs(terminators)
    if starts.size:  # W5
        beside = (types[starts - 1] == EN) | (types[ends] == EN)
        types[terminators] = np.repeat(np.where(beside, EN, ON).astype(np.uint8), ends - starts)
    types[(types >= ES) & (types <= CS)] = ON  # W6
    numbers = types == EN
    starts, ends = _runs(numbers)
    if starts.size:  # W7
        latin = _last_strong(types, starts) == L
        types[numbers] = np.repeat(np.where(latin, L, EN).astype(np.uint8), ends - starts)


def _resolve_brackets(types: Classes, marks: Mask, sequences: _Sequences, places: Positions, pairs: list[int]) -> None:
    """Rule N0, in place, for the brackets at ``places``, which are of the ``pairs`` that :func:`bracket_pairs` gave."""
    spots: list[int] = places.tolist()
    closings = match_brackets(spots, pairs, np.searchsorted(sequences.ends, places).tolist())
    if not closings:
        return
    openings = np.array(sorted(closings), np.intp)
    ends = np.array([closings[opening] for opening in openings.tolist()], np.intp)
    # How many characters of each direction stand up to and with every place; numbers count as R.
    left, strong = np.cumsum(types == L), np.cumsum(types <= AN)
    has_left = left[ends] > left[openings]
    has_right = strong[ends] - left[ends] > strong[openings] - left[openings]
    embedding = sequences.levels[openings] % 2
    has_embedding = np.where(embedding == R, has_right, has_left)
    last_strong = np.flatnonzero(types <= AN)[strong[openings] - 1]
    facts = zip(
        embedding.tolist(),
        has_embedding.tolist(),
        (has_left | has_right).tolist(),
        last_strong.tolist(),
        (types[last_strong] != L).tolist(),
        strict=True,
    )
    pair_of = dict(zip(openings.tolist(), facts, strict=True))
    directions: dict[int, int] = {}  # of the resolved brackets, by place
    resolved_place, resolved = -1, L
    for spot in spots:
        direction: int | None
        if spot in pair_of:
            level, same, any_strong, before, before_right = pair_of[spot]
            if not any_strong:  # N0 d
                continue
            # N0 b, or N0 c: the opposite direction if the text before has it, else that of the embedding, so always that text's
            direction = level if same else resolved if resolved_place > before else int(before_right)
            directions[closings[spot]] = direction
        else:
            direction = directions.get(spot)
            if direction is None:
                continue
        directions[spot] = direction
        resolved_place, resolved = spot, direction
    if not directions:
        return
    types[list(directions)] = list(directions.values())
    is_resolved = np.zeros(len(types), np.bool_)
    is_resolved[list(directions)] = True
    starts, ends = _runs(marks)
    follows = is_resolved[starts - 1]
    for start, end in zip(starts[follows].tolist(), ends[follows].tolist(), strict=True):
        types[start:end] = types[start - 1]


def _last_strong(types: Classes, places: Positions) -> Classes:
    """The class (L, R or AL) of the last strong character before each of ``places``; there is one: the sequence's sos."""
    strong = np.flatnonzero(types <= AL)
    return types[strong[np.searchsorted(strong, places) - 1]]


def _run_starts(values: npt.NDArray[np.generic]) -> Positions:
    """Starts of the runs of equal values; there is at least one."""
    return np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))


def _runs(mask: Mask) -> tuple[Positions, Positions]:
    """Starts and ends of the runs of True."""
    fenced = np.zeros(len(mask) + 2, np.bool_)  # np.diff with its fences takes three times as long for a short line
    fenced[1:-1] = mask
    edges = np.flatnonzero(fenced[1:] != fenced[:-1])
    return edges[::2], edges[1::2]


def _follow(levels: Levels, removed: Mask, start_level: int) -> None:
    """In place: characters that are ``removed`` take the level of the one before them, at the start ``start_level``."""
    starts, ends = _runs(removed)
    before = np.where(starts > 0, levels[starts - 1], start_level)
    levels[removed] = np.repeat(before, ends - starts)
