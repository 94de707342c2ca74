"""Reads vLLM's command-line flags well enough to see which repeat each other. Knows spellings, not meanings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SHORT = {"-tp": "--tensor-parallel-size", "-dp": "--data-parallel-size"}
_NUMBER = re.compile(r"-\d+(\.\d*)?")


@dataclass(frozen=True)
class Flag:
    """One flag and its values. ``name`` is the long spelling, with dashes, the same for ``--x`` and ``--no-x``."""

    name: str
    tokens: tuple[str, ...]

    @property
    def value(self) -> str | None:
        """The (first) value, None for a switch."""
        if "=" in self.tokens[0]:
            return self.tokens[0].partition("=")[2]
        return self.tokens[1] if len(self.tokens) > 1 else None

    @property
    def values(self) -> tuple[str, ...]:
        """All its values, also where the first is joined to the flag by ``=``."""
        _, joined, value = self.tokens[0].partition("=")
        return (value, *self.tokens[1:]) if joined else self.tokens[1:]


def split_flags(args: Sequence[str]) -> list[Flag]:
    """Group a command line into flags with their values; what stands before the first flag is a flag of its own."""
    groups: list[list[str]] = []
    for arg in args:
        if groups and not _starts_flag(arg):
            groups[-1].append(arg)
        else:
            groups.append([arg])
    return [Flag(_canonical(group[0]), tuple(group)) for group in groups]


def drop_repeated(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """``ours`` without the flags that also stand in ``theirs``.

    ``--a.b`` of ours also goes if theirs has a whole ``--a``: vLLM would put the one in the place of the other.
    """
    taken = {flag.name for flag in split_flags(theirs)}
    kept = [flag for flag in split_flags(ours) if flag.name not in taken and flag.name.partition(".")[0] not in taken]
    return [token for flag in kept for token in flag.tokens]


def take_value(args: Sequence[str], name: str) -> tuple[list[str], str | None]:
    """``args`` without the flag ``name``, and its value, the last where it is repeated.

    A flag with no value, an empty one or several stays where it is, and the value is None then.
    """
    flags = split_flags(args)
    named = [flag for flag in flags if flag.name == name]
    if not named or len(named[-1].values) != 1 or not named[-1].values[0]:
        return list(args), None
    return [token for flag in flags if flag.name != name for token in flag.tokens], named[-1].values[0]


def _starts_flag(arg: str) -> bool:
    return arg.startswith("-") and arg != "-" and not _NUMBER.fullmatch(arg)


def _canonical(token: str) -> str:
    name = token.partition("=")[0]
    name = _SHORT.get(name, name)
    if not name.startswith("--"):
        return name
    first, dot, rest = name.partition(".")
    first = first.replace("_", "-")
    if first.startswith("--no-"):
        first = "--" + first.removeprefix("--no-")
    return first + dot + rest
