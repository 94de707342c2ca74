"""MRCR: its files, what of a conversation is drawn and what stays text, and its metric. Draws and asks nothing.

Files: the Parquet of huggingface.co/datasets/openai/mrcr: prompt (a JSON list of chat messages), answer, random_string_to_prepend,
n_needles, desired_msg_index, total_messages, n_chars. The first message holds solved examples, the last one asks. As in Glyph's own
evaluation (github.com/thu-coai/Glyph, ``evaluation/mrcr``) the conversation is drawn with ``User:`` and ``Assistant:`` before each
turn, the last message stays text, and the examples are left out. Glyph's prepared files (JSON with context and question) are read, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from glyph_pipeline.errors import InputError
from glyph_pipeline.experiments.evaluation.metrics import prefixed_ratio
from glyph_pipeline.experiments.evaluation.records import SUFFIXES, Record, folder_of, records
from glyph_pipeline.experiments.evaluation.sample import Sample
from glyph_pipeline.tokens.text import encodable

_COLUMNS = ("prompt", "answer", "random_string_to_prepend", "n_needles", "desired_msg_index", "total_messages", "n_chars")
_NEEDLES = re.compile(r"(\d+)needle")
_SPEAKERS = {"user": "User", "assistant": "Assistant"}


class MRCR:
    """A :class:`~.sample.Benchmark`: all Parquet files in and under ``data``; if there are none, JSON Lines, then JSON. Raises InputError."""

    name = "mrcr"

    def __init__(self, data: str | Path) -> None:
        folder = folder_of(data)
        found = (sorted(folder.rglob(f"*{suffix}")) for suffix in SUFFIXES)
        self._root, self._files = folder, next((files for files in found if files), [])
        if not self._files:
            raise InputError(
                f"There is no file of MRCR in {str(data)!r}.", hint="Expected are Parquet files, such as 2needle/2needle_0.parquet."
            )
        self._tasks: list[str] | None = None

    def tasks(self) -> Collection[str]:
        """``2needle`` and so on: how many alike there are to choose from."""
        if self._tasks is None:
            named = {_task(record) for path in self._files for record in records(path, ("n_needles",))}  # not the prompts, which may be GBs
            self._tasks = sorted(named, key=lambda task: (len(task), task))
        return self._tasks

    def samples(self, tasks: Collection[str] = ()) -> Iterator[Sample]:
        """The records as samples."""
        for path in self._files:
            for record in records(path, _COLUMNS):
                sample = self._sample(path, record)
                if not tasks or sample.task in tasks:
                    yield sample

    def grade(self, sample: Sample, answer: str) -> Mapping[str, Any]:
        """The ratio, and whether the answer began as it was told to: if not, its score is 0."""
        prefix = sample.expected["prefix"]
        return {"score": prefixed_ratio(answer, sample.expected["answer"], prefix), "prefixed": answer.startswith(prefix)}

    def require(self, tasks: Collection[str]) -> None:
        """Nothing is needed."""

    def _sample(self, path: Path, record: Record) -> Sample:
        expected = {"answer": record.text("answer"), "prefix": record.text("random_string_to_prepend")}
        if not expected["answer"].startswith(expected["prefix"]):
            raise record.wrong("answer", "a text that begins with random_string_to_prepend", expected["answer"])
        if "prompt" in record.data:
            text, question = _split(record)
        else:
            text, question = record.text("context"), record.text("question")
        for field, value in (("context", text), ("question", question)):
            if not value.strip():
                raise record.wrong("prompt" if "prompt" in record.data else field, "a conversation and what is asked about it", value)
        about = record.told("desired_msg_index", "total_messages", "n_chars")
        name = f"{path.relative_to(self._root).as_posix()} {record.number}"
        return Sample(_task(record), encodable(name), text, question, expected, about)


def _split(record: Record) -> tuple[str, str]:
    """What is drawn of a prompt, and what is asked."""
    try:
        messages = json.loads(record.text("prompt"))
    except (ValueError, RecursionError) as e:
        raise record.wrong("prompt", f"a JSON list of messages ({e})", record.data["prompt"]) from e
    whole = isinstance(messages, list) and len(messages) > 1 and all(_is_message(one) for one in messages)
    if not whole or messages[-1]["role"] != "user":
        raise record.wrong(
            "prompt", "a JSON list of messages with role (user, assistant) and content, the last one the user's", record.data["prompt"]
        )
    # A conversation has one turn of each after the other; where the user speaks twice, the first message is not of it.
    turns = messages[1 if messages[0]["role"] == messages[1]["role"] else 0 : -1]
    return "\n".join(f"{_SPEAKERS[turn['role']]}: {turn['content']}" for turn in turns), messages[-1]["content"]


def _is_message(one: object) -> bool:
    return isinstance(one, dict) and one.get("role") in _SPEAKERS and isinstance(one.get("content"), str)


def _task(record: Record) -> str:
    needles = record.data.get("n_needles")
    if needles is not None:
        if not isinstance(needles, int):
            raise record.wrong("n_needles", "a whole number", needles)
        return f"{needles}needle"
    match = _NEEDLES.search(str(record.data.get("unique_id", "")))
    return match.group() if match else "mrcr"
