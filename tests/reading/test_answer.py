"""Reasoning and answer told apart, whole and in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glyph_pipeline.reading.answer import AnswerSplitter
from glyph_pipeline.reading.reader import AnswerDelta, ReasoningDelta

CASES = [
    # content, reasoning sent apart, expected reasoning, expected answer
    ("<think>Page 2 says so.</think><answer>42</answer>", None, "Page 2 says so.", "42"),
    ("<think>\nPage 2 says so.\n</think>\n\n42\n", None, "Page 2 says so.", "42"),
    ("Page 2 says so.</think><answer>42</answer>", None, "Page 2 says so.", "42"),
    ("Page 2 says so.</think>42", None, "Page 2 says so.", "42"),
    ("<think>Page 2 is long and I was cut", None, "Page 2 is long and I was cut", ""),
    ("<think>Seen.</think><answer>Forty-", None, "Seen.", "Forty-"),
    ("<answer>42</answer>", None, "", "42"),
    ("Seen on page 2. <answer>42</answer>", None, "Seen on page 2.", "42"),
    ("It is <|begin_of_box|>42<|end_of_box|>.", None, "", "It is 42."),
    ("<think>a</think><|begin_of_box|>42<|end_of_box|><|user|>", None, "a", "42"),
    ("42<|endoftext|>", None, "", "42"),
    ("Only an answer, a < b and <b> in it.", None, "", "Only an answer, a < b and <b> in it."),
    ("<answer>42", "Page 2 says so.", "Page 2 says so.", "42"),
    ("42", "Page 2 says so.", "Page 2 says so.", "42"),
    (None, "All of it is reasoning", "All of it is reasoning", ""),
    ("", "<think>All of it</think>", "All of it", ""),
    (None, None, "", ""),
    ("</think>42", None, "", "42"),
    ("<think></think>", None, "", ""),
]


def split_answer(content: str | None, reasoning: str | None = None, truncated: bool = False) -> tuple[str, str]:
    splitter = AnswerSplitter()
    splitter.feed(reasoning=reasoning)
    splitter.feed(content=content)
    splitter.finish(truncated)
    return splitter.reasoning, splitter.text


@pytest.mark.parametrize(
    ("content", "sent", "reasoning", "answer"),
    [
        ("The opening tag stood in the prompt, and I was cut", None, "The opening tag stood in the prompt, and I was cut", ""),
        ("Seen.</think>Forty-", None, "Seen.", "Forty-"),
        ("<answer>Forty-", None, "", "Forty-"),
        ("Forty-", "Seen.", "Seen.", "Forty-"),
        ("<think>cut", None, "cut", ""),
    ],
)
def test_truncated(content: str, sent: str | None, reasoning: str, answer: str) -> None:
    assert split_answer(content, sent, truncated=True) == (reasoning, answer)


@pytest.mark.parametrize(("content", "sent", "reasoning", "answer"), CASES)
def test_whole(content: str | None, sent: str | None, reasoning: str, answer: str) -> None:
    assert split_answer(content, sent) == (reasoning, answer)


@given(case=st.sampled_from(CASES), data=st.data())
def test_pieces_of_any_size_give_the_same(case: tuple[str | None, str | None, str, str], data: st.DataObject) -> None:
    content, sent, reasoning, answer = case
    splitter = AnswerSplitter()
    events = splitter.feed(reasoning=sent)
    rest = content or ""
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        events += splitter.feed(content=rest[:size])
        rest = rest[size:]
    events += splitter.finish()
    assert (splitter.reasoning, splitter.text) == (reasoning, answer)
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)).rstrip() == reasoning
    assert "".join(event.text for event in events if isinstance(event, AnswerDelta)).rstrip() == answer


def test_an_answer_is_not_held_back_longer_than_needed() -> None:
    splitter = AnswerSplitter()
    assert splitter.feed(content="<think>Look") == [ReasoningDelta("Look")]
    assert splitter.feed(content="ing</thi") == [ReasoningDelta("ing")]
    assert splitter.feed(content="nk>4") == [AnswerDelta("4")]
    assert splitter.feed(content="2 <") == [AnswerDelta("2 ")]
    assert splitter.feed(content=" 43") == [AnswerDelta("< 43")]


@given(st.text(alphabet="<>/|_thinkanswerbox ", max_size=60))
def test_no_character_of_untagged_text_is_lost(text: str) -> None:
    if any(tag in text for tag in ("<think>", "</think>", "<answer>", "</answer>", "<|")):
        return
    assert split_answer(text) == ("", text.strip())
