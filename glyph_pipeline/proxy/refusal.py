"""RefusalError: a request that the proxy answers itself, and OpenAI's error object for it. Knows no HTTP server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class RefusalError(Exception):
    """Ends a request with ``status`` and an error object. ``kind`` is the label that metrics count it under.

    It never leaves the proxy: what ends the program is a GlyphError. The message must not hold anything of a document.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The error object as JSON."""
        return json.dumps(error_object(self.status, self.message, self.code, self.param)).encode()


def error_object(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """What the OpenAI API answers where it refuses: ``{"error": {"message", "type", "param", "code"}}``."""
    kind = {401: "authentication_error", 403: "permission_error"}.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
