"""Secrets among exact strings, told by the real detector, with no connection."""

from __future__ import annotations

import random
import socket
import string
import sys
from typing import Any

import pytest

from glyph_pipeline.errors import MissingExtraError
from glyph_pipeline.exactness.finder import find_exact
from glyph_pipeline.exactness.redaction import Redactor

CHANCE = random.Random(11)


def drawn(letters: str, length: int) -> str:
    return "".join(CHANCE.choices(letters, k=length))


BASE62 = string.ascii_letters + string.digits
HEX = "0123456789abcdef"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def secrets(text: str) -> set[str]:
    pytest.importorskip("detect_secrets")
    return {one.text for one in Redactor().secrets(text, find_exact(text))}


@pytest.mark.parametrize(
    "secret",
    [
        f"ghp_{drawn(BASE62, 36)}",
        f"sk-{drawn(BASE62, 40)}",
        f"AKIA{drawn(string.ascii_uppercase, 14)}37",
        f"xoxb-{drawn(string.digits, 12)}-{drawn(string.digits, 12)}-{drawn(BASE62, 24)}",
        f"https://mira:{drawn(BASE62, 10)}@quay.example/db",
        f"AC{drawn(HEX, 32)}",
        f"{drawn(HEX, 32)}-us12",
    ],
)
def test_keys_are_secrets_wherever_they_stand(secret: str):
    (one,) = secrets(f"We wrote {secret} into the log of 7f3c9a1b.")
    assert one in secret or secret in one


@pytest.mark.parametrize(
    "frame", ["password: {}", 'client_secret = "{}"', "export DB_PASSWORD={}", "api-key is {}", "Authorization: Bearer {}"]
)
def test_a_name_tells_a_secret(frame: str):
    value = drawn(HEX, 20)
    assert secrets(frame.format(value) + " in 7f3c9a1b") == {value}


def test_what_lies_in_a_private_key_is_secret():
    lines = "\n".join(drawn(BASE62, 64) for _ in range(4)) + "\nINV-2024-00931"
    assert "INV-2024-00931" in secrets(f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----\n")
    assert secrets("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\nINV-2024-00931") == set()


def test_checksums_commits_and_numbers_are_none():
    text = f"commit {drawn(HEX, 40)}, md5 {drawn(HEX, 32)}, id 5b1c7e90-3f2d-4a68-9c4e-d07b6a12f835, INV-2024-00931, 8842719, https://quay.example/a1"
    assert len(find_exact(text)) == 6
    assert secrets(text) == set()


def test_a_missing_detector_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "detect_secrets.plugins.artifactory", None)
    with pytest.raises(MissingExtraError, match=r"'bc-detect-secrets'.*glyph-pipeline\[redact\]"):
        Redactor()
