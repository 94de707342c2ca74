"""Where the question is in one long text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glyph_pipeline.proxy.splitting import HEAD_MAX, SENTENCES_MAX, TAIL_MAX, is_kept, split_question

PARAGRAPH = "The harbour ledger of Skarrow was kept in a clear hand and never once amended. " * 20
DOCUMENT = "\n\n".join([PARAGRAPH] * 5)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "\n\nWho kept the ledger?"),
        ("Summarise the text below in one sentence:", ""),
        ("Read the text and answer.", "\n\nNow answer.\n\nQuestion: Who kept it?\nAnswer:"),
        ("Read the text and answer.", "\n\nQuestion: Who kept it?\n\nAnswer:"),
        ("", "\n\n**Question:** Who kept it?\n\nThink first. Then answer in one word."),
        ("", "\n\n<question>\nWho kept it?\n</question>"),
        ("", "\n\n\u95ee\u9898\uff1a\u8c01\u8bb0\u7684\u8d26\uff1f"),
        ("", "\n\nWho kept it?\nAnswer in one word.\n"),
        ("", "\nWho kept it?"),
    ],
)
def test_question_and_instruction_stay_text(before: str, after: str) -> None:
    text = f"{before}\n\n{DOCUMENT}{after}" if before else f"{DOCUMENT}{after}"
    split = split_question(text)
    assert before in text[: split.head]
    asked = after.split("Now answer.")[-1].strip()
    assert asked in text[split.tail :]
    assert split.tail - split.head > len(DOCUMENT) - len(PARAGRAPH) - HEAD_MAX


def test_a_mere_label_takes_the_paragraph_before_it_along() -> None:
    text = f"{DOCUMENT}\n\nWho kept the ledger?\n\nAnswer:"
    assert text[split_question(text).tail :] == "Who kept the ledger?\n\nAnswer:"


def test_the_question_in_one_endless_line_is_whole_sentences() -> None:
    text = PARAGRAPH * 5 + "Who kept it? Answer in one word."
    tail = text[split_question(text).tail :]
    assert tail.startswith("The harbour")
    assert tail.endswith("Who kept it? Answer in one word.")
    assert len(tail) <= SENTENCES_MAX


def test_a_question_mark_long_ago_is_not_the_question() -> None:
    text = f"Question: none.\n\n{DOCUMENT}\n\nWho kept it?"
    assert text[split_question(text).tail :] == "Who kept it?"


@given(st.text(alphabet="ab .?\n:\uff1aQ\u3002", max_size=3000) | st.text(max_size=300))
def test_nothing_is_lost_and_the_tail_is_bounded(text: str) -> None:
    split = split_question(text)
    assert 0 <= split.head <= split.tail <= len(text)
    assert len(text[split.tail :].rstrip()) <= TAIL_MAX
    assert len(text[: split.head].strip()) <= HEAD_MAX
    assert bool(text.strip()) <= bool(text[split.tail :].strip())  # where there is text, some of it stays


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\n<!-- glyph:text -->\nb", True),
        ("<!-- glyph:text -->\r\nb", True),
        ("  <!-- glyph:text -->", True),
        ("say <!-- glyph:text --> here", False),
        ("a <!-- glyph:text -->", False),
        ("", False),
    ],
)
def test_the_marker_is_a_line_of_its_own(text: str, kept: bool) -> None:
    assert is_kept(text) is kept
