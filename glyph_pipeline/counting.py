"""Counting tokens with servers that may fail: asks another, waits, has a dead one started again. Knows no pages and no prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from glyph_pipeline.errors import ReadError, ServerUnreachableError
from glyph_pipeline.reading.retry import PASSING_STATUS, Retries, RetryPolicy
from glyph_pipeline.tokens.text import ServerTokenizer


class SteadyTokenizer:
    """The tokenizer of servers that serve one model: a count that fails in a way that may pass is asked for again.

    First of the other servers, then after a wait (``retry``), before which ``revive`` may start a server of our own again.
    Blocks meanwhile. Raises what the last attempt raised: ServerUnreachableError, ReadError.
    """

    def __init__(self, tokenizers: Sequence[ServerTokenizer], retry: RetryPolicy, revive: Callable[[], object] | None = None) -> None:
        self._tokenizers = list(tokenizers)
        self._retry = retry
        self._revive = revive

    @property
    def name(self) -> str:
        """What counted, for reports."""
        return self._tokenizers[0].name

    def count(self, text: str) -> int:
        """Tokens of ``text``, as ServerTokenizer.count."""
        return self._asked(lambda tokenizer: tokenizer.count(text))

    def count_chat(self, question: str) -> int:
        """Tokens of a whole prompt, as ServerTokenizer.count_chat."""
        return self._asked(lambda tokenizer: tokenizer.count_chat(question))

    def _asked(self, count: Callable[[ServerTokenizer], int]) -> int:
        retries = Retries(self._retry)
        while True:
            failed: ServerUnreachableError | ReadError | None = None
            for tokenizer in self._tokenizers:
                try:
                    return count(tokenizer)
                except ServerUnreachableError as e:
                    failed = e
                except ReadError as e:
                    if e.status not in PASSING_STATUS:
                        raise
                    failed = e
            assert failed is not None
            seconds = retries.next_wait()
            if seconds is None:
                failed.hint = " ".join(filter(None, [retries.account(), failed.hint]))
                raise failed
            time.sleep(seconds)
            if self._revive is not None:
                with retries.uncounted():
                    self._revive()
