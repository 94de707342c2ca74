"""The finder of exact strings: on the labelled sample, on texts that are meant to slow it down, and on what it must leave alone."""

from __future__ import annotations

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glyph_pipeline.exactness.finder import find_exact, looks_exact
from tests.exactness.sample import Score, labelled, score


def texts(text: str) -> list[str]:
    return [string.text for string in find_exact(text)]


@pytest.mark.parametrize("held_out", [False, True], ids=["tuned", "held out"])
def test_recall_and_precision_on_the_labelled_sample(held_out: bool):
    total = sum((part for one in labelled() if one.held_out is held_out for part in score(one).values()), Score())
    assert total.labelled > 100
    assert total.recall >= 0.95, total
    assert total.precision >= 0.95, total


def test_recall_over_the_whole_sample():
    total = sum((part for one in labelled() for part in score(one).values()), Score())
    assert total.labelled >= 400
    assert total.recall >= 0.97, total
    assert total.precision >= 0.95, total


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("See https://quay.example/a(b)/c?d=1#e, please.", ["https://quay.example/a(b)/c?d=1#e"]),
        ("(https://quay.example/lamp).", ["https://quay.example/lamp"]),
        ("Write to <mira@quay.example>!", ["mira@quay.example"]),
        ("DE89 3704 0044 0532 0130 00 is an account", ["DE89 3704 0044 0532 0130 00"]),
        ("订单INV-2024-00931已", ["INV-2024-00931"]),
        ("1,234,567.89 and 12 345 678", ["1,234,567.89", "12 345 678"]),
        ("2024-05-01T12:34:56Z 03.05.2024 12:30:45", []),
        ("index 7f3c9a1..b4d20ee", ["7f3c9a1", "b4d20ee"]),
        ('{"a":"\\u4e2d\\u6587","n":98765}', ["98765"]),
        ("cafe babe deadbeef decade", []),
        ("", []),
    ],
)
def test_where_strings_begin_and_end(text: str, found: list[str]):
    assert texts(text) == found


def test_an_iban_with_wrong_check_digits_is_none():
    assert "iban" in {string.kind for string in find_exact("DE89 3704 0044 0532 0130 00")}
    assert "iban" not in {string.kind for string in find_exact("DE88 3704 0044 0532 0130 00")}


def test_a_single_token_can_be_asked_for():
    assert looks_exact("INV-2024-00931")
    assert not looks_exact("lighthouse")
    assert not looks_exact("INV-2024-00931 and more")


@given(st.text(st.sampled_from("aZ09-_.:/@+=( )[]{}<>\"'\\\n\u00a0é中|#%,"), max_size=300))
def test_strings_are_in_order_and_stand_where_they_say(text: str):
    last = 0
    for string in find_exact(text):
        assert last <= string.start < string.end
        assert text[string.start : string.end] == string.text
        last = string.end


@given(st.uuids(), st.sampled_from(["{}", "id={};", "«{}»", "编号{}。", '"{}",', "({})", "{}\n", "x\t{}\ty", "`{}`"]))
def test_uuids_are_found_wherever_they_stand(value: uuid.UUID, frame: str):
    assert texts(frame.format(value)) == [str(value)]


@pytest.mark.parametrize(
    "unit", ["a", "1", "-", "a1", " ", "1-", "a.", "@", "a@", "://", "1,", "0:", "+1 ", "AB12 ", "DE89 3704 ", "é1", "中1", "a1-", "["]
)
def test_no_text_takes_forever(unit: str):
    """With time in proportion to its length each is done in a second or two; with the square of it, the test's time is up."""
    assert len(find_exact(unit * (300_000 // len(unit)))) <= 1


def test_data_is_no_string():
    chance = random.Random(1)
    assert find_exact("data:" + "".join(chance.choices("abcdefXYZ0123456789+/", k=20_000))) == ()
