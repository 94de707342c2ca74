"""Streams: the savings put into the usage chunk of an event stream that passes through. Knows no HTTP."""

from __future__ import annotations

import json

from glyph_pipeline.proxy.savings import Savings

# What may be the usage chunk; everything else is not even parsed.
_DATA = b"data:"
_USAGE = b'"usage"'
_CHOICES = b'"choices"'
_LONGEST = 1_000_000


class UsageSplicer:
    """Feeds on the bytes of a stream and gives them on, with ``savings`` in the chunk that has usage and no choices.

    Whole lines pass at once. A line without its end waits for it, as it would wait in any reader of events; so nothing is late.
    A chunk of that kind is what OpenAI's ``stream_options.include_usage`` asks for. An event of our own would not do: some clients
    take the last event's usage for the whole stream's, some add up every usage they see.
    """

    def __init__(self, savings: Savings) -> None:
        self._savings = savings
        self._line = b""
        self._over_long = False

    def feed(self, data: bytes) -> bytes:
        """What may be sent on now."""
        if self._over_long:
            return data
        lines = (self._line + data).split(b"\n")
        self._line = lines.pop()
        out = b"".join(self._looked_at(line) + b"\n" for line in lines)
        if len(self._line) > _LONGEST:
            self._over_long = True
            out, self._line = out + self._line, b""
        return out

    def finish(self) -> bytes:
        """What is left when the stream ends."""
        line, self._line = self._line, b""
        return line

    def _looked_at(self, line: bytes) -> bytes:
        if not (line.startswith(_DATA) and _USAGE in line and _CHOICES in line):
            return line
        payload = line[len(_DATA) :]
        try:
            chunk = json.loads(payload)
        except (ValueError, RecursionError):
            return line
        if not isinstance(chunk, dict) or chunk.get("choices") != [] or not isinstance(chunk.get("usage"), dict):
            return line
        return _DATA + self._savings.spliced(payload)
