"""Bidirectional classes, paired brackets and matching isolates of characters: the definitions of UAX #9. Knows no levels."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt

CodePoints = npt.NDArray[np.uint32]
Classes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]

BRACKET_STACK = 63  # BD16: brackets that may be open at a time

# UAX #9, table 4, in an order that makes of every group the rules speak of one range of numbers: strong L..AL (where L and R
# are the parity of their levels), separators and terminators ES..CS, neutrals and isolates B..PDI, removed by X9 LRE..BN.
# fmt: off
CLASS_NAMES = (
    "L", "R", "AL", "EN", "AN", "ES", "ET", "CS", "NSM", "B", "S", "WS", "ON",
    "LRI", "RLI", "FSI", "PDI", "LRE", "RLE", "LRO", "RLO", "PDF", "BN",
)
# fmt: on
L, R, AL, EN, AN, ES, ET, CS, NSM, B, S, WS, ON, LRI, RLI, FSI, PDI, LRE, RLE, LRO, RLO, PDF, BN = range(len(CLASS_NAMES))

_UNICODE_SIZE = 0x110000
_PAGE = 256  # code points that are looked up together
_UNKNOWN = 255
_CODES = {name: code for code, name in enumerate(CLASS_NAMES)}
_NEEDS_BIDI = np.array([code in (R, AL, AN) or LRI <= code <= PDF for code in range(len(CLASS_NAMES))])
_FIRST_RIGHT_TO_LEFT = 0x0590  # no character below the Hebrew block needs this algorithm

# Defaults of unassigned code points (DerivedBidiClass.txt, @missing): first, last, class. All others are L.
_DEFAULTS = (
    (0x0590, 0x05FF, R),
    (0x0600, 0x07BF, AL),
    (0x07C0, 0x085F, R),
    (0x0860, 0x08FF, AL),
    (0x2065, 0x2065, BN),
    (0x20A0, 0x20CF, ET),
    (0xFB1D, 0xFB4F, R),
    (0xFB50, 0xFDCF, AL),
    (0xFDD0, 0xFDEF, BN),
    (0xFDF0, 0xFDFF, AL),
    (0xFE70, 0xFEFE, AL),
    (0xFFF0, 0xFFF8, BN),
    (0x10800, 0x10CFF, R),
    (0x10D00, 0x10D3F, AL),
    (0x10D40, 0x10EBF, R),
    (0x10EC0, 0x10EFF, AL),
    (0x10F00, 0x10F2F, R),
    (0x10F30, 0x10F6F, AL),
    (0x10F70, 0x10FFF, R),
    (0x1E800, 0x1EC6F, R),
    (0x1EC70, 0x1ECBF, AL),
    (0x1ECC0, 0x1ECFF, R),
    (0x1ED00, 0x1ED4F, AL),
    (0x1ED50, 0x1EDFF, R),
    (0x1EE00, 0x1EEFF, AL),
    (0x1EF00, 0x1EFFF, R),
    (0xE0000, 0xE0FFF, BN),
)

# Paired brackets (BidiBrackets.txt): ranges in which an opening one and its partner take turns, and those that stand apart.
_BRACKET_RANGES = (
    (0x0028, 0x0029),
    (0x0F3A, 0x0F3D),
    (0x169B, 0x169C),
    (0x2045, 0x2046),
    (0x207D, 0x207E),
    (0x208D, 0x208E),
    (0x2308, 0x230B),
    (0x2329, 0x232A),
    (0x2768, 0x2775),
    (0x27C5, 0x27C6),
    (0x27E6, 0x27EF),
    (0x2983, 0x298C),
    (0x2991, 0x2998),
    (0x29D8, 0x29DB),
    (0x29FC, 0x29FD),
    (0x2E22, 0x2E29),
    (0x2E55, 0x2E5C),
    (0x3008, 0x3011),
    (0x3014, 0x301B),
    (0xFE59, 0xFE5E),
    (0xFF08, 0xFF09),
    (0xFF5F, 0xFF60),
    (0xFF62, 0xFF63),
)
_BRACKETS_APART = ((0x5B, 0x5D), (0x7B, 0x7D), (0x298D, 0x2990), (0x298F, 0x298E), (0xFF3B, 0xFF3D), (0xFF5B, 0xFF5D))
# U+2329 and U+232A are canonically equivalent to U+3008 and U+3009: they pair with them. Unicode promises no other such brackets.
_EQUIVALENT = ((0x2329, 0x3008), (0x232A, 0x3009))


def bidi_classes(codepoints: CodePoints) -> Classes:
    """The class of each code point as a number, the index of its name in ``CLASS_NAMES``; shape (n,).

    From the Unicode version of Python's ``unicodedata``; what is unassigned there has the default of its block.
    """
    table = _class_table()
    classes = table[codepoints]
    unknown = classes == _UNKNOWN
    if unknown.any():
        pages = np.zeros(_UNICODE_SIZE // _PAGE, np.bool_)
        pages[codepoints[unknown] // _PAGE] = True
        for first in (np.flatnonzero(pages) * _PAGE).tolist():
            table[first : first + _PAGE] = _page_classes(first)
        classes = table[codepoints]
    return classes


def needs_bidi(codepoints: CodePoints) -> Mask:
    """True for the characters that make the algorithm necessary: R, AL, AN and explicit formatting; shape (n,).

    A paragraph without any of them, whose base level is 0 or left to the text, is drawn in the order it is stored.
    """
    if not codepoints.size or codepoints.max() < _FIRST_RIGHT_TO_LEFT:
        return np.zeros(codepoints.shape, np.bool_)
    return _NEEDS_BIDI[bidi_classes(codepoints)]


def bracket_pairs(codepoints: CodePoints) -> npt.NDArray[np.int8]:
    """k for an opening paired bracket, -k for the closing one that belongs to it, 0 for any other character; shape (n,)."""
    return _bracket_table()[codepoints]


@dataclass(frozen=True, slots=True)
class Isolates:
    """What rules P2 and P3 and definition BD9 say of a paragraph with some explicit formatting characters.

    ``base`` is the paragraph level that its first strong character asks for, 0 if there is none; ``right_to_left`` says of
    each formatting character whether it begins an isolate of right-to-left text; ``pairs`` are the positions of isolate
    initiators and their matching PDIs, in the order of the initiators.
    """

    base: int
    right_to_left: list[bool]
    pairs: list[tuple[int, int]]


def match_isolates(classes: Classes, controls: Positions) -> Isolates:
    """One pass over the formatting characters, which stand at the positions ``controls``; ``classes`` (n,) are those of all."""
    strong = np.concatenate((np.flatnonzero(classes <= AL), [len(classes)]))
    bounds = np.concatenate(([0], controls, [len(classes)]))
    first = strong[np.searchsorted(strong, bounds[:-1])]  # strong character after each control, and after the start
    direction_of = np.concatenate((classes, [L]))[first] != L
    # Of the text between two controls: its direction as a level, -1 without a strong character.
    outermost, *directions = np.where(first < bounds[1:], direction_of, -1).tolist()
    kinds = classes[controls].tolist()
    inner = [-1] * len(kinds)
    matches: dict[int, int] = {}
    stack: list[int] = []
    for number, (kind, direction) in enumerate(zip(kinds, directions, strict=True)):
        if kind == PDI and stack:
            matches[stack.pop()] = number
        elif kind in (LRI, RLI, FSI):
            stack.append(number)
        if direction >= 0:
            if not stack:
                outermost = direction if outermost < 0 else outermost
            elif inner[stack[-1]] < 0:
                inner[stack[-1]] = direction
    places = controls.tolist()
    return Isolates(
        base=max(outermost, 0),
        right_to_left=[kind == RLI or (kind == FSI and direction == 1) for kind, direction in zip(kinds, inner, strict=True)],
        pairs=[(places[initiator], places[matches[initiator]]) for initiator in sorted(matches)],
    )


def match_brackets(places: list[int], pairs: list[int], sequences: list[int]) -> dict[int, int]:
    """BD16: places of the brackets that belong together, opening to closing.

    Each list has an element a bracket, in the order of the text: where it stands, which of the :func:`bracket_pairs` it is,
    the number of its isolating run sequence.
    """
    closings: dict[int, int] = {}
    for _, brackets in groupby(zip(places, pairs, sequences, strict=True), key=itemgetter(2)):
        found: dict[int, int] = {}
        open_pairs: list[int] = []
        open_places: list[int] = []
        for place, pair, _ in brackets:
            if pair > 0:
                if len(open_pairs) == BRACKET_STACK:
                    found.clear()  # too deep: none of this sequence is paired
                    break
                open_pairs.append(pair)
                open_places.append(place)
            elif -pair in open_pairs:
                while open_pairs.pop() != -pair:
                    open_places.pop()
                found[open_places.pop()] = place
        closings |= found
    return closings


@cache
def _class_table() -> Classes:
    """Filled page by page with what texts need: looking up all of Unicode would cost a cold start a tenth of a second."""
    return np.full(_UNICODE_SIZE, _UNKNOWN, np.uint8)


def _page_classes(start: int) -> Classes:
    """The classes of the code points of one page, which begins at ``start``."""
    codepoints = range(start, start + _PAGE)
    classes = np.array([_CODES.get(unicodedata.bidirectional(chr(codepoint)), _UNKNOWN) for codepoint in codepoints], np.uint8)
    defaults = np.full(_PAGE, L, np.uint8)
    for first, last, code in _DEFAULTS:
        defaults[max(first - start, 0) : max(last + 1 - start, 0)] = code
    if start & 0xFFFF == 0xFF00:
        defaults[-2:] = BN  # the two noncharacters that end a plane
    return np.where(classes == _UNKNOWN, defaults, classes)


@cache
def _bracket_table() -> npt.NDArray[np.int8]:
    table = np.zeros(_UNICODE_SIZE, np.int8)
    neighbours = [(opening, opening + 1) for first, last in _BRACKET_RANGES for opening in range(first, last, 2)]
    for pair, (opening, closing) in enumerate([*neighbours, *_BRACKETS_APART], start=1):
        table[opening], table[closing] = pair, -pair
    for bracket, equivalent in _EQUIVALENT:
        table[bracket] = table[equivalent]
    return table
