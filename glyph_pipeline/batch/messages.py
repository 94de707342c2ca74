"""Messages between a process and its workers, and the worker's end of them. Knows nothing of what is in them."""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections.abc import Callable
from typing import IO, Any

from glyph_pipeline.errors import GlyphError

LENGTH = struct.Struct(">Q")


def message(data: object) -> bytes:
    """A message: its length in 8 bytes, and the pickle. Both ends are this package in one version, on one machine."""
    payload = pickle.dumps(data, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(payload)) + payload


def read_payload(stream: IO[bytes]) -> bytes:
    """The pickle of the next message; raises EOFError if the stream ends before it does."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    payload = stream.read(length)
    if len(payload) < length:
        raise EOFError
    return payload


def read_message(stream: IO[bytes]) -> Any:
    """The next message; raises EOFError at the end, and where its sender has ended in the middle of one."""
    return pickle.loads(read_payload(stream))


def serve(work: Callable[[Any], object]) -> None:
    """Answer each task on standard input with what ``work`` makes of it, or with the error it raises, until standard input ends."""
    incoming = sys.stdin.buffer
    # What a library may print must not get among the messages.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            task = read_message(incoming)
        except EOFError:
            return
        answer: object
        try:
            answer = work(task)
        except (GlyphError, MemoryError) as e:
            answer = e
        except Exception as e:
            answer = GlyphError(f"Drawing failed: {type(e).__name__}: {e}.", hint="This is a bug in glyph-pipeline; please report it.")
        try:
            outgoing.write(message(answer))
            outgoing.flush()
        except BrokenPipeError:  # who asked is gone; what is left of the answer goes nowhere, or its end would be told of
            os.dup2(os.open(os.devnull, os.O_WRONLY), outgoing.fileno())
            return
