"""Questions with known answers: when an answer holds the right one, and what is wrong with a file of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from glyph_pipeline import Document
from glyph_pipeline.errors import InputError, UsageError
from glyph_pipeline.experiments.questions import Question, planted, read_questions
from tests.support.command import SAMPLE


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [
        ("1933", "It was in 1933.", True),
        ("1933", "Part 19331 of it", False),
        ("19", "in 1933, then 19", True),
        ("brooms and  hot SAND", "With Brooms and hot\nsand, he said", True),
        ("broom", "brooms", False),
        ("1933", "一九年1933年", True),
        ("ﬁre", "a fire", True),
        ("C++", "written in c++.", True),
        ("x", "", False),
    ],
)
def test_what_is_right(answer: str, text: str, right: bool) -> None:
    assert Question("?", answer).is_answered_by(text) is right


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('\ufeff{"question": "When?", "answer": "1933"}\n\n{"answer": "x", "question": "Who?"}\n', "utf-8")
    assert read_questions(path) == [Question("When?", "1933"), Question("Who?", "x")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no questions"),
        ("{", "line 1: not JSON"),
        ('{"question": "a", "answer": "b"}\n[1]', "line 2: it is no object"),
        ('{"question": "a"}', "its keys are question; expected question and answer"),
        ('{"question": "a", "answer": 3}', "answer = 3 is not a text"),
        ('{"question": " ", "answer": "b"}', "question = ' '"),
    ],
)
def test_mistakes(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_questions(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_questions(tmp_path / "nowhere")
    (tmp_path / "latin").write_bytes('{"question": "é"}'.encode("latin-1"))
    with pytest.raises(InputError, match="not valid UTF-8"):
        read_questions(tmp_path / "latin")


def test_planted_facts_stand_once_in_the_text_they_are_asked_of() -> None:
    document = Document.read(SAMPLE)
    tasks = planted([document], 6, 1)
    places = [task.documents[0].text.index(task.question.answer) / len(task.documents[0].text) for task in tasks]
    assert places == sorted(places)
    assert places[0] < 0.05 < 0.95 < places[-1]
    for task in tasks:
        assert document.text.count(task.question.answer) == 0
        assert task.question.is_answered_by(f"It is {task.question.answer}.")
        assert not task.question.is_answered_by("I don't know.")
    assert planted([document], 6, 1) == tasks
    assert not {task.question.answer for task in planted([document], 6, 2)} >= {task.question.answer for task in tasks}
    with pytest.raises(UsageError, match="too short"):
        planted([Document("Just a line.")], 1, 1)
