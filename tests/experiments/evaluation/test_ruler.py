"""RULER's files: instruction and question stay text, the context between them is drawn, a solved example is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline.errors import InputError
from glyph_pipeline.experiments.evaluation.ruler import RULER
from glyph_pipeline.experiments.evaluation.sample import ON_PAGES, Sample

# In the form of RULER's inputs, in words of our own.
HEAD = "Numbers are hidden in the text that follows."
VT_HEAD = "Follow the variables in the text below."
CWE_HEAD = "Here is a list of words. Keep those in mind that come often."
INPUTS: dict[str, dict[str, Any]] = {
    "niah_single_1": {"input": f"{HEAD}\nGrass grows.\nThe number of weirs is 4711.\nIt rains.\nWhat is the number of weirs?"},
    "vt": {
        "input": f"{VT_HEAD}\n\nVAR AA = 7.\nVAR AB = VAR AA.\nQuestion: Which are 7? Answer: AA AB\n\n"
        f"{VT_HEAD}\n\nNothing new.\nVAR QX = 12345.\nVAR RY = VAR QX.\nQuestion: Which are 12345?",
        "outputs": ["QX", "RY"],
        "answer_prefix": " Answer: they are: ",
    },
    "cwe": {
        "input": f"{CWE_HEAD}\n1. old 2. old 3. new\nQuestion: Which are common? Answer: 1. old\n{CWE_HEAD}\n1. weir 2. ferry 3. weir\nQuestion: Which are common?",
        "outputs": ["weir"],
    },
    "fwe": {
        "input": "Read the code. Find the words that come most often. ... abcdef ... ghijkl abcdef\nQuestion: Which come most often?",
        "outputs": ["abcdef"],
    },
    "qa_1": {
        "input": "Answer in short.\n\nThese are the documents.\n\nDocument 1:\nWeirs\nA weir is old.\n\nDocument 2:\nMills\nA mill is new.\n\nAnswer in short.\n\nQuestion: What is old?",
        "outputs": ["weir", "the weir"],
    },
}


def write(root: Path, task: str, *changes: dict[str, Any]) -> Path:
    folder = root / task
    folder.mkdir(parents=True, exist_ok=True)
    records = [{"index": 0, "outputs": ["4711"], "length": 60, **INPUTS[task.rsplit("/", 1)[-1]], **change} for change in changes or ({},)]
    (folder / "validation.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return folder / "validation.jsonl"


def only(root: Path) -> Sample:
    (sample,) = RULER(root).samples()
    return sample


def test_a_needle_is_drawn_and_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "niah_single_1")
    sample = only(tmp_path)
    assert sample.text == "Grass grows.\nThe number of weirs is 4711.\nIt rains."
    assert sample.question == f"{HEAD}\n\n{ON_PAGES}\n\nWhat is the number of weirs?"
    assert RULER(tmp_path).grade(sample, "It is 4711.") == {"score": 1.0}
    assert RULER(tmp_path).grade(sample, "4712") == {"score": 0.0}


@pytest.mark.parametrize(
    ("task", "text", "question", "half"),
    [
        (
            "vt",
            "Nothing new.\nVAR QX = 12345.\nVAR RY = VAR QX.",
            f"{VT_HEAD}\n\n{ON_PAGES}\n\nQuestion: Which are 12345? Answer: they are:",
            "qx",
        ),
        ("cwe", "1. weir 2. ferry 3. weir", f"{CWE_HEAD}\n\n{ON_PAGES}\n\nQuestion: Which are common?", None),
    ],
)
def test_a_solved_example_is_left_out(task: str, text: str, question: str, half: str | None, tmp_path: Path) -> None:
    write(tmp_path, task)
    sample = only(tmp_path)
    assert (sample.text, sample.question) == (text, question)
    assert sample.about["example left out"] is True
    if half is not None:
        assert RULER(tmp_path).grade(sample, half) == {"score": 0.5}


def test_coded_words_and_documents(tmp_path: Path) -> None:
    write(tmp_path, "fwe")
    write(tmp_path, "qa_1")
    coded, documents = RULER(tmp_path).samples()
    assert coded.text == "... abcdef ... ghijkl abcdef"
    assert coded.question == f"Read the code. Find the words that come most often.\n\n{ON_PAGES}\n\nQuestion: Which come most often?"
    assert documents.text.startswith("Document 1:\nWeirs")
    assert documents.text.endswith("A mill is new.")
    assert documents.question.endswith("Answer in short.\n\nQuestion: What is old?")
    assert RULER(tmp_path).grade(documents, "The weir") == {"score": 1.0}  # one of several is enough


def test_several_lengths(tmp_path: Path) -> None:
    for length in (4096, 8192):
        write(tmp_path, f"synthetic/{length}/data/vt")
    write(tmp_path, "synthetic/4096/data/cwe")
    benchmark = RULER(tmp_path)
    assert list(benchmark.tasks()) == ["cwe", "4096/vt", "8192/vt"]
    assert [sample.task for sample in benchmark.samples(["8192/vt"])] == ["8192/vt"]


def test_no_task_hides_another_of_its_name(tmp_path: Path) -> None:
    for folder in ("a/vt", "a/data/vt", "a/synthetic/vt", "b/vt", "cwe"):
        write(tmp_path / "vt", folder)
    write(tmp_path, "vt")
    benchmark = RULER(tmp_path / "vt")
    assert set(benchmark.tasks()) == {"./vt", "a/vt", "a/data/vt", "a/synthetic/vt", "b/vt", "cwe"}
    assert len(list(benchmark.samples())) == 6


def test_files_prepared_by_glyphs_authors(tmp_path: Path) -> None:
    record = {"task_name": "niah_single_1", "context": "Grass grows.", "question": "What grows?", "outputs": ["grass"]}
    (tmp_path / "prepared.json").write_text(json.dumps([record, record | {"task_name": "qa_2"}]))
    benchmark = RULER(tmp_path)
    assert list(benchmark.tasks()) == ["niah_single_1", "qa_2"]
    first, _ = benchmark.samples()
    assert (first.text, first.question) == ("Grass grows.", "What grows?")
    (tmp_path / "prepared.json").write_text(json.dumps([record, record | {"task_name": "juggling"}]))
    with pytest.raises(InputError, match=r"prepared.json, element 2: the field 'task_name'"):
        list(RULER(tmp_path).samples())


@pytest.mark.parametrize(
    ("task", "change", "words"),
    [
        ("niah_single_1", {"input": "all in one line, as with remove_newline_tab"}, "on lines of their own"),
        ("qa_1", {"input": "Answer.\n\nQuestion: What?"}, "on lines of their own"),
        ("fwe", {"input": "One sentence\nQuestion: What?"}, "on lines of their own"),
        ("vt", {"input": None}, "the field 'input' should be text; it is null"),
        ("vt", {"outputs": ["QX", " "]}, "a list of texts that are not blank"),
        ("vt", {"outputs": [7]}, "the field 'outputs' should be a list of texts"),
    ],
)
def test_a_bad_field_is_named_with_file_and_line(task: str, change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = write(tmp_path, task, {}, change)
    with pytest.raises(InputError) as error:
        list(RULER(tmp_path).samples())
    assert f"{path}, line 2: " in str(error.value)
    assert words in str(error.value)


def test_a_folder_without_its_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of RULER"):
        RULER(tmp_path)
