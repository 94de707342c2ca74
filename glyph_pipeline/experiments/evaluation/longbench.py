"""LongBench: its files, what of a record is drawn and what stays text, and its metric by data set. Draws and asks nothing.

Files: ``NAME.jsonl`` of github.com/THUDM/LongBench (arXiv 2308.14508) with input, context, answers, length, dataset, language,
all_classes, _id; LongBench-E's are called ``NAME_e.jsonl``. As in Glyph's own evaluation (github.com/thu-coai/Glyph, ``evaluation/longbench``)
the context is drawn and the rest stays text; the few-shot data sets have nothing but examples for a context, and these are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glyph_pipeline.errors import InputError
from glyph_pipeline.experiments.evaluation import metrics
from glyph_pipeline.experiments.evaluation.records import Record, folder_of, json_object, records
from glyph_pipeline.experiments.evaluation.sample import ON_PAGES, Sample
from glyph_pipeline.tokens.text import encodable


@dataclass(frozen=True, slots=True)
class _DataSet:
    """Its metric, and our instruction for where the benchmark's own are not at hand: ``{input}`` is the record's input."""

    metric: str
    instruction: str


_ANSWER = "Answer the question from the pages alone, with a name, a number or a phrase and nothing else.\n\nQuestion: {input}\nAnswer:"
_PAPER = (
    "The pages are a scientific paper. Answer the question from it in a phrase or one sentence. A question of yes or no is answered "
    'with "yes" or "no"; what the paper does not tell, with "unanswerable".\n\nQuestion: {input}\nAnswer:'
)
_ZH_ANSWER = "请只根据页面上的内容回答问题，答案要简短，不要写别的。\n\n问题：{input}\n答案："
_CODE = "The pages are source code that breaks off. Write the one line that comes next, and nothing else.\n\n{input}"
_FEW_SHOT = "The pages show examples. Do the same for what follows, in the same form, and write nothing else.\n\n{input}"

DATA_SETS: Mapping[str, _DataSet] = {
    "narrativeqa": _DataSet("word F1", _ANSWER),
    "qasper": _DataSet("word F1", _PAPER),
    "multifieldqa_en": _DataSet("word F1", _ANSWER),
    "multifieldqa_zh": _DataSet("Chinese F1", _ZH_ANSWER),
    "hotpotqa": _DataSet("word F1", _ANSWER),
    "2wikimqa": _DataSet("word F1", _ANSWER),
    "musique": _DataSet("word F1", _ANSWER),
    "dureader": _DataSet("Chinese Rouge-L", "请根据页面上的文章回答问题。\n\n问题：{input}\n答案："),
    "gov_report": _DataSet("Rouge-L", "The pages are a report of a public authority. Sum it up on about one page.\n\nSummary:"),
    "qmsum": _DataSet("Rouge-L", "The pages are the record of a meeting. Answer in a few sentences.\n\nQuestion: {input}\nAnswer:"),
    "multi_news": _DataSet("Rouge-L", "The pages are several news articles. Sum them all up on about one page.\n\nSummary:"),
    "vcsum": _DataSet("Chinese Rouge-L", "页面上是一次会议的记录，请概括会议的内容。\n\n概括："),
    "trec": _DataSet("class", _FEW_SHOT),
    "triviaqa": _DataSet("word F1", _FEW_SHOT),
    "samsum": _DataSet("Rouge-L", _FEW_SHOT),
    "lsht": _DataSet("class", "页面上是一些新闻及其类别。请用同样的方式写出下面新闻的类别，不要写别的。\n\n{input}"),
    "passage_count": _DataSet(
        "number", "Some paragraphs on the pages come up more than once. How many different ones are there? Answer with the number alone."
    ),
    "passage_retrieval_en": _DataSet(
        "paragraph", 'Which paragraph on the pages does this sum up? Answer in the form "Paragraph 7".\n\n{input}\n\nAnswer:'
    ),
    "passage_retrieval_zh": _DataSet("paragraph", "下面的摘要说的是页面上的哪一段？请用“段落7”的形式回答。\n\n{input}\n\n答案："),
    "lcc": _DataSet("code", _CODE),
    "repobench-p": _DataSet("code", _CODE),
}

_METRICS: Mapping[str, Callable[[str, str], float]] = {
    "word F1": metrics.word_f1,
    "Chinese F1": metrics.chinese_f1,
    "Rouge-L": metrics.rouge_l,
    "Chinese Rouge-L": metrics.chinese_rouge_l,
    "number": metrics.number_share,
    "code": metrics.code_similarity,
}
# LongBench grades only the first line of these answers.
_FIRST_LINE = ("trec", "triviaqa", "samsum", "lsht")
# Instructions that may lie in the folder: the first is Glyph's, which speaks of images; the second LongBench's, split at its context.
_PROMPTS = ("dataset2vlmprompt.json", "dataset2prompt.json")


class LongBench:
    """A :class:`~.sample.Benchmark`: the ``.jsonl`` files of ``data`` or of the folder ``data`` in it.

    Instructions are those of ``dataset2vlmprompt.json`` or ``dataset2prompt.json`` if one of them lies there, or in a folder
    ``config``; else ours. A row says which (``instruction``). Raises InputError.
    """

    name = "longbench"

    def __init__(self, data: str | Path) -> None:
        folder = folder_of(data)
        self._files = _data_files(folder) or _data_files(folder / "data")
        if not self._files:
            raise InputError(
                f"There is no LongBench file in {str(data)!r}.",
                hint=f"Expected are NAME.jsonl or NAME_e.jsonl, NAME one of {', '.join(DATA_SETS)}.",
            )
        self._source, self._prompts = _instructions(folder)

    def tasks(self) -> Collection[str]:
        """The data sets whose files are there."""
        return list(self._files)

    def samples(self, tasks: Collection[str] = ()) -> Iterator[Sample]:
        """The records as samples."""
        for task, path in self._files.items():
            if not tasks or task in tasks:
                for record in records(path):
                    yield self._sample(task, record)

    def grade(self, sample: Sample, answer: str) -> Mapping[str, Any]:
        """The best score over all expected answers, as LongBench takes it."""
        metric = sample.expected["metric"]
        if _base(sample.task) in _FIRST_LINE:
            answer = answer.lstrip("\n").split("\n")[0]
        scores = []
        for expected in sample.expected["answers"]:
            if metric == "class":
                scores.append(metrics.classification(answer, expected, sample.expected["classes"]))
            elif metric == "paragraph":
                scores.append(metrics.number_share(answer, _paragraph(expected)))
            else:
                scores.append(_METRICS[metric](answer, expected))
        return {"score": max(scores)}

    def require(self, tasks: Collection[str]) -> None:
        """Raises MissingExtraError if Chinese can't be graded and is to be."""
        if any(DATA_SETS[_base(task)].metric.startswith("Chinese") for task in tasks):
            metrics.require_chinese()

    def _sample(self, task: str, record: Record) -> Sample:
        data_set = DATA_SETS[_base(task)]
        expected: dict[str, Any] = {"metric": data_set.metric, "answers": record.texts("answers")}
        if data_set.metric == "class":
            expected["classes"] = record.texts("all_classes")
        if data_set.metric == "paragraph" and not all(map(_paragraph, expected["answers"])):
            raise record.wrong("answers", "the numbers of paragraphs", record.data["answers"])
        text = record.text("context")
        if not text.strip():
            raise record.wrong("context", "a text that is not blank", text)
        source, prompt = self._source, self._prompts.get(_base(task))
        if prompt is None:
            source, prompt = "ours", data_set.instruction
        before, found, after = prompt.partition("{context}")
        parts = [before, ON_PAGES, after] if found else [before]
        question = "\n\n".join(part.strip() for part in parts if part.strip()).replace("{input}", record.text("input", ""))
        about = {"instruction": source, "metric": data_set.metric, **record.told("length", "language")}
        return Sample(task, _name(record), text, question, expected, about)


def _base(task: str) -> str:
    """The data set of a task: LongBench-E's are the same data sets."""
    return task.removesuffix("_e")


def _data_files(folder: Path) -> dict[str, Path]:
    files = {path.stem: path for path in sorted(folder.glob("*.jsonl")) if _base(path.stem) in DATA_SETS}
    order = list(DATA_SETS)
    return dict(sorted(files.items(), key=lambda item: (item[0] != _base(item[0]), order.index(_base(item[0])))))


def _instructions(folder: Path) -> tuple[str, Mapping[str, str]]:
    for name in _PROMPTS:
        for path in (folder / name, folder / "config" / name):
            if path.is_file():
                return name, json_object(path)
    return "ours", {}


def _paragraph(expected: str) -> str:
    """The number in "Paragraph 7" or its Chinese form; empty if there is none."""
    return "".join(char for char in expected if char.isdigit())


def _name(record: Record) -> str:
    name = record.data.get("_id")
    return f"{record.number} {encodable(name)}" if isinstance(name, str) and name else str(record.number)
