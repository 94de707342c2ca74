"""Sentences, passages and their ranking, on text alone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from glyph_pipeline.reading import passages as rooms
from glyph_pipeline.reading.passages import Passage, Sentence, TextLine, passages, rank, sentences


def lines(*texts: str, page: int = 1, document: str | None = None) -> list[TextLine]:
    return [TextLine(page, document, text) for text in texts]


def texts(parts: list[Sentence]) -> list[str]:
    return [part.text for part in parts]


def passage(text: str, at: int = 0) -> Passage:
    return Passage(1, None, text, at, at + 1)


def test_sentences_run_over_lines_and_pages_and_keep_the_page_they_begin_on():
    parts = sentences([*lines("The lamp was lit. Then the", "wind"), *lines("rose. Nobody slept.", page=2)])
    assert [(part.page, part.text) for part in parts] == [(1, "The lamp was lit."), (1, "Then the wind rose."), (2, "Nobody slept.")]
    assert [part.opens for part in parts] == [True, False, False]


@pytest.mark.parametrize(
    "text",
    [
        "A plan signed H. V. Abergast came back.",
        "He saw Mrs. Abergast and Dr. Voss at No. 9 that day.",
        "It cost £3,460.50 in all.",
        "The ship (cf. Fig. 3) sank.",
        "a line without an end",
    ],
)
def test_abbreviations_and_numbers_end_no_sentence(text: str):
    assert texts(sentences(lines(text))) == [text]


def test_quotation_marks_and_brackets_stay_with_their_sentence():
    assert texts(sentences(lines('He said "No." She left! (So did I.) “Why?” Ask.'))) == [
        'He said "No."',
        "She left!",
        "(So did I.)",
        "“Why?”",
        "Ask.",
    ]


def test_no_sentence_and_no_passage_runs_over_documents_or_paragraphs():
    parts = sentences([TextLine(1, "a", "One ends nowhere"), TextLine(2, "b", "Two"), TextLine(2, "b", "Three", set_off=True)])
    assert [(part.document, part.text, part.opens) for part in parts] == [
        ("a", "One ends nowhere", True),
        ("b", "Two", True),
        ("b", "Three", True),
    ]
    assert [found.text for found in passages(parts)] == ["One ends nowhere", "Two", "Three"]


@pytest.mark.parametrize("mark", [r"\n", r"\n \n", r"\n\n", r"\n (n", r"(n"])
def test_a_drawn_newline_mark_parts_paragraphs_and_is_not_quoted(mark: str):
    parts = sentences(lines(f"A title {mark} The text", f"begins. {mark}", "It goes on."))
    assert [(part.text, part.opens) for part in parts] == [("A title", True), ("The text begins.", True), ("It goes on.", True)]


def test_backslashes_within_words_are_text():
    assert texts(sentences(lines(r"It is under C:\new\notes there."))) == [r"It is under C:\new\notes there."]


def test_hyphenated_words_and_chinese_join_without_a_space():
    assert texts(sentences(lines("a twenty-", "six foot dome - and", "more"))) == ["a twenty-six foot dome - and more"]
    assert texts(sentences(lines("灯塔建于一八七", "零年。它很高。"))) == ["灯塔建于一八七零年。", "它很高。"]


@pytest.mark.parametrize("filler", ["word ", "x"])
def test_endless_sentences_are_ended(filler: str):
    text = (filler * 2000).strip()
    parts = texts(sentences(lines(text)))
    assert max(map(len, parts)) <= 1.5 * rooms.LONGEST
    assert (" " if filler == "word " else "").join(parts) == text


def test_passages_overlap_and_cover_everything():
    parts = sentences(lines("A one. B two. C three. D four. E five. F is a longer sentence. G."))
    found = passages(parts, 15)
    assert [(one.first, one.last, one.text) for one in found] == [
        (0, 2, "A one. B two."),
        (1, 3, "B two. C three."),
        (3, 5, "D four. E five."),
        (5, 6, "F is a longer sentence."),
        (6, 7, "G."),
    ]
    assert [one.text for one in passages(parts)] == ["A one. B two. C three. D four. E five. F is a longer sentence. G."]
    assert passages([]) == []


def test_chinese_passages_hold_a_third_of_the_characters():
    parts = sentences(lines("灯塔建于一八七零年。" * 40))
    assert {len(one.text) for one in passages(parts)} <= set(range(150, 201))


def test_the_best_passage_comes_first_and_quotes_share_no_sentence():
    found = passages(
        sentences(lines("The dome is copper. The cook broke ice. A ferret slept. Rain fell. The mayor wept. Nobody paid.")), 30
    )
    hits = rank(found, "Where did the ferret sleep when the rain was falling?")
    assert hits[0].passage.text == "A ferret slept. Rain fell."
    assert all(earlier.score >= later.score > 0 for earlier, later in pairwise(hits))
    spans = sorted((hit.passage.first, hit.passage.last) for hit in hits)
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))


def test_no_more_than_asked_for():
    assert len(rank([passage(f"A lamp, the {number}th.", number) for number in range(9)], "lamp", best=2)) == 2


def test_a_misread_letter_does_not_hide_a_name():
    candidates = [passage("The mayor wept.", 0), passage("Tobias Merriweathcr built it.", 1)]
    assert [hit.passage.first for hit in rank(candidates, "What did Merriweather build?")] == [1]


@pytest.mark.parametrize("question", ["zeppelin", "What is it?", "", "1999"])
def test_nothing_in_common_gives_nothing(question: str):
    assert rank([passage("The dome is copper since 1998."), passage("Rain.", 1)], question) == []


def test_no_text_gives_nothing():
    assert rank([], "dome") == []
    assert rank([passage("?!")], "dome") == []


def test_chinese_is_found():
    candidates = [passage("灯塔建于一八七零年。", 0), passage("镜片来自艾兴罗德。", 1)]
    assert [hit.passage.first for hit in rank(candidates, "镜片是从哪里来的？")] == [1]
