"""Reads a server's log: its last lines, and the lines that say what went wrong. Knows text files, no processes."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TAIL_BYTES = 256 * 1024
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# "(APIServer pid=12) ", "ERROR 11-23 05:36:00 [core.py:1123] ": who speaks, which says nothing about what is said
_SPEAKER = re.compile(r"^(?:\([\w.:-]+ pid=\d+\)\s*)*(?:(?:ERROR|CRITICAL|INFO|WARNING)\s[\d :.-]+\[[^\]]*\]\s*)?")
_EXCEPTION = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|error)\b(?:\s*\[[^\]]*\])?:\s*\S")
_ARGUMENT = re.compile(r"^[\w.-]+: error: ")  # argparse's words for a flag it does not know
_CONSEQUENCE = (
    *("Engine core initialization failed", "WorkerProc initialization failed", "Engine process failed to start"),
    *("EngineDeadError", "See stack trace", "See root cause"),
)


def tail(path: Path, lines: int = 25, *, start: int = 0) -> str:
    """The last ``lines`` lines of the log, without colours, none from before the byte ``start``; empty if it cannot be read."""
    return "\n".join(_read_lines(path, start)[-lines:])


def last_line(path: Path, *, start: int = 0) -> str:
    """The last line that is not blank, or an empty string."""
    return next((line for line in reversed(_read_lines(path, start)) if line.strip()), "")


def failure(path: Path, *, start: int = 0) -> str:
    """The line of the log that best says why the server failed, without its prefix; an empty string if none does.

    vLLM reports the first cause, and then what followed from it: the last error that is not a mere consequence is taken.
    """
    causes = [words for words, _ in _errors(_read_lines(path, start))]
    roots = [cause for cause in causes if not any(words in cause for words in _CONSEQUENCE)]
    return (roots or causes or [""])[-1]


def report(path: Path, lines: int = 25, *, start: int = 0) -> str:
    """The last ``lines`` lines, and above them the errors that stand further up in the log, each once."""
    everything = _read_lines(path, start)
    last = everything[-lines:]
    shown = "\n".join(last)
    above = list(dict.fromkeys(line for words, line in _errors(everything[:-lines]) if words not in shown))[-5:]
    return "\n".join([*above, "[...]", *last] if above else last)


def _errors(lines: list[str]) -> list[tuple[str, str]]:
    """(the error without its prefix, the line as it stands) for every line that reports one."""
    found: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        words = _SPEAKER.sub("", line, count=1)
        if _EXCEPTION.match(words) or _ARGUMENT.match(words):
            found.append((_with_details(words, lines[number + 1 :]), line))
    return found


def _with_details(words: str, following: list[str]) -> str:
    """pydantic's first line only counts the errors; what the first of them is stands in the line below."""
    if "validation error" not in words:
        return words.strip()
    details = [_SPEAKER.sub("", line, count=1).strip() for line in following[:1]]
    return ": ".join(filter(None, [words.strip(), *details]))


def _read_lines(path: Path, start: int) -> list[str]:
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    # A progress bar is one line that was overwritten many times; only its last state is of interest.
    return [_ANSI.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip() for line in text.split("\n") if line.strip()]
