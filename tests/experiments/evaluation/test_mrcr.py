"""MRCR's files: the conversation is drawn, the last message is the question, the solved examples are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from glyph_pipeline.errors import InputError
from glyph_pipeline.experiments.evaluation.mrcr import MRCR

EXAMPLES = {"role": "user", "content": "This is how it goes: SOLVED EXAMPLE"}
TALK = [
    {"role": "user", "content": "write a poem about weirs"},
    {"role": "assistant", "content": "Water falls,\nand falls."},
    {"role": "user", "content": "write a poem about weirs"},
    {"role": "assistant", "content": "The weir is old."},
]
ASKED = {"role": "user", "content": "Prepend xK9 to the 2nd poem about weirs."}


def row(*, messages: list[dict[str, str]] | None = None, **change: Any) -> dict[str, Any]:
    prompt = json.dumps([EXAMPLES, *TALK, ASKED] if messages is None else messages)
    whole = {
        "prompt": prompt,
        "answer": "xK9The weir is old.",
        "random_string_to_prepend": "xK9",
        "n_needles": 2,
        "desired_msg_index": 3,
        "total_messages": 6,
        "n_chars": 100,
    }
    return whole | change


def parquet(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def test_a_conversation_is_drawn_turn_by_turn(tmp_path: Path) -> None:
    parquet(tmp_path / "2needle" / "2needle_0.parquet", *[row() for _ in range(6)])
    parquet(tmp_path / "8needle" / "8needle_0.parquet", row(n_needles=8))
    benchmark = MRCR(tmp_path)
    assert benchmark.tasks() == ["2needle", "8needle"]
    samples = list(benchmark.samples())
    assert len(samples) == 7
    assert [sample.name for sample in benchmark.samples(["8needle"])] == ["8needle/8needle_0.parquet 1"]
    sample = samples[0]
    assert (
        sample.text
        == "User: write a poem about weirs\nAssistant: Water falls,\nand falls.\nUser: write a poem about weirs\nAssistant: The weir is old."
    )
    assert sample.question == ASKED["content"]
    assert sample.about["desired_msg_index"] == 3
    assert benchmark.grade(sample, "xK9The weir is old.") == {"score": 1.0, "prefixed": True}
    assert benchmark.grade(sample, "The weir is old.") == {"score": 0.0, "prefixed": False}
    assert 0 < benchmark.grade(sample, "xK9Water falls.")["score"] < 1


def test_a_prompt_without_examples_and_one_prepared_by_glyphs_authors(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    prepared = {"context": "User: a\nAssistant: b", "question": "Which?", "answer": "xK9b", "random_string_to_prepend": "xK9"}
    lines = [row(messages=[*TALK, ASKED]), prepared | {"unique_id": "4needle_0k_8k_7"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    plain, made = MRCR(tmp_path).samples()
    assert plain.text.startswith("User: write a poem")
    assert (made.task, made.text, made.question) == ("4needle", "User: a\nAssistant: b", "Which?")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": "{"}, "the field 'prompt' should be a JSON list of messages"),
        ({"prompt": json.dumps([{"role": "robot", "content": "x"}] * 3)}, "with role (user, assistant) and content"),
        ({"prompt": json.dumps(TALK)}, "the last one the user's"),
        ({"answer": "The weir is old."}, "the field 'answer' should be a text that begins with random_string_to_prepend"),
        ({"random_string_to_prepend": None}, "the field 'random_string_to_prepend' should be text"),
    ],
)
def test_a_bad_field_is_named_with_file_and_row(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", row(), row(**change))
    with pytest.raises(InputError) as error:
        list(MRCR(tmp_path).samples())
    assert f"{path}, row 2: " in str(error.value)
    assert words in str(error.value)


def test_files_that_are_none_of_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of MRCR"):
        MRCR(tmp_path)
    path = parquet(tmp_path / "a.parquet", {"prompt": "[]", "answer": "x"})
    with pytest.raises(InputError, match="no column 'random_string_to_prepend'"):
        list(MRCR(tmp_path).samples())
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        list(MRCR(tmp_path).samples())
    with pytest.raises(InputError, match="the field 'n_needles' should be a whole number"):
        list(MRCR(parquet(tmp_path / "b" / "a.parquet", row(n_needles="two")).parent).samples())


def test_tasks_are_told_without_reading_the_conversations(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", {"n_needles": 2}, {"n_needles": 4})
    assert MRCR(tmp_path).tasks() == ["2needle", "4needle"]


def test_a_parquet_file_that_was_damaged_on_its_way(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", *[row(answer=f"xK9 {number}" + "old " * 100) for number in range(50)])
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:40] + b"\xff" * 4000 + whole[4040:], b"", whole.replace(b"old ", b"o\xffd ")):
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a.parquet: not a readable Parquet file \(.*Download") as error:
            list(MRCR(tmp_path).samples())
        assert "\n" not in str(error.value)
    parquet(path, row())
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).slice(0, 0), path)
    with pytest.raises(InputError, match=r"a.parquet: there is nothing in it"):
        list(MRCR(tmp_path).samples())
