"""The ledger tells an item that kills its process from those that stood beside it, and from those whose machine was lost."""

from __future__ import annotations

from glyph_pipeline.cluster.ledger import LOST_MACHINES, TRIES_ALONE, Ledger


def ledger(*living: str) -> Ledger:
    return Ledger(lambda: set(living))


def test_who_was_under_way_when_a_process_died_is_done_alone() -> None:
    book = ledger("one", "two")
    assert book.begin("draw", ["a", "b", "c"], "one") == []
    book.done("draw", ["a"])
    # Begun again without having been done, and the machine lives.
    assert book.begin("draw", ["a", "b", "c"], "two") == ["b", "c"]


def test_a_killer_is_given_up_and_its_neighbours_are_not() -> None:
    book = ledger("one")
    book.begin("draw", ["killer", "neighbour"], "one")
    deaths = 1
    while True:
        suspects = book.begin("draw", ["neighbour", "killer"], "one")
        if "neighbour" in suspects:
            assert book.begin_alone("draw", "neighbour")
            book.done("draw", ["neighbour"])
        if not book.begin_alone("draw", "killer"):
            break
        deaths += 1
    assert deaths == 1 + TRIES_ALONE
    book.done("draw", ["neighbour", "killer"])
    assert book.begin("draw", ["neighbour", "killer"], "one") == []


def test_a_lost_machine_says_nothing_of_what_it_had_under_way() -> None:
    """Else hundreds would wait for each other after each loss. One that is there whenever a machine is lost is looked at."""
    living = {"machine 0"}
    book = Ledger(lambda: living)
    for number in range(LOST_MACHINES + 1):
        assert book.begin("ask", ["a", "b"], f"machine {number}") == []
        living = {f"machine {number + 1}"}
    assert book.begin("ask", ["a"], "machine 9") == ["a"]


def test_doing_again_what_was_done_is_no_death() -> None:
    """A machine that holds results is lost: Ray has them made again."""
    book = ledger("one")
    for _ in range(5):
        assert book.begin("draw", ["a"], "one") == []
        book.done("draw", ["a"])


def test_stages_do_not_mix() -> None:
    book = ledger("one")
    book.begin("draw", ["a"], "one")
    assert book.begin("ask", ["a"], "one") == []


def test_notices_are_told_once() -> None:
    book = ledger()
    book.notify("a", "busy", 2.0)
    assert book.notices() == [("a", "busy", 2.0)]
    assert book.notices() == []
