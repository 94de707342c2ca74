"""Planning: which pages, as pictures or as text, go into which request, and what each will cost. Token and byte budgets only; knows no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glyph_pipeline.errors import ContextLengthError
from glyph_pipeline.parts import PagePart, PageText
from glyph_pipeline.tokens.vision import VisionArithmetic

# Below this an answer is not worth a request: it would be cut off in its first sentence.
MIN_ANSWER_TOKENS = 64
# Of a context at most this part is kept free for the answer: else a small context would hold more answer than pages.
ANSWER_SHARE = 4
# A server's body is read into memory whole; proxies in front of one often refuse more than this.
MAX_REQUEST_BYTES = 100_000_000
# Base64 makes 4 bytes of 3; around each image stand the keys of its content part and the head of its data URL.
_PART_BYTES = 80


@dataclass(frozen=True, slots=True)
class Window:
    """The pages of one request, each as a picture or as text.

    ``first`` is the index of its first page among all pages, ``repeated`` how many of its pages the window before has, too.
    ``prompt_tokens`` is its exact predicted length (None where the template can't be counted), ``max_tokens`` what is left
    for reasoning and answer.
    """

    pages: tuple[PagePart, ...]
    first: int
    repeated: int
    prompt_tokens: int | None
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What one request may cost.

    ``max_model_len`` is the model's context in tokens (None: unknown, so without a bound), ``frame_tokens`` those of template
    and question (None: not counted; ``frame_estimate`` is then kept free for them), ``max_tokens`` those that reasoning and answer may take; ``max_bytes`` bounds the request's
    body (None: nothing does); ``overlap`` is how many pages a window repeats of the one before where a document is cut.
    """

    max_model_len: int | None
    frame_tokens: int | None
    max_tokens: int
    max_bytes: int | None = None
    overlap: int = 0
    frame_estimate: int = 0

    @property
    def frame(self) -> int:
        """Tokens to keep free for template and question."""
        return self.frame_estimate if self.frame_tokens is None else self.frame_tokens

    def answer_tokens(self, largest_page: int) -> int:
        """Tokens to keep free for the answer: ``max_tokens``, a quarter of the context, or what the largest page leaves."""
        assert self.max_model_len is not None
        wanted = min(self.max_tokens, max(MIN_ANSWER_TOKENS, self.max_model_len // ANSWER_SHARE))
        return min(wanted, self.max_model_len - self.frame - largest_page)


def page_cost(page: PagePart, vision: VisionArithmetic) -> int:
    """Prompt tokens of one page: those of its image and the marks around it, or those of its text."""
    if isinstance(page, PageText):
        return page.tokens
    return vision.tokens(page.width, page.height) + vision.markers


def body_bytes(page: PagePart) -> int:
    """What a page adds to a request's body, as a base64 data URL or as text in JSON (at most: each character may be escaped)."""
    if isinstance(page, PageText):
        return 6 * len(page.heading + page.text) + _PART_BYTES
    return -(-len(page.png) // 3) * 4 + _PART_BYTES


def plan_windows(
    pages: Sequence[PagePart], vision: VisionArithmetic, budget: Budget, extra: Sequence[int] | None = None
) -> tuple[Window, ...]:
    """All pages, in order, in as few requests as the budget allows.

    ``extra``: tokens to keep free for each page beside its own, for what is told about it. Of all ways to do so the one that cuts the fewest documents, and of these the one whose windows are the most alike
    (least sum of squared tokens). Raises ContextLengthError if a page, or one more than the overlap, does not fit.
    """
    if not pages:
        return ()
    costs = [page_cost(page, vision) + more for page, more in zip(pages, extra or [0] * len(pages), strict=True)]
    sizes = [body_bytes(page) for page in pages]
    room = _room(costs, budget, told=any(extra or ()))
    tokens, size = np.cumsum([0, *costs]), np.cumsum([0, *sizes])
    most_tokens, most_bytes = int(tokens[-1]) if room is None else room, int(size[-1]) if budget.max_bytes is None else budget.max_bytes
    if tokens[-1] <= most_tokens and size[-1] <= most_bytes:
        return (_window(pages, 0, 0, int(tokens[-1]), budget),)
    begins = np.array(_document_begins(pages))
    # The first page of a window whose first new page is ``cut``: back by the overlap, but not into another document.
    starts = np.maximum(begins, np.arange(len(pages)) - budget.overlap)
    is_cut = begins != np.arange(len(pages))

    # Of pages[:end], planned best: how many windows, how many documents cut, the sum of squares, and where the last window's new pages begin.
    windows, cuts, squares, last = (np.zeros(len(pages) + 1, np.int64) for _ in range(4))
    low = 0
    for end in range(1, len(pages) + 1):
        while tokens[end] - tokens[low] > most_tokens or size[end] - size[low] > most_bytes:
            low += 1
        start = starts[low:end]
        cost = tokens[end] - tokens[start]
        possible = np.flatnonzero((cost <= most_tokens) & (size[end] - size[start] <= most_bytes)) + low
        if not possible.size:
            raise _unfit(end, costs[end - 1], sizes[end - 1], most_tokens, most_bytes, budget.overlap)
        # Three keys, one after the other: together they would not fit into 64 bits.
        possible = possible[windows[possible] == windows[possible].min()]
        cut_with = cuts[possible] + is_cut[possible]
        possible = possible[cut_with == cut_with.min()]
        square_with = squares[possible] + cost[possible - low] ** 2
        cut = int(possible[np.argmin(square_with)])
        windows[end], cuts[end], squares[end], last[end] = windows[cut] + 1, cuts[cut] + is_cut[cut], square_with.min(), cut

    planned: list[Window] = []
    end = len(pages)
    while end:
        cut = int(last[end])
        first = int(starts[cut])
        planned.append(_window(pages[first:end], first, cut - first, int(tokens[end] - tokens[first]), budget))
        end = cut
    return tuple(reversed(planned))


def _window(pages: Sequence[PagePart], first: int, repeated: int, images: int, budget: Budget) -> Window:
    prompt = None if budget.frame_tokens is None else budget.frame_tokens + images
    left = budget.max_tokens
    if budget.max_model_len is not None:
        left = min(left, budget.max_model_len - images - budget.frame)
    return Window(tuple(pages), first, repeated, prompt, left)


def _room(costs: Sequence[int], budget: Budget, told: bool) -> int | None:
    """Tokens for the pages of one request; None without a bound. ``told``: something is told about pages, which is in their costs."""
    if budget.max_model_len is None:
        return None
    frame = budget.frame
    answer = budget.answer_tokens(max(costs, default=0))
    if answer < min(budget.max_tokens, MIN_ANSWER_TOKENS):
        raise ContextLengthError(
            f"A page takes {max(costs)} tokens{' with the exact strings on it' if told else ''} and the question {frame}; "
            f"the model's context is {budget.max_model_len} tokens, of which an answer needs at least {MIN_ANSWER_TOKENS}.",
            hint=f"{'Have fewer strings told (--exact auto), draw' if told else 'Draw'} smaller pages (--page-size, --dpi), "
            "shorten the question, or serve the model with a larger --max-model-len.",
        )
    return budget.max_model_len - frame - answer


def _document_begins(pages: Sequence[PagePart]) -> list[int]:
    """For each page the index of the first page of its document, which a number that does not grow tells."""
    begins: list[int] = []
    for index, page in enumerate(pages):
        before = pages[index - 1]  # a page's text may be in several pieces, which have its number
        same = index > 0 and before.document == page.document and (before.number, before.start) < (page.number, page.start)
        begins.append(begins[-1] if same else index)
    return begins


def _unfit(page: int, cost: int, size: int, most_tokens: int, most_bytes: int, overlap: int) -> ContextLengthError:
    if size > most_bytes:
        return ContextLengthError(
            f"Page {page} takes {size:,} bytes of a request, which may have {most_bytes:,}.",
            hint="Allow larger requests, or draw smaller pages.",
        )
    return ContextLengthError(
        f"An overlap of {overlap} pages leaves no room for another: page {page} takes {cost} tokens and {size:,} bytes, "
        f"a request has room for {most_tokens} tokens and {most_bytes:,} bytes.",
        hint="Choose a smaller overlap.",
    )
