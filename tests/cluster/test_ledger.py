"""The ledger tells an item that kills its worker from those that stood beside it."""

from __future__ import annotations

from glyph_pipeline.cluster.ledger import TRIES_ALONE, Ledger


def test_who_was_under_way_when_a_worker_died_is_done_alone() -> None:
    ledger = Ledger()
    assert ledger.begin("draw", ["a", "b", "c"]) == []
    ledger.done("draw", ["a"])
    # Begun again without having been done: the worker died.
    assert ledger.begin("draw", ["a", "b", "c"]) == ["b", "c"]


def test_a_killer_is_given_up_and_its_neighbours_are_not() -> None:
    ledger = Ledger()
    ledger.begin("draw", ["killer", "neighbour"])
    deaths = 1
    while True:
        suspects = ledger.begin("draw", ["neighbour", "killer"])
        if "neighbour" in suspects:
            assert ledger.begin_alone("draw", "neighbour")
            ledger.done("draw", ["neighbour"])
        if not ledger.begin_alone("draw", "killer"):
            break
        deaths += 1
    assert deaths == 1 + TRIES_ALONE
    ledger.done("draw", ["neighbour", "killer"])
    assert ledger.begin("draw", ["neighbour", "killer"]) == []


def test_doing_again_what_was_done_is_no_death() -> None:
    """A machine that holds results is lost: Ray has them made again."""
    ledger = Ledger()
    for _ in range(5):
        assert ledger.begin("draw", ["a"]) == []
        ledger.done("draw", ["a"])


def test_stages_do_not_mix() -> None:
    ledger = Ledger()
    ledger.begin("draw", ["a"])
    assert ledger.begin("ask", ["a"]) == []


def test_notices_are_told_once() -> None:
    ledger = Ledger()
    ledger.notify("a", "busy", 2.0)
    assert ledger.notices() == [("a", "busy", 2.0)]
    assert ledger.notices() == []
