"""Token counts survive what reading survives: another server is asked, a dead one started again, a passing refusal waited out."""

from __future__ import annotations

import pytest

from glyph_pipeline.counting import SteadyTokenizer
from glyph_pipeline.errors import ReadError, ServerStartError, ServerUnreachableError
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.tokens.text import ServerTokenizer

QUICK = RetryPolicy(budget=60, first=0.001, longest=0.001)


class Scripted(ServerTokenizer):
    """Fails as told, then counts."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__("http://127.0.0.1:9", "m")
        self.failures = list(failures)
        self.asked = 0

    def count(self, text: str) -> int:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return len(text)


def test_a_passing_failure_is_waited_out_and_a_dead_server_revived() -> None:
    server = Scripted(ServerUnreachableError("reset"), ReadError("busy", status=503))
    revived: list[int] = []
    assert SteadyTokenizer([server], QUICK, lambda: revived.append(server.asked)).count("abc") == 3
    assert revived == [1, 2]


def test_another_server_is_asked_at_once() -> None:
    down, up = Scripted(*[ServerUnreachableError("reset")] * 9), Scripted()
    assert SteadyTokenizer([down, up], RetryPolicy(budget=0)).count("abc") == 3
    assert (down.asked, up.asked) == (1, 1)


def test_what_will_not_pass_is_raised_at_once() -> None:
    server = Scripted(ReadError("no such thing", status=404))
    with pytest.raises(ReadError, match="no such thing"):
        SteadyTokenizer([server], QUICK).count("abc")
    assert server.asked == 1


def test_it_gives_up_when_the_time_is_up_or_nothing_can_be_started() -> None:
    with pytest.raises(ServerUnreachableError, match=r"Tried once|Tried 1"):
        SteadyTokenizer([Scripted(ServerUnreachableError("reset"))], RetryPolicy(budget=0)).count("abc")

    def revive() -> None:
        raise ServerStartError("It died too often.")

    with pytest.raises(ServerStartError):
        SteadyTokenizer([Scripted(ServerUnreachableError("reset"))], QUICK, revive).count("abc")
