"""openapi(): the OpenAPI document of the proxy's endpoints. Describes; does nothing."""

from __future__ import annotations

from typing import Any

from glyph_pipeline import __version__
from glyph_pipeline.proxy.savings import FIELD

_ERROR = {
    "description": "Refused, with OpenAI's error object.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_GLYPH_HEADERS = {
    "X-Glyph-Pages": ("Pages sent in place of text.", "integer"),
    "X-Glyph-Text-Tokens": ("Text tokens that they stand for.", "integer"),
    "X-Glyph-Vision-Tokens": ("Their vision tokens, markers included.", "integer"),
    "X-Glyph-Ratio": ("Text tokens for each vision token; 0 if nothing was drawn.", "number"),
}


def openapi() -> dict[str, Any]:
    """An OpenAPI 3.1 document as plain JSON types."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "glyph-pipeline proxy",
            "version": __version__,
            "description": "Forwards chat requests to an OpenAI-compatible server, long texts of messages drawn as pages.",
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _error_schema(), "ChatRequest": _chat_schema()},
        },
        "security": [{}, {"key": []}],
        "paths": {
            "/v1/models": {"get": _operation("models", "The upstream's models, as it lists them.", _anything("The upstream's answer."))},
            "/v1/chat/completions": {"post": _chat()},
            "/health": {
                "get": {
                    **_operation("health", "Whether the upstream answers.", _anything("It does.")),
                    "security": [{}],
                }
            },
            "/metrics": {
                "get": _operation(
                    "metrics",
                    "Counters for Prometheus.",
                    {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
                )
            },
            "/openapi.json": {"get": _operation("openapi", "This document.", _anything("This document."))},
        },
    }


def _operation(name: str, summary: str, ok: dict[str, Any]) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": {"200": ok, "default": _ERROR}}


def _anything(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


def _chat() -> dict[str, Any]:
    answer = _anything(f"The upstream's answer; with {FIELD!r} if texts were drawn.")
    answer["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    answer["headers"] = {
        name: {"description": description, "schema": {"type": kind}} for name, (description, kind) in _GLYPH_HEADERS.items()
    }
    return {
        **_operation("chat", "A chat completion by the upstream.", answer),
        "parameters": [
            {
                "name": "X-Glyph-Draw",
                "in": "header",
                "required": False,
                "description": "off: nothing of this request is drawn.",
                "schema": {"type": "string", "enum": ["on", "off"]},
            }
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}}},
    }


def _chat_schema() -> dict[str, Any]:
    draw = {"type": "object", "properties": {"draw": {"type": "boolean"}}, "additionalProperties": False}
    return {
        "type": "object",
        "description": "OpenAI's chat request. Only what is named here is looked at; everything else is the upstream's.",
        "properties": {
            "model": {"type": "string"},
            "messages": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "role": {"type": "string"},
                        "content": {"anyOf": [{"type": "string"}, {"type": "null"}, {"type": "array", "items": {"type": "object"}}]},
                    },
                    "required": ["role"],
                },
            },
            "glyph": draw,
        },
        "required": ["model", "messages"],
    }


def _error_schema() -> dict[str, Any]:
    maybe = {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": maybe, "code": {}},
                "required": ["message", "type"],
            }
        },
        "required": ["error"],
    }
