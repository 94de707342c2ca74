"""The proxy against its own OpenAPI document: Schemathesis makes requests, right and wrong, and looks at what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.proxy.proxied import proxied
from tests.proxy.recorder import Recorder, recording

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [("/v1/models", "GET"), ("/v1/chat/completions", "POST"), ("/health", "GET"), ("/metrics", "GET"), ("/openapi.json", "GET")]
RIGHT = [(path, method, GenerationMode.POSITIVE) for path, method in OPERATIONS]
WRONG = [("/v1/chat/completions", "POST", GenerationMode.NEGATIVE)]  # the others take nothing that could be wrong


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    with recording(Recorder(tokens=len)) as upstream, proxied(upstream.base_url) as proxy:
        yield schemathesis.openapi.from_url(proxy.base_url.replace("/v1", "/openapi.json"))


@pytest.mark.parametrize(("path", "method", "mode"), RIGHT + WRONG)
def test_nothing_breaks_it(api: Any, path: str, method: str, mode: GenerationMode) -> None:
    operation = api[path][method]
    seen = []

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        seen.append(case.call_and_validate(checks=CHECKS, timeout=60).status_code)

    check()
    assert 200 in seen if mode is GenerationMode.POSITIVE else 400 in seen


def test_the_document_has_every_endpoint_and_no_other(api: object) -> None:
    with recording(Recorder()) as upstream, proxied(upstream.base_url) as proxy:
        root = proxy.base_url.removesuffix("/v1")
        paths = httpx.get(f"{root}/openapi.json").json()["paths"]
        assert set(paths) == {"/v1/models", "/v1/chat/completions", "/health", "/metrics", "/openapi.json"}
        for path, operations in paths.items():
            for method in ("get", "post", "put", "patch", "delete", "options"):
                status = httpx.request(method, root + path, json={"model": "m", "messages": []}).status_code
                assert status == (200 if method in operations else 405), (method, path)
