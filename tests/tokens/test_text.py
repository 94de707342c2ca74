"""Text tokens: cl100k_base without network, the user's settings untouched, and the server's own tokenizer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glyph_pipeline.errors import GlyphError, ReadError, ServerUnreachableError
from glyph_pipeline.tokens import text as text_module
from glyph_pipeline.tokens.text import Cl100kTokenizer, ServerTokenizer
from tests.support.fake_openai import Fake, running, says

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sample.txt"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("hello world", 2), ("Hello, world!", 4), ("<|endoftext|>", 7), ("a" * 100, 13), ("1234567", 3), ("\ud800", 1)],
)
def test_counts_of_cl100k_base(text: str, tokens: int) -> None:
    assert Cl100kTokenizer().count(text) == tokens


# Everything that could reach out is cut before the package is imported.
_CUT_OFF = """
import socket, sys, os
def refuse(*a, **k): raise AssertionError("the network was used")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
os.environ["TIKTOKEN_CACHE_DIR"] = "of the user"
from glyph_pipeline import compress
print(compress(open(sys.argv[1], encoding="utf-8").read()).report.text_tokens, os.environ["TIKTOKEN_CACHE_DIR"])
"""


def test_the_sample_with_the_network_cut_off() -> None:
    done = subprocess.run([sys.executable, "-c", _CUT_OFF, SAMPLE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "3922 of the user\n"), done.stderr


def test_damaged_ranks_are_said_and_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "ranks"
    damaged.write_bytes(b"IQ== 0\n")
    monkeypatch.setattr(text_module, "_CL100K", damaged)
    text_module._cl100k.cache_clear()
    try:
        with pytest.raises(GlyphError, match="missing or damaged"):
            Cl100kTokenizer().count("x")
    finally:
        text_module._cl100k.cache_clear()


def test_the_servers_tokenizer() -> None:
    with running(Fake(says([]))) as fake:
        tokenizer = ServerTokenizer(fake.base_url.removesuffix("/v1"), fake.model)
        assert tokenizer.count("four") == 4
        assert tokenizer.count("\ud800 lone") == 6
        assert tokenizer.count_chat("four") == fake.frame_tokens + 4
        assert fake.model in tokenizer.name


def test_servers_that_cannot_count() -> None:
    with running(Fake(says([]), is_vllm=False)) as fake, pytest.raises(ReadError, match="HTTP 404") as caught:
        ServerTokenizer(fake.base_url.removesuffix("/v1"), fake.model).count("x")
    assert caught.value.status == 404
    with pytest.raises(ServerUnreachableError):
        ServerTokenizer("http://127.0.0.1:1", "m").count("x")
