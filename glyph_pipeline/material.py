"""Material: the documents of a question as they will be sent: pictures, texts, sharper pictures, exact strings. Plans no requests."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Protocol

from glyph_pipeline.compression import CompressedText
from glyph_pipeline.document import Document
from glyph_pipeline.exactness.finder import ExactString, find_exact
from glyph_pipeline.exactness.listing import HEADING, exact_list
from glyph_pipeline.page import Page
from glyph_pipeline.parts import PageText
from glyph_pipeline.planning import page_cost
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.resolution import sharpened
from glyph_pipeline.sending import PIECE_TOKENS, Mode, Sendable, SendPolicy, as_joined, choose, headings
from glyph_pipeline.tokens.text import TextTokenizer
from glyph_pipeline.tokens.vision import VisionArithmetic

# Cells by which a sharper picture may be larger than in proportion: a row and a column of A4 at 120 dpi.
_ROUNDING = 85

PageKey = tuple[str | None, int]


class Drawer(Protocol):
    """What draws a document: a Renderer, or what keeps pages in its place."""

    def render(self, document: Document, title: str | None = None, only: frozenset[int] | None = None) -> Iterator[Page]:
        """As Renderer.render."""
        ...


Draw = Callable[[RenderConfig], Drawer]


@dataclass(frozen=True, slots=True)
class Source:
    """A document as it was drawn: its text, the name that its pages have, the line above them (None without one)."""

    document: Document
    title: str | None = None

    @property
    def name(self) -> str | None:
        """What its pages call it."""
        return self.document.id or None


@dataclass(frozen=True, slots=True)
class Material:
    """What is asked about.

    ``pages`` are all pages as drawn, at ``dpi`` pixels per inch; ``sendables`` how each is sent, in the same order (one page's text may be several of
    them). ``texts`` are the documents' by the name that their pages have; ``found`` the exact strings in them, without secrets if the
    policy says so, ``strings`` by page those that may be told to the model. ``plain_tokens`` is what the texts cost as text, with the lines above them. ``paged``: whether the pages
    of all that is sent can be told, so that they can be cited.
    """

    pages: tuple[Page, ...]
    dpi: int
    sendables: tuple[Sendable, ...]
    plain_tokens: int
    policy: SendPolicy
    texts: Mapping[str | None, str] = field(default_factory=dict)
    found: Mapping[str | None, Sequence[ExactString]] = field(default_factory=dict)
    strings: Mapping[PageKey, Sequence[ExactString]] = field(default_factory=dict)
    paged: bool = True


def gather(
    compressed: CompressedText,
    sources: Sequence[Source],
    config: RenderConfig,
    question: str,
    policy: SendPolicy,
    vision: VisionArithmetic,
    tokenizer: TextTokenizer,
    *,
    marked: Callable[[int], bool] = lambda tokens: False,
    must_mark: bool = False,
    piece_tokens: int = PIECE_TOKENS,
    draw: Draw = Renderer,
) -> Material:
    """Decide how each page is sent. ``marked(tokens)``: whether texts of so many tokens should tell their pages, and ``must_mark``
    whether they should even if all then costs more than the text; ``piece_tokens`` as in choose; ``draw`` draws what is sent sharper.

    Blocks: counts, perhaps at a server, and may draw. Raises MissingExtraError if ``policy.redact`` needs a package.
    """
    texts = {source.name: source.document.text for source in sources}
    above = headings([source.document for source in sources], [source.title for source in sources])
    plain = compressed.report.text_tokens + sum(tokenizer.count(heading) for heading in above.values() if heading)
    pictures = sum(page_cost(page, vision) for page in compressed.pages)
    with_marks = marked(plain if policy.mode == "text" else min(plain, pictures))
    choices = _Choices(
        partial(choose, compressed.pages, texts, above, vision=vision, tokenizer=tokenizer, piece_tokens=piece_tokens),
        plain,
        vision,
        tokenizer,
        with_marks,
        must_mark,
        never_dearer=policy.mode == "auto",
    )
    sendables, with_marks = choices.best(policy.mode)
    found: Mapping[str | None, Sequence[ExactString]] = {name: find_exact(text) for name, text in texts.items()}
    if policy.redact:
        found = _tellable(found, texts)
    if policy.resolution == "auto":
        redraw = partial(_redrawn, {source.name: source for source in sources}, config.replace(dpi=policy.sharp_dpi), draw)
        budget = _resolution_budget(sendables, policy, plain, config.dpi, vision)
        sendables = sharpened(
            sendables,
            texts,
            above,
            question,
            budget,
            policy.sharp_dpi,
            config.dpi,
            vision,
            tokenizer,
            redraw,
            marked=_of_several_pages(compressed.pages) if with_marks else frozenset(),
            as_texts=policy.mode != "pages",
        )
    strings: dict[PageKey, Sequence[ExactString]] = {}
    if policy.exact != "off":
        strings = _by_page(compressed.pages, found)
    if policy.exact == "all" and policy.mode == "auto":
        drawn = [one.part for one in sendables if isinstance(one.part, Page)]
        told = exact_list(drawn, strings, texts, question, None, tokenizer.count, several=len(sources) > 1)
        # Each window has a list of its own, and there are no more windows with pictures than pictures.
        again = tokenizer.count(f"{HEADING}\n") * (len(drawn) - 1)
        if told is not None and _cost(sendables, vision) + told.tokens + again > plain:
            sendables, with_marks = choices.best("text", "with all exact strings pictures would cost more than the text")
    long = _of_several_pages(compressed.pages)
    paged = with_marks or not any(isinstance(one.part, PageText) and one.part.document in long for one in sendables)
    return Material(compressed.pages, config.dpi, tuple(sendables), plain, policy, texts, found, strings, paged)


def _of_several_pages(pages: Sequence[Page]) -> frozenset[str | None]:
    return frozenset(page.document for page in pages if page.number > 1)


@dataclass(frozen=True, slots=True)
class _Choices:
    """Ways to send the pages. ``way`` is choose but for the mode; the rest as in gather, whose ``plain`` none of them is to exceed."""

    way: Callable[..., list[Sendable]]
    plain: int
    vision: VisionArithmetic
    tokenizer: TextTokenizer
    marked: bool
    must_mark: bool
    never_dearer: bool

    def best(self, mode: Mode, why: str = "") -> tuple[list[Sendable], bool]:
        """The pages as ``mode`` has them, and whether texts tell their pages. What would cost more than the text is counted as it will
        stand in the message; if that is no less, numbers of pages are left out; at last all goes as text."""
        sendables = self.way(mode, why=why, marked=self.marked)
        if not self.never_dearer or _cost(sendables, self.vision) <= self.plain:
            return sendables, self.marked
        ways = [(sendables, self.marked)]
        if self.marked and not self.must_mark:
            ways.append((self.way(mode, why=why), False))
        if mode == "auto":
            ways.append((self.way("text", why="text costs less", marked=self.marked and self.must_mark), self.marked and self.must_mark))
        for tried, marked in ways:
            joined = as_joined(tried, self.tokenizer)
            if _cost(joined, self.vision) <= self.plain:
                return joined, marked
        # Pages that can't go as text cost what they cost, and so do numbers that have to be there.
        last, marked = min(ways, key=lambda way: _cost(way[0], self.vision))
        return as_joined(last, self.tokenizer), marked


def _cost(sendables: Sequence[Sendable], vision: VisionArithmetic) -> int:
    return sum(page_cost(one.part, vision) for one in sendables)


def _resolution_budget(sendables: Sequence[Sendable], policy: SendPolicy, plain: int, dpi: int, vision: VisionArithmetic) -> int:
    """Tokens that sharper pages may cost more: the share of the policy, but at least one page's worth, and never so many that
    the whole costs more than the text."""
    costs = [page_cost(one.part, vision) for one in sendables if isinstance(one.part, Page)]
    if not costs:
        return 0
    one_page = int(max(costs) * max(0.0, (policy.sharp_dpi / dpi) ** 2 - 1)) + _ROUNDING
    budget = max(int(policy.resolution_budget * sum(costs)), one_page) if policy.resolution_budget else 0
    return budget if policy.mode != "auto" else max(0, min(budget, plain - _cost(sendables, vision)))


def _redrawn(
    sources: Mapping[str | None, Source], config: RenderConfig, draw: Draw, document: str | None, numbers: frozenset[int]
) -> dict[int, Page]:
    source = sources[document]
    return {page.number: page for page in draw(config).render(source.document, source.title, numbers)}


def _tellable(
    found: Mapping[str | None, Sequence[ExactString]], texts: Mapping[str | None, str]
) -> dict[str | None, Sequence[ExactString]]:
    """The strings that are no secrets."""
    from glyph_pipeline.exactness.redaction import Redactor

    redactor = Redactor()
    tellable: dict[str | None, Sequence[ExactString]] = {}
    for name, strings in found.items():
        secret = redactor.secrets(texts[name], strings)
        tellable[name] = [string for string in strings if string not in secret]
    return tellable


def _by_page(pages: Sequence[Page], found: Mapping[str | None, Sequence[ExactString]]) -> dict[PageKey, Sequence[ExactString]]:
    """The strings by the page on which they begin."""
    placed: dict[PageKey, list[ExactString]] = {}
    for name, group in groupby(pages, key=lambda page: page.document):
        of_document = list(group)
        starts = [page.start for page in of_document]
        for string in found[name]:
            page = of_document[max(0, bisect_right(starts, string.start) - 1)]
            placed.setdefault((name, page.number), []).append(string)
    return dict(placed)
