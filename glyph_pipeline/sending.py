"""Sending: which pages go as pictures and which as text, so that no document costs more than its text. Asks nobody, draws nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, TypeAlias

from glyph_pipeline.document import Document
from glyph_pipeline.errors import ConfigError, UsageError
from glyph_pipeline.exactness.controls import has_control_marks
from glyph_pipeline.page import Page
from glyph_pipeline.parts import ExactList, PagePart, PageText, goes_on
from glyph_pipeline.planning import page_cost
from glyph_pipeline.report import Sent, SentRun
from glyph_pipeline.tokens.text import Cl100kTokenizer, TextTokenizer, encodable
from glyph_pipeline.tokens.vision import VisionArithmetic

Mode: TypeAlias = Literal["auto", "pages", "text"]
Exact: TypeAlias = Literal["auto", "off", "all"]
Resolution: TypeAlias = Literal["auto", "uniform"]
MODES: tuple[Mode, ...] = ("auto", "pages", "text")
EXACTS: tuple[Exact, ...] = ("auto", "off", "all")
RESOLUTIONS: tuple[Resolution, ...] = ("uniform", "auto")

# A change between pictures and text has to save this many tokens: what sets them apart costs one or two, and a page torn out of its
# run for less is not worth the model's trouble.
SWITCH_TOKENS = 16
# A page whose estimated text tokens are more than this many times its picture's needs no counting. What is not written in ASCII
# takes up to several times fewer tokens of a vocabulary made for it than of cl100k_base's.
_SURELY_CHEAPER, _SURELY_CHEAPER_NOT_ASCII = 1.3, 4.0
_ASCII_SHARE = 0.9
# About so much text, in tokens, goes into a window in one piece: about a dense page's half.
PIECE_TOKENS = 1000
# Characters to both sides of a page's end in which a control mark may lie that the end cuts in two.
_LONGEST_MARK = 80

DEFAULT_EXACT_BUDGET = 0.03
DEFAULT_RESOLUTION_BUDGET = 0.2

CONTROL_MARKS = "its text holds control marks of chat templates"


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """How documents are sent.

    ``mode``: ``pages`` pictures only; ``text`` text only; ``auto`` each page as what costs less, a picture at a tie of a few tokens.
    ``exact``: whether strings that have to be read to the letter are sent as text beside their pictures, ``auto`` those nearest to the
    question within ``exact_budget`` (a share of the tokens of a window's pictures), ``all`` all of them, ``off`` none; ``redact``: without
    secrets, which are left out of checks, too. ``resolution`` ``auto``: the pages that match the question best at ``sharp_dpi`` pixels per inch, or as text where that costs
    less, within ``resolution_budget`` (a share of the tokens of all pictures). ``repair``: what was probably misread stands in the
    answer as the source spells it.

    Raises UsageError for a word that is none of these, ConfigError for a number that makes no sense.
    """

    mode: Mode = "auto"
    exact: Exact = "auto"
    redact: bool = False
    exact_budget: float = DEFAULT_EXACT_BUDGET
    resolution: Resolution = "uniform"
    resolution_budget: float = DEFAULT_RESOLUTION_BUDGET
    sharp_dpi: int = 120
    repair: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("mode", MODES), ("exact", EXACTS), ("resolution", RESOLUTIONS)):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} is {getattr(self, name)!r}.", hint=f"Allowed are {', '.join(allowed)}.")
        for name in ("exact_budget", "resolution_budget"):
            share = getattr(self, name)
            if not (math.isfinite(share) and 0 <= share <= 10):
                raise ConfigError(f"{name} is {share!r}.", hint="Give a share of the pages' tokens, such as 0.03.")
        if not 36 <= self.sharp_dpi <= 600:
            raise ConfigError(f"sharp_dpi is {self.sharp_dpi}.", hint="Give 36 to 600 pixels per inch.")


@dataclass(frozen=True, slots=True)
class Sendable:
    """A page with how it is sent and why; ``picture_tokens`` are those of its picture as drawn, ``text_tokens`` those of its text, counted
    or (``estimated``) reckoned. ``dpi`` is that of its picture where it is another than that of the others."""

    part: PagePart
    why: str
    picture_tokens: int
    text_tokens: int
    estimated: bool = False
    dpi: int | None = None


def headings(documents: Sequence[Document], titles: Sequence[str | None]) -> dict[str | None, str]:
    """The line above each document's text that tells it from the others, by the name that its pages have."""
    return {document.id or None: f"{title}\n" if title else "" for document, title in zip(documents, titles, strict=True)}


def choose(
    pages: Sequence[Page],
    texts: dict[str | None, str],
    above: dict[str | None, str],
    mode: Mode,
    *,
    vision: VisionArithmetic,
    tokenizer: TextTokenizer,
    marked: bool = False,
    why: str = "",
    piece_tokens: int = PIECE_TOKENS,
) -> list[Sendable]:
    """How each page is sent. ``texts`` and ``above`` (see headings) by document; ``marked``: the text of each page begins with its number,
    where the document has several; ``why``: the reason to name, if not the mode's own; in mode ``text`` a longer page is cut into pieces
    of about ``piece_tokens``.

    In mode ``auto`` the cheapest of all ways to cut each document into runs of pictures and runs of text, a change costing
    SWITCH_TOKENS. A text with control marks of chat templates is never sent: it could end the user's turn. Blocks if counting asks a server.
    """
    found: list[Sendable] = []
    local = Cl100kTokenizer()
    for document, group in groupby(pages, key=lambda page: page.document):
        of_document = list(group)
        marks = marked and len(of_document) > 1
        each = [_considered(page, texts[document], above[document], mode, vision, tokenizer, local, marks) for page in of_document]
        if mode == "pages":
            found += [Sendable(one.page, "pictures were asked for", one.cost, one.tokens, one.estimated) for one in each]
        elif mode == "text":
            found += [piece for one in each for piece in _as_text(one, why or "text was asked for", tokenizer, piece_tokens)]
        else:
            found += _cheapest(each, tokenizer)
    return found


def text_of(page: Page, text: str, above: str, marked: bool) -> tuple[PageText, bool]:
    """What may stand in the page's place, its tokens not counted yet, and whether it may be sent: not if it holds a control mark, or a
    part of one that its neighbour's text would make whole. ``text`` is the document's; ``above`` and ``marked`` as in choose."""
    piece = encodable(text[page.start : page.end])
    heading = (above if page.number == 1 else "") + (f"[page {page.number}]\n" if marked else "")
    sendable = not has_control_marks(heading + piece) and not _cuts_mark(text, page.start) and not _cuts_mark(text, page.end)
    return PageText(page.number, page.document, page.start, page.end, piece, 0, heading), sendable


def _cuts_mark(text: str, at: int) -> bool:
    before, behind = text[max(0, at - _LONGEST_MARK) : at], text[at : at + _LONGEST_MARK]
    return has_control_marks(before + behind) and not has_control_marks(before) and not has_control_marks(behind)


@dataclass(frozen=True, slots=True)
class _Considered:
    """A page, what its picture costs, and its text, None if that can't be sent. ``tokens`` are the text's."""

    page: Page
    cost: int
    tokens: int
    estimated: bool
    text: PageText | None


def _considered(
    page: Page, text: str, above: str, mode: Mode, vision: VisionArithmetic, tokenizer: TextTokenizer, local: TextTokenizer, marked: bool
) -> _Considered:
    cost = page_cost(page, vision)
    part, sendable = text_of(page, text, above, marked)
    whole = part.heading + part.text
    tokens = local.count(whole)
    exact = isinstance(tokenizer, Cl100kTokenizer)
    if not exact and (mode == "text" or (mode == "auto" and tokens <= cost * _surely_cheaper(whole))):
        tokens, exact = tokenizer.count(whole), True
    return _Considered(page, cost, tokens, not exact, replace(part, tokens=tokens) if exact and sendable else None)


def _surely_cheaper(text: str) -> float:
    ascii_only = len(text.encode("ascii", "ignore")) >= _ASCII_SHARE * len(text)
    return _SURELY_CHEAPER if ascii_only else _SURELY_CHEAPER_NOT_ASCII


def _cheapest(each: Sequence[_Considered], tokenizer: TextTokenizer) -> list[Sendable]:
    """Of one document's pages: dynamic programming over (page, picture or text)."""
    pictures, texts = 0.0, 0.0
    came: list[tuple[bool, bool]] = []  # for each page: whether the best way to its picture, and to its text, comes from a text
    for index, one in enumerate(each):
        switch = SWITCH_TOKENS if index else 0
        from_text = (texts + switch < pictures, texts <= pictures + switch)
        came.append(from_text)
        pictures, texts = (
            min(pictures, texts + switch) + one.cost,
            (min(texts, pictures + switch) + one.text.tokens) if one.text is not None else math.inf,
        )
    as_text = texts < pictures
    found: list[Sendable] = []
    for one, from_text in zip(reversed(each), reversed(came), strict=True):
        if as_text:
            assert one.text is not None
            found.append(Sendable(one.text, "text costs less", one.cost, one.tokens))
        else:
            why = "pictures cost less"
            if one.text is None and not one.estimated and one.tokens < one.cost:
                why = CONTROL_MARKS
            found.append(Sendable(one.page, why, one.cost, one.tokens, one.estimated))
        as_text = from_text[as_text]
    return list(reversed(found))


def _as_text(one: _Considered, why: str, tokenizer: TextTokenizer, piece_tokens: int) -> list[Sendable]:
    """The page's text, in pieces that fit into a window where it is long; its picture if the text can't be sent."""
    if one.text is None:
        return [Sendable(one.page, CONTROL_MARKS, one.cost, one.tokens, one.estimated)]
    if one.tokens <= piece_tokens:
        return [Sendable(one.text, why, one.cost, one.tokens)]
    pieces: list[Sendable] = []
    text, start = one.text.text, 0
    longest = max(1, len(text) * piece_tokens // one.tokens)
    while start < len(text):
        end = _cut(text, start, longest)
        heading = one.text.heading if start == 0 else ""
        tokens = tokenizer.count(heading + text[start:end])
        piece = replace(
            one.text, start=one.text.start + start, end=one.text.start + end, text=text[start:end], tokens=tokens, heading=heading
        )
        pieces.append(Sendable(piece, why, one.cost if start == 0 else 0, tokens))
        start = end
    return pieces


def _cut(text: str, start: int, longest: int) -> int:
    """Where the piece that begins at ``start`` ends: at a line end, else behind a space, else anywhere."""
    if start + longest >= len(text):
        return len(text)
    for mark in ("\n", " "):
        at = text.rfind(mark, start + longest // 2, start + longest)
        if at >= 0:
            return at + 1
    return start + longest


def as_joined(sendables: Sequence[Sendable], tokenizer: TextTokenizer) -> list[Sendable]:
    """The same, but texts that go on from one another cost together what they do as the one text that a message makes of them: apart
    they cost a token more at many a cut. Blocks if counting asks a server."""
    runs: list[list[Sendable]] = []
    for one in sendables:
        if runs and goes_on(runs[-1][-1].part, one.part):
            runs[-1].append(one)
        else:
            runs.append([one])
    return [one for run in runs for one in (_joined(run, tokenizer) if len(run) > 1 else run)]


def _joined(run: Sequence[Sendable], tokenizer: TextTokenizer) -> list[Sendable]:
    parts = [one.part for one in run if isinstance(one.part, PageText)]
    over = sum(part.tokens for part in parts) - tokenizer.count("".join(part.heading + part.text for part in parts))
    found: list[Sendable] = []
    for left, (one, part) in zip(range(len(run), 0, -1), zip(run, parts, strict=True), strict=True):
        less = min(part.tokens, -(-over // left)) if over > 0 else 0
        over -= less
        found.append(replace(one, part=replace(part, tokens=part.tokens - less), text_tokens=one.text_tokens - less))
    return found


def sent_of(
    sendables: Sequence[Sendable], mode: Mode, plain_tokens: int, dpi: int, vision: VisionArithmetic, lists: Sequence[ExactList] = ()
) -> Sent:
    """The account of what is sent; ``plain_tokens`` is what all would cost as text, ``dpi`` that of pictures that say no other."""
    parts = [one.part for one in sendables]
    return Sent(
        mode=mode,
        picture_tokens=sum(page_cost(part, vision) for part in parts if isinstance(part, Page)),
        text_tokens=sum(part.tokens for part in parts if isinstance(part, PageText)),
        exact_tokens=sum(each.tokens for each in lists),
        exact_strings=sum(len(page.strings) for each in lists for page in each.pages),
        plain_tokens=plain_tokens,
        runs=_runs_of(sendables, dpi, vision),
    )


def _runs_of(sendables: Sequence[Sendable], dpi: int, vision: VisionArithmetic) -> tuple[SentRun, ...]:
    """What is sent in one way, page after page; ``dpi`` is that of pictures that say no other."""
    runs = []
    for (document, is_picture, own, why), group in groupby(
        sendables, key=lambda one: (one.part.document, isinstance(one.part, Page), one.dpi or dpi, one.why)
    ):
        run = list(group)
        runs.append(
            SentRun(
                document,
                run[0].part.number,
                run[-1].part.number,
                "pages" if is_picture else "text",
                own if is_picture else None,
                sum(page_cost(one.part, vision) for one in run),
                sum(one.picture_tokens for one in run),
                sum(one.text_tokens for one in run),
                any(one.estimated for one in run),
                why,
            )
        )
    return tuple(runs)
