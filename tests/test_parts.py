"""What a chat message holds: pictures and texts in order, texts side by side in one piece, the question last."""

from __future__ import annotations

from glyph_pipeline import Page
from glyph_pipeline.parts import ExactList, ExactStrings, PageText, content

FIRST = Page(1, 28, 28, b"1", 0, 10, ("x",))
SECOND = Page(2, 28, 28, b"2", 10, 20, ("x",))
THIRD = PageText(3, None, 20, 26, "Rope. ", 2)
FOURTH = PageText(4, None, 26, 31, "Tide.", 2)
OTHER = PageText(1, "mill.txt", 0, 5, "Flour", 1, "=== mill.txt ===\n")
LIST = ExactList((ExactStrings(None, 1, ("A7-X",)),), "Exact spellings on these pages:\np1: A7-X", 9)


def test_pages_alone_stand_before_the_question() -> None:
    assert content([FIRST, SECOND], "When?") == [FIRST, SECOND, "When?"]


def test_texts_of_one_document_go_on_where_the_one_before_ended() -> None:
    assert content([THIRD, FOURTH], "When?") == ["Rope. Tide.\n\nWhen?"]
    assert content([FOURTH, THIRD], "When?") == ["Tide.\n\nRope. \n\nWhen?"]


def test_pictures_and_texts_keep_their_order() -> None:
    assert content([FIRST, THIRD, SECOND, OTHER], "When?") == [FIRST, "Rope. ", SECOND, "=== mill.txt ===\nFlour\n\nWhen?"]


def test_another_document_and_the_list_are_set_off() -> None:
    assert content([THIRD, OTHER, LIST], "When?") == [
        "Rope. \n\n=== mill.txt ===\nFlour\n\nExact spellings on these pages:\np1: A7-X\n\nWhen?"
    ]
    assert content([FIRST, LIST], "When?") == [FIRST, "Exact spellings on these pages:\np1: A7-X\n\nWhen?"]


def test_a_question_alone() -> None:
    assert content([], "When?") == ["When?"]
