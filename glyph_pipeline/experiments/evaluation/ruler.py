"""RULER: its files, what of an input is drawn and what stays text, and its metric by task. Draws and asks nothing.

Files: what github.com/NVIDIA/RULER (arXiv 2404.06654) makes with its template ``base``: a folder for each task with ``validation.jsonl``
of index, input, outputs, length, answer_prefix. As in Glyph's own evaluation (github.com/thu-coai/Glyph, ``evaluation/ruler``) the
context is drawn, instruction and question stay text, and the solved example of ``vt`` and ``cwe`` is left out. Where an input is cut goes by its
line ends alone. Glyph's prepared files (JSON with task_name, context and question) are read, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from glyph_pipeline.errors import InputError
from glyph_pipeline.experiments.evaluation.metrics import all_parts, any_part
from glyph_pipeline.experiments.evaluation.records import Record, folder_of, records
from glyph_pipeline.experiments.evaluation.sample import ON_PAGES, Sample

_KINDS = ("niah", "vt", "cwe", "fwe", "qa")
_SUBSETS = ("validation.jsonl", "test.jsonl")
# Of "fwe" the coded words follow in the line of the instruction, after its second sentence.
_TWO_SENTENCES = re.compile(r"[^.]*\.\s[^.]*\.\s")
# What the letters and digits of UUIDs are drawn for: Glyph's authors leave these two out of their mean.
UUID_TASKS = ("niah_single_3", "niah_multikey_3")


class RULER:
    """A :class:`~.sample.Benchmark`: every ``validation.jsonl`` (else ``test.jsonl``) in a folder named like its task, in and under ``data``;
    if there is none, Glyph's prepared ``.json`` or ``.jsonl`` files in it.

    A task's name is that of its folder, with the folders above it (``4096/niah_single_1``) where the same task is there for several
    lengths. Raises InputError.
    """

    name = "ruler"

    def __init__(self, data: str | Path) -> None:
        self._root = folder_of(data)
        self._files = _task_files(self._root)
        self._prepared = [] if self._files else sorted([*self._root.glob("*.json"), *self._root.glob("*.jsonl")])
        if not self._files and not self._prepared:
            raise InputError(
                f"There is no file of RULER in {str(data)!r}.", hint="Expected are files such as niah_single_1/validation.jsonl."
            )
        self._tasks = list(self._files)

    def tasks(self) -> Collection[str]:
        """By folder, or by the records' task_name."""
        if not self._tasks:
            self._tasks = list(dict.fromkeys(sample.task for sample in self.samples()))
        return self._tasks

    def samples(self, tasks: Collection[str] = ()) -> Iterator[Sample]:
        """The records as samples."""
        for task, path in self._files.items():
            if not tasks or task in tasks:
                for record in records(path):
                    yield _published(task, record)
        for path in self._prepared:
            for record in records(path):
                sample = _prepared(path, record, several=len(self._prepared) > 1)
                if not tasks or sample.task in tasks:
                    yield sample

    def grade(self, sample: Sample, answer: str) -> Mapping[str, Any]:
        """The share of the outputs that the answer holds; for ``qa``, whether it holds any."""
        metric = any_part if sample.expected["metric"] == "any" else all_parts
        return {"score": metric(answer, sample.expected["outputs"])}

    def require(self, tasks: Collection[str]) -> None:
        """Nothing is needed."""


def kind_of(task: str) -> str | None:
    """The kind of a task, which says how its input is cut and graded; None if it is none of RULER's."""
    name = task.rsplit("/", 1)[-1]
    return next((kind for kind in _KINDS if name == kind or name.startswith(f"{kind}_")), None)


def _task_files(root: Path) -> dict[str, Path]:
    folders = sorted({path.parent for name in _SUBSETS for path in root.rglob(name) if kind_of(path.parent.name)})
    files = {folder: next(folder / name for name in _SUBSETS if (folder / name).is_file()) for folder in folders}
    named: dict[str, Path] = {}
    for folder, path in files.items():
        alike = [other for other in folders if other.name == folder.name]
        tellings: tuple[Callable[[Path], str], ...] = (_folder_name, partial(_label, root), partial(_below, root))
        name = next(told(folder) for told in tellings if sum(told(other) == told(folder) for other in alike) == 1)
        named[name] = path
    return named


def _folder_name(folder: Path) -> str:
    return folder.name


def _below(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix() if folder != root else f"./{root.name}"


def _label(root: Path, folder: Path) -> str:
    return "/".join(part for part in folder.relative_to(root).parts if part not in ("data", "synthetic")) or f"./{root.name}"


def _published(task: str, record: Record) -> Sample:
    kind = kind_of(task)
    assert kind is not None
    whole = record.text("input")
    example = ""
    if kind in ("vt", "cwe"):
        # Example and task begin with the same line.
        start = whole.rfind(whole.lstrip().partition("\n")[0])
        example, whole = whole[:start], whole[start:]
    instruction, text, question = _cut(kind, whole.strip("\n"))
    if not text.strip() or not question.strip():
        raise record.wrong(
            "input", f"an instruction, a context and a question on lines of their own, as {kind} is made", record.data["input"]
        )
    asked = f"{instruction.strip()}\n\n{ON_PAGES}\n\n{question.strip()}{record.text('answer_prefix', '').rstrip()}"
    about = {**record.told("length", "index"), "example left out": bool(example.strip())}
    return Sample(task, str(record.number), text, asked, _expected(kind, record), about)


def _cut(kind: str, whole: str) -> tuple[str, str, str]:
    """(instruction, context, question) of an input; an empty context if it can't be told apart."""
    if kind == "qa":  # two paragraphs before the documents and two after them
        before = whole.split("\n\n", 2)
        after = before[-1].rsplit("\n\n", 2)
        if len(before) < 3 or len(after) < 3:
            return "", "", ""
        return "\n\n".join(before[:2]), after[0], "\n\n".join(after[1:])
    rest, _, question = whole.rpartition("\n")
    if kind == "fwe":
        match = _TWO_SENTENCES.match(rest)
        return (match.group(), rest[match.end() :], question) if match else ("", "", "")
    instruction, _, text = rest.partition("\n")
    return instruction, text.strip("\n"), question


def _prepared(path: Path, record: Record, several: bool) -> Sample:
    task = record.text("task_name")
    kind = kind_of(task)
    if kind is None:
        raise record.wrong("task_name", f"a task of RULER ({', '.join(_KINDS)})", task)
    for name in ("context", "question"):
        if not record.text(name).strip():
            raise record.wrong(name, "a text that is not blank", record.data[name])
    label = f"{path.stem}/{task}" if several else task
    return Sample(label, f"{path.name} {record.number}", record.text("context"), record.text("question"), _expected(kind, record))


def _expected(kind: str, record: Record) -> dict[str, Any]:
    outputs = record.texts("outputs")
    if not all(map(str.strip, outputs)):  # an empty one would stand in every answer
        raise record.wrong("outputs", "a list of texts that are not blank", record.data["outputs"])
    return {"metric": "any" if kind == "qa" else "all", "outputs": outputs}
