"""Every error the package raises on purpose, and the exit code of each branch. Knows nothing else of the package.

The tree, with the exit code that ``glyph-compress`` ends with::

    GlyphError                       1   anything of ours that fits no branch below
    |-- UsageError                   2   options that contradict each other (click's own usage errors use 2 too)
    |-- ConfigError                  3   unknown key, impossible value, unknown preset
    |   `-- PageTooSmallError        3   no glyph or no line fits the page
    |-- InputError                   4   the document cannot be read
    |   |-- EmptyDocumentError       4   nothing in it to draw
    |   |-- BinaryDocumentError      4   not text at all
    |   `-- EncodingError            4   text, but not valid in its encoding
    |-- FontError                    5   font file missing, unreadable, or without outlines
    |-- MissingExtraError            6   an optional dependency is not installed; names the extra
    |-- ServerError                  7   no usable model server
    |   |-- ServerStartError         7   the server we launched died or never became ready
    |   |-- ServerUnreachableError   7   nothing answers at the URL
    |   `-- WrongModelError          7   a server answers, but does not serve that model
    |-- ContextLengthError           8   the request is longer than the model's context
    |-- ReadError                    9   the server refused or broke off the request
    |-- OutputError                 11   a result could not be written
    `-- ClusterError                14   no usable Ray cluster, or it lost what it was to do

More exit codes belong to no exception: 10, the answer was cut off (what was read is printed), 12, items of a batch failed
(their rows say why), 13, pages are not certified (they don't pass, or are not what their certificate says), and 130, Ctrl-C.
"""

from __future__ import annotations

from typing import Any, ClassVar

EXIT_OK = 0
EXIT_TRUNCATED = 10
EXIT_ITEMS_FAILED = 12
EXIT_NOT_CERTIFIED = 13
EXIT_INTERRUPTED = 130


class GlyphError(Exception):
    """Base of all errors of this package.

    The message says what was wrong and where; ``hint`` says what to do next, in one sentence or one command.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # As it is, not made anew from the message: the constructors differ, and worker processes send errors back.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[GlyphError], args: tuple[Any, ...], state: dict[str, Any]) -> GlyphError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(GlyphError):
    """Arguments that cannot be used together."""

    exit_code = 2


class ConfigError(GlyphError):
    """A configuration key or value that cannot be used; the message names key, value and what is allowed."""

    exit_code = 3


class PageTooSmallError(ConfigError):
    """Page, margins and indents leave no room for a glyph or for a line."""


class InputError(GlyphError):
    """A document that cannot be read."""

    exit_code = 4


class EmptyDocumentError(InputError):
    """A document with nothing in it to draw."""


class BinaryDocumentError(InputError):
    """A file that is not text."""


class EncodingError(InputError):
    """A text file whose bytes are not valid in its encoding; the message gives the byte offset."""


class FontError(GlyphError):
    """A font that is missing or cannot be used."""

    exit_code = 5


class MissingExtraError(GlyphError):
    """An optional dependency that is needed here is not installed."""

    exit_code = 6

    def __init__(self, purpose: str, extra: str, *, package: str | None = None) -> None:
        missing = f" (the package {package!r} is not installed)" if package else ""
        super().__init__(f"{purpose} needs the extra {extra!r}{missing}.", hint=f"Install it: pip install 'glyph-pipeline[{extra}]'")
        self.extra = extra


class ServerError(GlyphError):
    """There is no usable model server."""

    exit_code = 7


class ServerStartError(ServerError):
    """A server that we launched died, or was not ready in time; carries the tail of its log."""

    def __init__(self, message: str, *, log_tail: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.log_tail = log_tail

    def __str__(self) -> str:
        tail = f"\n--- last lines of the server's log ---\n{self.log_tail.rstrip()}\n---" if self.log_tail else ""
        hint = f"\n{self.hint}" if self.hint else ""
        return f"{self.message}{tail}{hint}"


class ServerUnreachableError(ServerError):
    """Nothing answers at the server's URL."""


class WrongModelError(ServerError):
    """A server answers, but does not serve the model that was asked for."""


class ContextLengthError(GlyphError):
    """The pages and the question are longer than the model's context; ``limit`` is the context in tokens, if it is known."""

    exit_code = 8

    def __init__(self, message: str, *, limit: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.limit = limit


class ReadError(GlyphError):
    """The server refused the request or broke it off.

    ``status`` is the HTTP status, if there was one. ``transient``: the same request may succeed later. ``retry_after``: the
    seconds after which the server wants to be asked again, if it said so.
    """

    exit_code = 9

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        transient: bool = False,
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.transient = transient
        self.retry_after = retry_after


class OutputError(GlyphError):
    """A result could not be written."""

    exit_code = 11


class ClusterError(GlyphError):
    """There is no usable Ray cluster, or it broke off; what is done stays done."""

    exit_code = 14


class BrokenOffError(ClusterError):
    """Ray ended a run before it was through. What came of it until then is good, and the rest may be begun anew."""
