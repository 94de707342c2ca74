"""LongBench's files: what is drawn, what is asked, by which metric it is graded; and what is said of files that are not like that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline.errors import InputError, UsageError
from glyph_pipeline.experiments.evaluation.longbench import DATA_SETS, LongBench
from glyph_pipeline.experiments.evaluation.sample import ON_PAGES, Sample, Selection
from glyph_pipeline.tokens.text import Cl100kTokenizer

RECORD: dict[str, Any] = {
    "input": "Who kept it?",
    "context": "The lighthouse of Skarrow.\nIts keeper was Odile.",
    "answers": ["Odile", "the woman Odile"],
    "length": 8,
    "dataset": "hotpotqa",
    "language": "en",
    "all_classes": None,
    "_id": "a1",
}


def write(folder: Path, name: str, *records: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def only(benchmark: LongBench) -> Sample:
    (sample,) = benchmark.samples()
    return sample


def test_the_context_is_drawn_and_the_question_stays_text(tmp_path: Path) -> None:
    write(tmp_path, "hotpotqa", RECORD)
    benchmark = LongBench(tmp_path)
    sample = only(benchmark)
    assert (sample.task, sample.name, sample.text) == ("hotpotqa", "1 a1", RECORD["context"])
    assert "Who kept it?" in sample.question
    assert "Skarrow" not in sample.question
    assert (sample.about["instruction"], sample.about["metric"]) == ("ours", "word F1")
    assert benchmark.grade(sample, "odile.") == {"score": 1.0}
    assert benchmark.grade(sample, "The woman Odile") == {"score": 1.0}
    assert benchmark.grade(sample, "Nobody") == {"score": 0.0}


@pytest.mark.parametrize("where", ["", "config"])
def test_instructions_of_the_benchmark_are_split_at_the_context(where: str, tmp_path: Path) -> None:
    write(tmp_path / "data", "hotpotqa", RECORD | {"input": "Is {context} a word?"})
    (tmp_path / where).mkdir(exist_ok=True)
    (tmp_path / where / "dataset2prompt.json").write_text(json.dumps({"hotpotqa": "Read.\n\n{context}\n\nQ: {input}\nA:"}))
    sample = only(LongBench(tmp_path))
    assert sample.question == f"Read.\n\n{ON_PAGES}\n\nQ: Is {{context}} a word?\nA:"
    assert sample.about["instruction"] == "dataset2prompt.json"
    (tmp_path / where / "dataset2vlmprompt.json").write_text(json.dumps({"hotpotqa": "It is in the pictures. {input}"}))
    sample = only(LongBench(tmp_path))
    assert (sample.question, sample.about["instruction"]) == ("It is in the pictures. Is {context} a word?", "dataset2vlmprompt.json")


def test_every_data_set_has_a_metric_and_an_instruction(tmp_path: Path) -> None:
    right = {"passage_count": "7", "passage_retrieval_en": "Paragraph 7", "passage_retrieval_zh": "段落7", "lcc": "x = 1", "lsht": "体育"}
    for name in DATA_SETS:
        write(tmp_path, name, RECORD | {"answers": [right.get(name, "Odile")], "all_classes": ["Odile", "体育", "Nobody"]})
    benchmark = LongBench(tmp_path)
    samples = list(benchmark.samples())
    assert [sample.task for sample in samples] == list(DATA_SETS) == list(benchmark.tasks())
    for sample in samples:
        assert benchmark.grade(sample, right.get(sample.task, "Odile"))["score"] == pytest.approx(1.0)
        assert benchmark.grade(sample, "8")["score"] < 0.3
        if "input" in DATA_SETS[sample.task].instruction:
            assert "Who kept it?" in sample.question


def test_of_few_shot_answers_only_the_first_line_counts(tmp_path: Path) -> None:
    write(tmp_path, "triviaqa_e", RECORD)
    benchmark = LongBench(tmp_path)
    sample = only(benchmark)
    assert sample.task == "triviaqa_e"
    assert benchmark.grade(sample, "\nOdile\nPassage: another one") == {"score": 1.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answers": []}, "the field 'answers' should be a list of texts, at least one; it is []"),
        ({"answers": None}, "it is null"),
        ({"context": 7}, "the field 'context' should be text; it is 7"),
        ({"context": " "}, "should be a text that is not blank"),
        ({"input": ["x"]}, "the field 'input'"),
    ],
)
def test_a_bad_field_is_named_with_file_and_line(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = write(tmp_path, "hotpotqa", RECORD, RECORD | change)
    with pytest.raises(InputError) as error:
        list(LongBench(tmp_path).samples())
    assert f"{path}, line 2: " in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("line", "words"), [(b"{", "not valid JSON"), (b"[1]", "expected a JSON object, found list"), (b'"\xff"', "UTF-8")]
)
def test_a_bad_line_is_named(line: bytes, words: str, tmp_path: Path) -> None:
    path = write(tmp_path, "hotpotqa", RECORD)
    path.write_bytes(path.read_bytes() + b"\n" + line)
    with pytest.raises(InputError, match=words) as error:
        list(LongBench(tmp_path).samples())
    assert f"{path}, line 3" in str(error.value)


def test_paragraphs_and_classes_are_checked(tmp_path: Path) -> None:
    write(tmp_path, "passage_retrieval_en", RECORD)
    with pytest.raises(InputError, match="the numbers of paragraphs"):
        list(LongBench(tmp_path).samples())
    write(tmp_path / "other", "trec", RECORD)
    with pytest.raises(InputError, match="all_classes"):
        list(LongBench(tmp_path / "other").samples())


def test_windows_files_and_ids_that_come_again(tmp_path: Path) -> None:
    path = write(tmp_path, "hotpotqa", RECORD, RECORD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [sample.name for sample in LongBench(tmp_path).samples()] == ["1 a1", "2 a1"]


def test_an_empty_file_is_no_task_without_samples(tmp_path: Path) -> None:
    write(tmp_path, "hotpotqa", RECORD)
    path = write(tmp_path, "qasper")
    path.write_text("\n\n")
    with pytest.raises(InputError, match=r"qasper.jsonl: there is nothing in it. Download"):
        list(LongBench(tmp_path).samples())


def test_of_a_text_that_is_much_too_long_only_the_beginning_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "hotpotqa", RECORD, RECORD | {"context": "word " * 20_000}, RECORD | {"context": "old  " * 40})
    count, counted = Cl100kTokenizer().count, []
    monkeypatch.setattr(Cl100kTokenizer, "count", lambda _, part: counted.append(len(part)) or count(part))
    assert [sample.name for sample in Selection(LongBench(tmp_path), longest=20).samples()] == ["1 a1"]
    assert max(counted) <= 8 * 20


def test_a_folder_without_its_files(tmp_path: Path) -> None:
    write(tmp_path, "unknown", RECORD)
    with pytest.raises(InputError, match=r"no LongBench file.*hotpotqa"):
        LongBench(tmp_path)
    with pytest.raises(InputError, match="is not there"):
        LongBench(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a file"):
        LongBench(tmp_path / "unknown.jsonl")


def test_some_of_the_samples(tmp_path: Path) -> None:
    write(tmp_path, "hotpotqa", *[RECORD | {"_id": f"h{number}"} for number in range(10)])
    write(tmp_path, "qasper", *[RECORD | {"_id": f"q{number}", "context": "word " * (10 * number + 10)} for number in range(10)])
    benchmark = LongBench(tmp_path)

    def names(**chosen: Any) -> list[str]:
        return [sample.name for sample in Selection(benchmark, **chosen).samples()]

    assert names(tasks=("qasper",)) == [f"{number + 1} q{number}" for number in range(10)]
    some = names(limit=3)
    assert [name.split()[1][0] for name in some] == list("qqqhhh")  # LongBench's order of data sets
    assert some == names(limit=3)  # the same lot again
    assert some != names(limit=3, seed=2)
    assert names(tasks=("qasper",), longest=35) == ["1 q0", "2 q1", "3 q2"]
    assert names(tasks=("qasper",), longest=35, limit=2) == [name for name in names(longest=35) if name in names(longest=35, limit=2)][:2]
    told: list[int] = []
    list(Selection(benchmark, tasks=("qasper",), limit=1, on_sample=told.append).samples())
    assert told == list(range(1, 11))
    with pytest.raises(UsageError, match="no task 'trec'"):
        names(tasks=("trec",))
    with pytest.raises(InputError, match="No sample"):
        names(tasks=("qasper",), longest=1)
