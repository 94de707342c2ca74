"""Requests: a question's documents as a plan of requests: windows, what is told beside their pages, what each will cost. Asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glyph_pipeline.connection import STAND_IN, Connection
from glyph_pipeline.errors import ContextLengthError
from glyph_pipeline.exactness.listing import exact_list
from glyph_pipeline.material import Material
from glyph_pipeline.merging import MergeBudget
from glyph_pipeline.page import Page
from glyph_pipeline.parts import ExactList, PagePart, PageText, Part
from glyph_pipeline.planning import MAX_REQUEST_BYTES, Budget, Window, page_cost, plan_windows
from glyph_pipeline.prompts import page_label, window_question
from glyph_pipeline.report import Sent
from glyph_pipeline.sending import sent_of

# Window questions differ by a few digits and names; planning again with the longest of them ends at once, but for this.
_PLANS = 4
# Exact strings near what was asked for may take this many tokens in any case, or a document of two pages would have room for none: two UUIDs.
LEAST_LIST_TOKENS = 64
_NO_BOUND = 1 << 40


@dataclass(frozen=True, slots=True)
class AskLimits:
    """How a question is asked: ``max_tokens`` for reasoning and answer of each request, ``concurrency`` requests at a time,
    ``overlap`` pages repeated where a document is cut, ``max_request_bytes`` of a body, ``cite`` whether answers are to name
    pages (None: where there are several documents or windows)."""

    max_tokens: int
    concurrency: int = 8
    overlap: int = 0
    max_request_bytes: int = MAX_REQUEST_BYTES
    cite: bool | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A planned window, all that it holds, and the question as it stands behind that. ``first_page`` and ``last_page`` count over all
    pages as drawn, from 1."""

    window: Window
    parts: tuple[Part, ...]
    question: str
    label: str
    first_page: int
    last_page: int
    exact: ExactList | None = None


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """All requests with pages, whether there are several documents, what merging their answers has room for, and what is sent."""

    requests: Sequence[Request]
    several: bool
    merging: MergeBudget
    sent: Sent


def fits(connection: Connection, question: str, tokens: int, max_tokens: int) -> bool:
    """Whether about so many tokens of pages, question and answer go into one request. Blocks: counts at the server."""
    if connection.max_model_len is None:
        return True
    budget = Budget(connection.max_model_len, None, max_tokens, frame_estimate=connection.estimate(question))
    return tokens + budget.frame + budget.answer_tokens(0) <= connection.max_model_len


def plan_requests(connection: Connection, material: Material, question: str, limits: AskLimits) -> RequestPlan:
    """The windows and their questions. Each question names its own pages, so planning goes on until the longest fits.

    Blocks: counts at the server. Raises ContextLengthError.
    """
    pages = [one.part for one in material.sendables]
    several = len({page.document for page in pages}) > 1
    spare = _spare(connection, material)
    extra = _kept_free(connection, material, spare, several)
    first_picture: Sequence[Part] = [page for page in pages if isinstance(page, Page)][:1]
    stretch = STAND_IN if connection.beside_pictures((), "a") is None and connection.max_model_len is not None else 1.0
    planned_as = [replace(page, tokens=int(page.tokens * stretch)) if isinstance(page, PageText) else page for page in pages]

    frame = connection.beside_pictures(first_picture, question)
    requests: list[Request] = []
    counts: list[int] = []
    longest = question
    told: dict[tuple[int, int], ExactList | None] = {}
    for _ in range(_PLANS):
        least = LEAST_LIST_TOKENS if spare is not None and _lists(material) else 0
        budget = Budget(connection.max_model_len, None if frame is None else frame + least, limits.max_tokens)
        if frame is None and connection.max_model_len is not None:
            budget = replace(budget, frame_estimate=connection.estimate(longest) + least)
        if connection.instructs:  # others send nothing, and could not merge what they read apart
            budget = replace(budget, max_bytes=limits.max_request_bytes if connection.inline else None, overlap=limits.overlap)
        windows = plan_windows(planned_as, connection.vision, budget, extra)
        windows = tuple(replace(window, pages=tuple(pages[window.first : window.first + len(window.pages)])) for window in windows)
        requests = _requests_of(connection, material, windows, question, limits, several, spare, told)
        if frame is None:
            before, longest = longest, max((request.question for request in requests), key=len)
            if len(longest) <= len(before):
                break
            continue
        counts = [connection.beside_pictures(request.parts, request.question) or 0 for request in requests]
        more = [count - _told(request) for count, request in zip(counts, requests, strict=True)]
        if max(more) <= frame or connection.max_model_len is None:
            break
        frame = max(more)
    merging = MergeBudget()
    if len(requests) > 1:
        # Before anything is asked: answers that were paid for should not turn out to be too long to merge.
        merging = MergeBudget.of(connection, question, [request.label for request in requests], limits.max_tokens)
    most = limits.max_tokens if merging.most is None else min(limits.max_tokens, merging.most)
    if frame is None:
        requests = [replace(one, window=replace(one.window, max_tokens=min(most, one.window.max_tokens))) for one in requests]
    else:
        requests = [
            replace(request, window=_exactly(request.window, count, connection, most))
            for request, count in zip(requests, counts, strict=True)
        ]
    lists = [request.exact for request in requests if request.exact is not None]
    sent = sent_of(material.sendables, material.policy.mode, material.plain_tokens, material.dpi, connection.vision, lists)
    return RequestPlan(requests, several, merging, sent)


def _spare(connection: Connection, material: Material) -> int | None:
    """Tokens that lists of exact strings may have in all; None without a bound."""
    policy = material.policy
    if policy.exact == "all":
        return None
    pictures = _picture_tokens([one.part for one in material.sendables], connection)
    return min(int(policy.exact_budget * pictures), _below_text(connection, material))


def _below_text(connection: Connection, material: Material) -> int:
    """Tokens that may be added before what is sent costs more than the text would."""
    if material.policy.mode != "auto":
        return _NO_BOUND
    return max(0, material.plain_tokens - sum(page_cost(one.part, connection.vision) for one in material.sendables))


def _kept_free(connection: Connection, material: Material, spare: int | None, several: bool) -> list[int]:
    """Tokens to keep free for the exact strings of each page."""
    kept = []
    for one in material.sendables:
        page, tokens = one.part, 0
        if isinstance(page, Page) and _lists(material):
            if spare is not None:
                tokens = int(material.policy.exact_budget * page_cost(page, connection.vision)) + 1
            elif (page.document, page.number) in material.strings:
                # With a heading of its own: more than its share of a window's list.
                told = exact_list([page], material.strings, material.texts, "", None, connection.tokenizer.count, several=several)
                tokens = told.tokens + 1 if told is not None else 0
        kept.append(tokens)
    return kept


def _lists(material: Material) -> bool:
    """Whether windows may have lists of exact strings."""
    return bool(material.strings) and (material.policy.exact == "all" or material.policy.exact_budget > 0)


def _requests_of(
    connection: Connection,
    material: Material,
    windows: Sequence[Window],
    question: str,
    limits: AskLimits,
    several: bool,
    spare: int | None,
    told: dict[tuple[int, int], ExactList | None],
) -> list[Request]:
    """``told``: lists of exact strings that were made before, by (first page, pages) of their windows."""
    place = {(page.document, page.number): number for number, page in enumerate(material.pages, 1)}
    in_all = _picture_tokens([one.part for one in material.sendables], connection)
    requests = []
    for number, window in enumerate(windows, 1):
        asked = question
        if connection.instructs:
            cite = limits.cite if limits.cite is not None else material.paged and (several or len(windows) > 1)
            part = (number, len(windows)) if len(windows) > 1 else None
            asked = window_question(question, window.pages, several=several, part=part, cite=cite)
        exact = None
        pictures = [page for page in window.pages if isinstance(page, Page)]
        key = (window.first, len(window.pages))
        if key in told:
            exact = told[key]
        elif pictures and _lists(material):
            budget, least = None, 0
            if spare is not None:
                share = min(1.0, _picture_tokens(pictures, connection) / in_all)
                budget, least = int(spare * share), min(LEAST_LIST_TOKENS, int(_below_text(connection, material) * share))
            exact = exact_list(
                pictures, material.strings, material.texts, question, budget, connection.tokenizer.count, several=several, least=least
            )
        told[key] = exact
        parts: tuple[Part, ...] = window.pages if exact is None else (*window.pages, exact)
        first, last = (place[(page.document, page.number)] for page in (window.pages[0], window.pages[-1]))
        requests.append(Request(window, parts, asked, page_label(window.pages, several), first, last, exact))
    return requests


def _picture_tokens(pages: Sequence[PagePart], connection: Connection) -> int:
    return sum(page_cost(page, connection.vision) for page in pages if isinstance(page, Page))


def _told(request: Request) -> int:
    """Of a request's tokens those that windows were planned with beside the frame: texts and list."""
    texts = sum(page.tokens for page in request.window.pages if isinstance(page, PageText))
    return texts + (request.exact.tokens if request.exact is not None else 0)


def _exactly(window: Window, count: int, connection: Connection, max_tokens: int) -> Window:
    """The window with the tokens that were counted for all but its pictures."""
    prompt = count + _picture_tokens(window.pages, connection)
    left = max_tokens if connection.max_model_len is None else min(max_tokens, connection.max_model_len - prompt)
    if left < 1:
        raise ContextLengthError(
            f"The question leaves no room for an answer beside {len(window.pages)} pages in a context of {connection.max_model_len} tokens.",
            hint="Shorten the question, or serve the model with a larger --max-model-len.",
        )
    return replace(window, prompt_tokens=prompt, max_tokens=left)
