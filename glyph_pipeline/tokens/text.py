"""Text tokens: how many a tokenizer makes of a text, and under which name that count goes. Knows no pages."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from glyph_pipeline.addresses import uses_environment_proxies
from glyph_pipeline.errors import GlyphError, ReadError, ServerUnreachableError

if TYPE_CHECKING:
    import httpx
    import tiktoken

# Named as tiktoken names the file in its cache: SHA-1 of the address it would load it from. tiktoken pins the same SHA-256.
_CL100K = Path(__file__).parent / "data" / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
_CL100K_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_TOKENIZE_TIMEOUT_S = 120.0


class TextTokenizer(Protocol):
    """Counts the tokens of a text."""

    @property
    def name(self) -> str:
        """What counted, for reports."""
        ...

    def count(self, text: str) -> int:
        """Tokens of ``text``, without any special tokens around it."""
        ...


class Cl100kTokenizer:
    """tiktoken's ``cl100k_base`` from the file that ships with the package: no network. The closest offline stand-in for GLM-4's."""

    @property
    def name(self) -> str:
        """What counted, for reports."""
        return "cl100k_base (tiktoken)"

    def count(self, text: str) -> int:
        """Tokens of ``text``; text that looks like a special token counts as the text it is."""
        return len(_cl100k().encode_ordinary(text))


class ServerTokenizer:
    """The served model's own tokenizer, through the ``/tokenize`` of a vLLM server at ``root`` (no ``/v1``)."""

    def __init__(self, root: str, model: str, api_key: str | None = None) -> None:
        self._url = f"{root.rstrip('/')}/tokenize"
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client: httpx.Client | None = None

    @property
    def name(self) -> str:
        """What counted, for reports."""
        return f"{self._model} (server's /tokenize)"

    def count(self, text: str) -> int:
        """Tokens of ``text``. Raises ServerUnreachableError, or ReadError with the server's status."""
        return self._count({"prompt": encodable(text), "add_special_tokens": False})

    def count_chat(self, question: str) -> int:
        """Tokens of the whole prompt of one user message that is ``question``, the template and its special tokens included."""
        messages = [{"role": "user", "content": encodable(question)}]
        return self._count({"messages": messages, "add_generation_prompt": True})

    def _count(self, body: dict[str, object]) -> int:
        import httpx

        try:
            if self._client is None:
                # Kept, because making one reads all certificates; its connections are not, so there is nothing to close.
                limits = httpx.Limits(max_keepalive_connections=0)
                self._client = httpx.Client(trust_env=uses_environment_proxies(self._url), timeout=_TOKENIZE_TIMEOUT_S, limits=limits)
            response = self._client.post(self._url, json={"model": self._model, **body}, headers=self._headers)
        except httpx.HTTPError as e:
            raise ServerUnreachableError(
                f"{self._url} doesn't answer: {e or type(e).__name__}.", hint="Is the server still running?"
            ) from e
        try:
            response.raise_for_status()
            return int(response.json()["count"])
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as e:
            raise ReadError(
                f"{self._url} can't count tokens: HTTP {response.status_code}: {response.text[:200]}",
                status=response.status_code,
                hint="Only vLLM servers have /tokenize; text tokens are then counted with cl100k_base.",
            ) from e


def encodable(text: str) -> str:
    """The text with every lone surrogate, which has no UTF-8, as U+FFFD: what tiktoken makes of it too."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_environment_lock = threading.Lock()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """An environment variable for the moment tiktoken reads it; the user's own setting stands again afterwards."""
    with _environment_lock:
        before = os.environ.get(name)
        os.environ[name] = value
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


@cache
def _cl100k() -> tiktoken.Encoding:
    import tiktoken

    # Checked here first: tiktoken would answer a wrong file by downloading another.
    if not _CL100K.is_file() or hashlib.sha256(_CL100K.read_bytes()).hexdigest() != _CL100K_SHA256:
        raise GlyphError(
            f"The token ranks {_CL100K} are missing or damaged.", hint="Reinstall: pip install --force-reinstall glyph-pipeline"
        )
    with _environment("TIKTOKEN_CACHE_DIR", str(_CL100K.parent)):
        return tiktoken.get_encoding("cl100k_base")
