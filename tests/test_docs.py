"""The documentation tells the truth: reference pages are those of the code, commands have the options shown, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from glyph_pipeline.cli.main import cli
from tests.support.command import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
make_docs = importlib.import_module("make_docs")

PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((REPOSITORY / "docs").glob("*.md"))
_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def commands(page: Path) -> Iterator[list[str]]:
    """Every glyph-compress command line of a page: in blocks, and in line."""
    text = page.read_text("utf-8")
    blocks = [body for kind, body in _BLOCK.findall(text) if kind in ("", "sh", "bash")]
    indented = ["\n".join(re.findall(r"^    (\S.*)$", _BLOCK.sub("", text), re.MULTILINE))]
    inline = re.findall(r"`(glyph-compress [^`]+)`", _BLOCK.sub("", text))
    for line in [*(line for body in [*blocks, *indented] for line in body.replace("\\\n", " ").splitlines()), *inline]:
        for part in re.split(r"&&|(?<!\w)\|(?!\w)|;", line.partition("   #")[0]):
            words = part.strip()
            if words.startswith("glyph-compress "):
                try:
                    yield shlex.split(words)[1:]
                except ValueError:
                    continue  # a sentence with an apostrophe, not a command line


def options_of(command: click.Command) -> set[str]:
    return {"-h", "--help", *(name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts])}


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a command line runs, and the words behind its name."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        context = click.Context(command)
        name = words[0] if words else ""
        known = command.list_commands(context)
        if name not in known:
            if command is not cli:  # "eval needle|longbench|mrcr|ruler" names a choice
                assert set(name.split("|")) <= set(known), name
                name = name.split("|")[0]
            else:
                named = cli.get_command(context, "ask")
                assert named is not None
                return named, words
        chosen = command.get_command(context, name)
        assert chosen is not None
        command, words = chosen, words[1:]
    return command, words


@pytest.mark.parametrize("page", sorted(make_docs.pages()))
def test_reference_pages_are_those_of_the_code(page: str) -> None:
    written = (REPOSITORY / "docs" / page).read_text("utf-8")
    assert written == make_docs.pages()[page], "run scripts/make_docs.py"


def test_the_command_page_has_every_option_and_word_of_help() -> None:
    page = " ".join((REPOSITORY / "docs" / "cli.md").read_text("utf-8").replace("\\|", "|").split())
    for name, command in make_docs._commands(cli, ()):
        section = page.split(f"## glyph-compress {name} ", 1)[1].split(" ## ", 1)[0]
        for option in options_of(command) - {"-h", "--help"}:
            if option.startswith("-"):
                assert f"`{option}`" in section, (name, option)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_are_shown(page: Path) -> None:
    for line in commands(page):
        if any(word in ("...", "[OPTIONS]") or word.startswith("[") for word in line):
            line = [word for word in line if word not in ("...", "[OPTIONS]") and not word.startswith("[")]
        command, words = found(line)
        if "--" in words:
            words = words[: words.index("--")]
        known = options_of(command)
        for word in words:
            if word.startswith("-") and len(word) > 1 and not word.lstrip("-").replace(".", "").isdigit():
                for option in word.split("=")[0].split("|"):
                    assert option in known or command.context_settings.get("ignore_unknown_options"), (line, option)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for link in _LINK.findall(_BLOCK.sub("", page.read_text("utf-8"))):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_pages_is_python_and_imports_what_there_is(page: Path) -> None:
    for kind, body in _BLOCK.findall(page.read_text("utf-8")):
        if kind != "python" or page.name == "api.md":
            continue
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("glyph_pipeline"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
