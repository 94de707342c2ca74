"""Entry point of glyph-compress: the command group, and errors turned into one message and an exit code. Draws and reads nothing."""

from __future__ import annotations

import errno
import importlib
import io
import logging
import os
import sys
import warnings

import click
from click_default_group import DefaultGroup

from glyph_pipeline import __version__
from glyph_pipeline.errors import EXIT_INTERRUPTED, EXIT_OK, GlyphError, OutputError

_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})

_EPILOG = """\b
Exit codes:
  0   done
  1   unexpected error (a bug: please report it)
  2   wrong usage of the command line
  3   configuration: unknown key, impossible value, page too small
  4   document: missing, empty, binary, not valid in its encoding
  5   font missing or unusable
  6   an optional package is missing (the message names the extra)
  7   no usable model server: not reachable, failed to start, wrong model
  8   the request is longer than the model's context
  9   the server refused the request or broke it off
  10  the answer was cut off (what there is was printed)
  11  a result could not be written
  12  items of a batch failed (their lines say why)
  13  pages are not certified: they don't pass, or are not what their certificate says
  14  no usable Ray cluster, or it broke off (what is done stays done)
  130 interrupted (Ctrl-C)
"""


class LazyGroup(DefaultGroup):  # type: ignore[misc]
    """A group whose subcommands are imported when they are used: drawing should not wait for what serving needs."""

    names = ("ask", "batch", "render", "sweep", "eval", "certify", "search", "bench", "web", "fonts", "serve", "proxy", "doctor")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of use."""
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The subcommand of that name, or the default one, which takes any other word for its first argument."""
        if cmd_name not in self.names:
            # DefaultGroup puts the word back in front of the default command's arguments.
            ctx.arg0 = cmd_name  # type: ignore[attr-defined]
            cmd_name = self.default_cmd_name
        command: click.Command = getattr(importlib.import_module(f"glyph_pipeline.cli.{cmd_name}"), cmd_name)
        return command


@click.group(
    cls=LazyGroup, default="ask", default_if_no_args=False, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="glyph-compress")
def cli() -> None:
    """Long text as dense page images, read by a vision-language model for a third of the tokens.

    \b
    glyph-compress DOC... -q "QUESTION"   ask about documents ('-' is standard input)
    glyph-compress DOC...                 draw and report only

    "glyph-compress ask --help" lists the options of this default command; a document that is named like a subcommand is
    written ./render.
    """


def main() -> None:
    """Run the command; never ends in a traceback unless GLYPH_DEBUG is set."""
    sys.exit(run(sys.argv[1:], ends=True))


def run(arguments: list[str], *, ends: bool = False) -> int:
    """Run the command line; its exit code. Messages go to standard error. ``ends``: this process ends with it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an answer the terminal's encoding lacks is no reason to fail
    try:
        result = cli.main(arguments or ["--help"], prog_name="glyph-compress", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as e:
        e.show(sys.stderr)
        return e.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("Interrupted.")
        if ends and not os.environ.get("GLYPH_DEBUG"):
            _hush()
        return EXIT_INTERRUPTED
    except GlyphError as e:
        _say(f"Error: {e}")
        return e.exit_code
    except SystemExit:
        if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            return EXIT_OK  # how click ends when whoever read our output has enough (| head)
        raise
    except OSError as e:
        _drop_output()
        if e.errno == errno.EPIPE:
            return EXIT_OK
        if e.errno not in _OUTPUT_ERRORS:
            return _bug(e)
        _say(f"Error: Standard output can't be written: {e.strerror}. Make room, or send it elsewhere.")
        return OutputError.exit_code
    except Exception as e:
        return _bug(e)


def _bug(error: Exception) -> int:
    if os.environ.get("GLYPH_DEBUG"):
        raise error
    _say(f"Error: {type(error).__name__}: {error}\nThis is a bug in glyph-pipeline. GLYPH_DEBUG=1 shows where it happened.")
    return GlyphError.exit_code


def _hush() -> None:
    """Let nothing more be said by libraries. A second Ctrl-C tears asyncio from its clearing up, which then tells of every task."""
    logging.disable()
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda unraisable: None


def _drop_output() -> None:
    """Let nothing more be written to standard output, not even by Python's own flush at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    click.echo(message, err=True)


if __name__ == "__main__":
    main()
