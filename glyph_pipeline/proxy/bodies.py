"""Bodies: a request's bytes, bounded in size and time, and strict JSON in and out. Knows no messages and no pages."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import regex

from glyph_pipeline.proxy.refusal import RefusalError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# A value costs about 60 bytes of memory and may be 2 bytes of JSON.
MAX_VALUES = 500_000
# A JSON string; one without an end reaches to the end of the body, or searching would start anew at each escaped quote.
_STRING = regex.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', regex.DOTALL)
_CONTENT_TYPE = re.compile(r'application/json\s*(?:;\s*charset\s*=\s*"?utf-?8"?\s*)?;?\s*', re.IGNORECASE)


class ClientGoneError(Exception):
    """The client closed its connection: nobody is left to answer."""


def check_media(headers: dict[str, str]) -> None:
    """Raise RefusalError unless a request's headers (names in lower case) announce plain JSON."""
    if not _CONTENT_TYPE.fullmatch(headers.get("content-type", "")):
        raise RefusalError(415, "The content type has to be application/json, in UTF-8.", kind="bad_request", code="unsupported_media_type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusalError(
            415, "Compressed request bodies are not read. Send it as it is.", kind="bad_request", code="unsupported_media_type"
        )


async def read_body(receive: Receive, headers: dict[str, str], limit: int, seconds: float) -> bytes:
    """The whole body, of at most ``limit`` bytes, sent within ``seconds``.

    Raises RefusalError (413, 408), or ClientGoneError. Of a body that is too long as much again is taken and dropped: a connection
    that is closed on a client that still sends is reset, and the refusal lost.
    """
    declared = headers.get("content-length", "")
    too_long = RefusalError(
        413,
        f"The request's body is larger than {limit:,} bytes.",
        kind="too_large",
        code="request_too_large",
        headers={"connection": "close"},
    )
    if declared.isdecimal() and int(declared[:20]) > limit and "expect" in headers:
        raise too_long
    deadline = time.monotonic() + seconds
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise RefusalError(
                408,
                f"The request's body did not come within {seconds:g} s.",
                kind="slow_client",
                code="request_timeout",
                headers={"connection": "close"},
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            pieces.clear()
        else:
            pieces.append(piece)
        if size > 2 * limit:
            raise too_long
        if not message.get("more_body", False):
            break
    if size > limit:
        raise too_long
    return b"".join(pieces)


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises RefusalError for what isn't one, or is one only to some readers (a key twice, NaN, endless numbers)."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as e:
        raise _bad(f"The request's body is not valid UTF-8: byte {e.start} is wrong.", "invalid_utf8") from None
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        outside = _STRING.sub(b"", body)
        if outside.count(b",") + outside.count(b"[") + outside.count(b"{") > MAX_VALUES:
            raise _bad(f"The request's body holds more than {MAX_VALUES:,} values.", "too_many_values")
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_float=_finite, parse_constant=_no_number)
    except json.JSONDecodeError as e:
        raise _bad(f"The request's body is not valid JSON: {e.msg} (line {e.lineno}, column {e.colno}).", "invalid_json") from None
    except RecursionError:
        raise _bad("The request's body is nested too deeply.", "too_deep") from None
    except ValueError:  # Python's bound on the digits of an integer
        raise _bad("The request's body holds a number with too many digits.", "invalid_number") from None
    if not isinstance(data, dict):
        raise _bad("The request's body has to be a JSON object.", "invalid_json")
    return data


def encode(data: dict[str, Any]) -> bytes:
    """JSON as it is sent on. Raises RefusalError where it is nested too deeply to be written."""
    try:
        try:
            return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        except UnicodeEncodeError:  # a lone surrogate has no UTF-8, but an escape
            return json.dumps(data, separators=(",", ":")).encode("ascii")
    except RecursionError:
        raise _bad("The request's body is nested too deeply.", "too_deep") from None


def _bad(message: str, code: str) -> RefusalError:
    return RefusalError(400, message, kind="bad_request", code=code)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Not named: what the key is may be anything.
        raise _bad("The request's body has a key twice in one object.", "duplicate_key")
    return found


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise _bad("The request's body holds a number that is too large.", "invalid_number")
    return value


def _no_number(name: str) -> float:
    raise _bad(f"The request's body holds {name}, which is not JSON.", "invalid_number")
