"""Makes SIGTERM and a closed terminal end Python the orderly way while a server is owned. Knows signals, no processes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """While it is open, SIGTERM and SIGHUP raise SystemExit (143, 129) in the main thread, so that ``finally`` blocks run.

    Leaves handlers alone that somebody else has set, does nothing outside the main thread, and restores what was there.
    """
    ours = [number for number in _ENDING if _in_main_thread() and signal.getsignal(number) is signal.SIG_DFL]

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        for other in ours:  # a second one must not break off the cleaning up that the first has begun
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in ours:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Put off SIGINT, SIGTERM and SIGHUP until the block is done, where Python handles them.

    Blocking them in the kernel would not do: a child inherits that, and could then not be ended with SIGTERM.
    """
    if not _in_main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    python_handled = {number: handler for number, handler in before.items() if callable(handler)}
    for number in python_handled:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in python_handled.items():
            signal.signal(number, handler)
        for waiting in held:
            signal.raise_signal(waiting)


@contextlib.contextmanager
def kept_sigterm() -> Iterator[None]:
    """Put back the handler of SIGTERM after the block, in which Ray puts one of its own: that ends with exit code 1, and Ray leaves it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and _in_main_thread():  # None: not put there by Python
            signal.signal(signal.SIGTERM, before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
