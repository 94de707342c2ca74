"""Options that say how documents are sent: as pictures or as text, with exact strings, sharper where it matters. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from glyph_pipeline.sending import DEFAULT_EXACT_BUDGET, DEFAULT_RESOLUTION_BUDGET, EXACTS, MODES, RESOLUTIONS, Exact, Mode

_F = TypeVar("_F", bound=Callable[..., Any])
# Parameters of the command line that GlyphPipeline takes by the same names.
SENDING = ("mode", "exact", "redact", "exact_budget", "resolution", "resolution_budget", "repair")

# What those that only asking has a use for are unless they were named; --mode is of use to drawing, too.
SENT_DEFAULTS = {
    "exact": "auto",
    "exact_budget": DEFAULT_EXACT_BUDGET,
    "redact": False,
    "resolution": "uniform",
    "resolution_budget": DEFAULT_RESOLUTION_BUDGET,
    "repair": False,
}


def _share(option: str, usual: float, help: str) -> Callable[[_F], _F]:
    """An option that takes a share of tokens."""
    return click.option(option, type=click.FloatRange(min=0, max=10), default=usual, show_default=True, metavar="SHARE", help=help)


def sending_options(mode: Mode = "auto", exact: Exact = "auto") -> Callable[[_F], _F]:
    """The options, with these defaults."""
    options = (
        click.option(
            "--mode",
            type=click.Choice(MODES),
            default=mode,
            show_default=True,
            help="Send pictures, text, or for each page what costs fewer tokens.",
        ),
        click.option(
            "--exact",
            type=click.Choice(EXACTS),
            default=exact,
            show_default=True,
            help="Send identifiers, numbers and the like as text too, beside their pictures: those near the question, all, or none.",
        ),
        _share("--exact-budget", DEFAULT_EXACT_BUDGET, "Of a request's picture tokens, what --exact auto may add."),
        click.option("--redact", is_flag=True, help="Leave secrets (keys, passwords) out of what --exact sends."),
        click.option(
            "--resolution",
            type=click.Choice(RESOLUTIONS),
            default="uniform",
            show_default=True,
            help="auto: pages that match the question best are sent at 120 dpi, or as text.",
        ),
        _share("--resolution-budget", DEFAULT_RESOLUTION_BUDGET, "Of all picture tokens, what --resolution auto may add."),
        click.option("--repair", is_flag=True, help="Put what was probably misread right in the answer, as the source spells it."),
    )

    def decorated(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def sending_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of GlyphPipeline among the parameters of a command line."""
    return {name: options[name] for name in SENDING if name in options}
