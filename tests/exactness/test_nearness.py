"""Misread strings in running text, and lines put right by what is known to stand in them."""

from __future__ import annotations

from glyph_pipeline.exactness.nearness import Haystack, allowed, corrected, nearest

UUID = "5b1c7e90-3f2d-4a68-9c4e-d07b6a12f835"


def test_longer_strings_may_differ_by_more():
    assert [allowed(one) for one in ("ab12c", "ab12cd", "123456789", "1234567890", "a" * 36, "a" * 40)] == [1, 2, 1, 2, 3, 3]


def test_all_that_are_equally_near_are_named():
    choices = ["INV-2024-00931", "INV-2024-00932", "INV-2024-00991", "8842719"]
    assert nearest(["INV-2024-00939", "INV-2024-00931", "8842718", "XYZ"], choices) == [[0, 1], [0], [3], []]
    assert nearest([], choices) == []
    assert nearest(["8842718"], []) == [[]]


def test_the_whole_token_is_what_was_misread():
    text = "the key INV-2O24-00931x stands"
    (span,) = Haystack(text).nearest("INV-2024-00931")
    assert (text[span.start : span.end], span.distance) == ("INV-2O24-00931x", 2)


def test_what_is_taken_is_left_alone():
    text = "key INV-2024-00932"
    assert Haystack(text, [(4, 18)]).nearest("INV-2024-00931") == []


def test_misread_lines_are_put_right():
    assert corrected(["the key is", "INV-2O24-00931 today"], ["INV-2024-00931"]) == ["the key is", "INV-2024-00931 today"]


def test_a_string_cut_over_a_line_end_goes_whole_into_the_first():
    lines = corrected([f"key {UUID[:14]}", f"{UUID[14:].replace('9c4e', '9c4c')} is it"], [UUID])
    assert lines == [f"key {UUID}", " is it"]


def test_blanks_and_brackets_inside_are_taken_out():
    assert corrected([f"key {UUID[:9]} [{UUID[9:]} ok"], [UUID]) == [f"key {UUID} ok"]


def test_a_neighbour_that_is_no_misreading_stays():
    """INV-2024-00932 is near the listed string, but that one stands there as it should."""
    lines = ["INV-2024-00931 and INV-2024-00932"]
    assert corrected(lines, ["INV-2024-00931"]) == lines


def test_two_places_that_are_equally_near_are_both_left():
    lines = ["INV-2024-00932 and INV-2024-00933"]
    assert corrected(lines, ["INV-2024-00931"]) == lines


def test_two_strings_that_are_equally_near_one_place_leave_it():
    lines = ["INV-2024-00939"]
    assert corrected(lines, ["INV-2024-00931", "INV-2024-00932"]) == lines


def test_nothing_known_changes_nothing():
    assert corrected(["a", "", "b"], []) == ["a", "", "b"]
