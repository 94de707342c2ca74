"""Planning: the exact cost of requests, as few of them as possible, alike, and cut between documents where that is possible."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glyph_pipeline import Page
from glyph_pipeline.errors import ContextLengthError
from glyph_pipeline.planning import MIN_ANSWER_TOKENS, Budget, Window, body_bytes, page_cost, plan_windows
from glyph_pipeline.tokens.vision import GLM_4V

PAGE = Page(1, 595, 842, b"", 0, 10, ("x",))  # 630 tokens and 2 marks
SMALL = replace(PAGE, width=280, height=280)  # 100 tokens and 2 marks


def document(name: str, pages: int, page: Page = PAGE) -> list[Page]:
    return [replace(page, number=number, document=name) for number in range(1, pages + 1)]


def spans(windows: tuple[Window, ...]) -> list[tuple[int, int]]:
    return [(window.first, window.first + len(window.pages)) for window in windows]


def one(pages: list[Page], budget: Budget) -> Window:
    (window,) = plan_windows(pages, GLM_4V, budget)
    return window


def test_the_cost_of_pages_and_question() -> None:
    window = one(document("a", 3), Budget(131072, 25, 8192))
    assert (len(window.pages), window.prompt_tokens, window.max_tokens) == (3, 25 + 3 * 632, 8192)


def test_unknown_context_and_unknown_frame() -> None:
    window = one(document("a", 3), Budget(None, None, 8192))
    assert (window.prompt_tokens, window.max_tokens) == (None, 8192)


def test_the_answer_shrinks_to_what_the_context_leaves() -> None:
    assert one([PAGE], Budget(1000, 25, 8192)).max_tokens == 1000 - 632 - 25


def test_the_last_token_that_fits() -> None:
    limit = 632 + 25 + MIN_ANSWER_TOKENS
    assert one([PAGE], Budget(limit, 25, 8192)).max_tokens == MIN_ANSWER_TOKENS
    with pytest.raises(ContextLengthError, match=r"A page takes 632 tokens and the question 25; the model's context is 720 tokens"):
        one([PAGE], Budget(limit - 1, 25, 8192))
    # Who asks for less than that minimum gets it as long as it fits.
    assert one([PAGE], Budget(632 + 25 + 5, 25, 5)).max_tokens == 5


def test_room_for_the_answer_is_kept_but_no_more_than_a_quarter() -> None:
    # 16384 tokens, of which 2,000 are asked for: 14,359 are left for pages of 632.
    windows = plan_windows(document("a", 44), GLM_4V, Budget(16384, 25, 2000))
    assert [len(window.pages) for window in windows] == [22, 22]
    # Of 8,192 asked for 4,096 are kept: 12,263 tokens for pages, 19 of them.
    windows = plan_windows(document("a", 38), GLM_4V, Budget(16384, 25, 8192))
    assert [len(window.pages) for window in windows] == [19, 19]
    assert all(window.prompt_tokens is not None and window.prompt_tokens + window.max_tokens <= 16384 for window in windows)


def test_windows_are_alike() -> None:
    windows = plan_windows(document("a", 41), GLM_4V, Budget(16384, 25, 4096))
    assert sorted(len(window.pages) for window in windows) == [13, 14, 14]


def test_documents_are_kept_whole_where_that_takes_no_more_requests() -> None:
    pages = [page for name, count in (("a", 12), ("b", 3), ("c", 17), ("d", 8)) for page in document(name, count)]
    assert spans(plan_windows(pages, GLM_4V, Budget(16384, 25, 4096))) == [(0, 15), (15, 32), (32, 40)]
    # Without room for that in two requests, one document is cut.
    pages = [page for name, count in (("a", 13), ("b", 12), ("c", 13)) for page in document(name, count)]
    assert spans(plan_windows(pages, GLM_4V, Budget(16384, 25, 4096))) == [(0, 19), (19, 38)]


def test_two_documents_of_one_name_are_two() -> None:
    """Their page numbers begin anew."""
    pages = document("a", 10) + document("a", 11)
    assert spans(plan_windows(pages, GLM_4V, Budget(16384, 25, 4096, overlap=3))) == [(0, 10), (10, 21)]


def test_windows_overlap_where_a_document_is_cut_and_nowhere_else() -> None:
    pages = document("a", 30) + document("b", 15)
    windows = plan_windows(pages, GLM_4V, Budget(16384, 25, 4096, overlap=2))
    assert spans(windows) == [(0, 16), (14, 30), (30, 45)]
    assert [window.repeated for window in windows] == [0, 2, 0]
    with pytest.raises(ContextLengthError, match="overlap of 19 pages leaves no room"):
        plan_windows(pages, GLM_4V, Budget(16384, 25, 4096, overlap=19))


def test_a_request_is_kept_under_a_size() -> None:
    pages = [replace(page, png=bytes(3000)) for page in document("a", 10)]
    assert body_bytes(pages[0]) == 4080
    windows = plan_windows(pages, GLM_4V, Budget(None, None, 8192, max_bytes=3 * 4080))
    assert sorted(len(window.pages) for window in windows) == [2, 2, 3, 3]
    with pytest.raises(ContextLengthError, match="Page 1 takes 4,080 bytes of a request, which may have 4,000"):
        plan_windows(pages, GLM_4V, Budget(None, None, 8192, max_bytes=4000))


@settings(max_examples=150, deadline=None)
@given(
    documents=st.lists(
        st.lists(st.sampled_from([(280, 280), (595, 842), (595, 84), (300, 842)]), min_size=1, max_size=12), min_size=1, max_size=8
    ),
    context=st.integers(1600, 9000),
    frame=st.integers(1, 100),
    answer=st.integers(1, 3000),
    overlap=st.integers(0, 1),
)
def test_every_plan_is_whole_within_the_context_and_short(
    documents: list[list[tuple[int, int]]], context: int, frame: int, answer: int, overlap: int
) -> None:
    pages = [
        Page(number, width, height, b"", 0, 1, (), f"{name}")
        for name, sizes in enumerate(documents)
        for number, (width, height) in enumerate(sizes, 1)
    ]
    budget = Budget(context, frame, answer, overlap=overlap)
    try:
        windows = plan_windows(pages, GLM_4V, budget)
    except ContextLengthError as e:
        assert overlap
        assert "overlap" in str(e)  # noqa: PT017
        return
    assert [page for window in windows for page in window.pages[window.repeated :]] == pages
    least = budget.answer_tokens(max(page_cost(page, GLM_4V) for page in pages))
    for window in windows:
        assert window.pages == tuple(pages[window.first : window.first + len(window.pages)])
        assert window.prompt_tokens == frame + sum(page_cost(page, GLM_4V) for page in window.pages)
        assert min(answer, least) <= window.max_tokens <= min(answer, context - window.prompt_tokens)
        begins = [index for index in range(window.first, window.first + window.repeated + 1) if pages[index].number == 1]
        assert not window.repeated or begins in ([], [window.first])  # what is repeated is of the document that goes on
    if not overlap:
        assert len(windows) == fewest([page_cost(page, GLM_4V) for page in pages], context - frame - least)


def fewest(costs: list[int], room: int) -> int:
    """Windows that a greedy packing needs: no packing in order needs fewer."""
    windows, left = 0, 0
    for cost in costs:
        if cost > left:
            windows, left = windows + 1, room
        left -= cost
    return windows


def test_ten_thousand_pages_are_planned() -> None:
    windows = plan_windows(document("a", 10_000, SMALL), GLM_4V, Budget(131072, 100, 8192))
    sizes = [len(window.pages) for window in windows]
    assert (len(sizes), sum(sizes)) == (9, 10_000)
    assert max(sizes) - min(sizes) <= 1
