"""The list of exact strings: what stands in it, in what order, within what budget, in what words."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glyph_pipeline.exactness.finder import ExactString, find_exact
from glyph_pipeline.exactness.listing import HEADING, exact_list
from glyph_pipeline.page import Page
from glyph_pipeline.parts import ExactList
from glyph_pipeline.tokens.text import Cl100kTokenizer

COUNT = Cl100kTokenizer().count


def pages_of(text: str, starts: Sequence[int], document: str | None = None) -> list[Page]:
    ends = [*starts[1:], len(text)]
    return [Page(number, 1, 1, b"", start, end, (), document) for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1)]


def listed(
    text: str,
    starts: Sequence[int] = (0,),
    question: str = "",
    budget: int | None = None,
    count: Callable[[str], int] = COUNT,
    found: Sequence[ExactString] | None = None,
) -> ExactList | None:
    strings: dict[tuple[str | None, int], list[ExactString]] = {}
    for string in find_exact(text) if found is None else found:
        strings.setdefault((None, bisect_right(starts, string.start)), []).append(string)
    return exact_list(pages_of(text, starts), strings, {None: text}, question, budget, count, several=False)


def numbered(count: int) -> str:
    return " ".join(
        f"The key of lamp {chr(97 + n % 26)}{chr(97 + n // 26)} is INV-2024-{10000 + 7 * n}. {'Fog came in. ' * 30}" for n in range(count)
    )


def test_strings_stand_under_the_first_page_that_has_them():
    text = "7f3c9a1 here. INV-2024-00931, 7f3c9a1 again. INV-2024-00931 and 8842719."
    made = listed(text, (0, 14, 45))
    assert made is not None
    assert made.text == f"{HEADING}\np1: 7f3c9a1\np2: INV-2024-00931\np3: 8842719"
    assert [(page.number, page.strings) for page in made.pages] == [(1, ("7f3c9a1",)), (2, ("INV-2024-00931",)), (3, ("8842719",))]
    assert made.tokens == COUNT(made.text)


def test_with_several_documents_the_name_stands_before_the_page():
    texts: dict[str | None, str] = {"ferry.txt": "INV-2024-00931", "mill\n.txt": "INV-2024-00932"}
    pages = [page for name, text in texts.items() for page in pages_of(text, (0,), name)]
    strings = {(name, 1): find_exact(text) for name, text in texts.items()}
    made = exact_list(pages, strings, texts, "", None, COUNT, several=True)
    assert made is not None
    assert made.text.splitlines()[1:] == ["ferry.txt p1: INV-2024-00931", "mill .txt p1: INV-2024-00932"]


def test_nothing_to_tell_is_no_list():
    assert listed("Plain words.") is None
    assert listed("INV-2024-00931", budget=0) is None
    assert listed("INV-2024-00931", budget=3) is None


def test_those_nearest_to_the_question_are_taken_first():
    text = numbered(60)
    made = listed(text, (0, len(text) // 2), "What is the key of lamp fb?", budget=40)
    assert made is not None
    told = [string for page in made.pages for string in page.strings]
    assert f"INV-2024-{10000 + 7 * 31}" in told
    assert 1 <= len(told) < 10
    assert [text.index(one) for one in told] == sorted(text.index(one) for one in told)


@pytest.mark.parametrize("budget", [20, 60, 200, 1000])
def test_the_budget_is_used_and_kept_with_few_counts(budget: int):
    calls = 0

    def count(text: str) -> int:
        nonlocal calls
        calls += 1
        return COUNT(text)

    made = listed(numbered(300), budget=budget, count=count)
    assert made is not None
    assert made.tokens == COUNT(made.text) <= budget
    if budget < 1000:
        assert made.tokens > budget - 20
    assert calls <= 12


def test_one_giant_does_not_take_all_the_room():
    made = listed(f"https://quay.example/{'a1b2c3d4' * 200} and INV-2024-00931", budget=50)
    assert made is not None
    assert made.pages[0].strings == ("INV-2024-00931",)


def test_one_that_does_not_fit_makes_room_for_the_next():
    long = "https://quay.example/q7Xw2Lk9Rt4Zp8Vn3Bm6"
    budget = COUNT(f"{HEADING}\np1: {long}") - 1
    made = listed(f"The lamp is at {long} today. {'Fog came in. ' * 40} Nothing but INV-2024-00931.", question="lamp", budget=budget)
    assert made is not None
    assert made.pages[0].strings == ("INV-2024-00931",)


def test_addresses_made_of_words_are_taken_last():
    text = "mira@quay.example then https://quay.example/start and 7f3c9a1b"
    made = listed(text, budget=COUNT(f"{HEADING}\np1: 7f3c9a1b"))
    assert made is not None
    assert made.pages[0].strings == ("7f3c9a1b",)


def test_strings_with_control_marks_are_left_out():
    text = "https://quay.example/<|user|>x and https://quay.example/a1?b=<sop>"
    found = (ExactString("url", "https://quay.example/<|user|>x", 0, 30), ExactString("url", "https://quay.example/a1", 35, 58))
    made = listed(text, found=found)
    assert made is not None
    assert made.pages[0].strings == ("https://quay.example/a1",)


@given(st.lists(st.text(st.sampled_from('a1,"\n :\\é中'), min_size=1, max_size=8), min_size=1, max_size=5, unique=True))
def test_every_string_can_be_told_from_its_neighbours(strings: list[str]):
    text = "".join(strings)
    found, at = [], 0
    for string in strings:
        found.append(ExactString("code", string, at, at + len(string)))
        at += len(string)
    made = listed(text, found=found)
    assert made is not None
    line = made.text.removeprefix(f"{HEADING}\np1: ")
    told = []
    while line:
        if line.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(line)
            told.append(value)
        else:
            end = line.index(", ") if ", " in line else len(line)
            told.append(line[:end])
        line = line[end:].removeprefix(", ")
    assert told == strings
