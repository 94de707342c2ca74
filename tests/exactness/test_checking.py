"""Answers checked against their source: found, misread, unknown; put right without harm."""

from __future__ import annotations

import random
import uuid
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from glyph_pipeline.exactness.checking import Check, SourceText, check_answer, repaired
from glyph_pipeline.exactness.finder import find_exact

UUID = "5b1c7e90-3f2d-4a68-9c4e-d07b6a12f835"
HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"
TEXT = (
    f"The key is {UUID}. It cost 1,234,567.89 crowns, paid to DE89 3704 0044 0532 0130 00.\n"
    f"Commit {HASH} came with INV-2024-00931 and again INV-2024-00931; the count is 123456.\n"
    "Write to Mira.Holm@Quay.example, or see https://quay.example/start?id=8Hq2 soon. Part A7X9-99Q2, or A7X9-99Q3."
)


def source(text: str = TEXT, document: str | None = None) -> SourceText:
    pages = tuple((start, number) for number, start in enumerate(range(0, len(text), 90), 1))
    return SourceText(document, text, pages, find_exact(text))


def only(answer: str, *sources: SourceText) -> Check:
    (check,) = check_answer(answer, sources or [source()])
    assert answer[check.start : check.end] == check.string
    return check


def test_a_string_that_is_there_is_found_with_its_place():
    check = only("It was INV-2024-00931.")
    offset = TEXT.index("INV-2024-00931")
    assert (check.status, check.kind, check.source) == ("found", "code", "INV-2024-00931")
    assert (check.document, check.page, check.offset, check.places) == (None, offset // 90 + 1, offset, 2)


@pytest.mark.parametrize(
    ("answered", "spelled"),
    [
        (UUID.upper(), UUID),
        (UUID.replace("-", ""), UUID),
        ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00"),
        ("1234567.89", "1,234,567.89"),
        ("1.234.567,89", "1,234,567.89"),
        ("123,456", "123456"),
        ("Mira.Holm@quay.EXAMPLE", "Mira.Holm@Quay.example"),
    ],
)
def test_another_way_to_write_it_is_found_as_the_source_writes_it(answered: str, spelled: str):
    check = only(f"It is {answered}, I think.")
    assert (check.status, check.source) == ("found", spelled)


@pytest.mark.parametrize("answered", ["12345", "23456", "9f86d08188"])
def test_a_piece_of_a_longer_string_is_not_found(answered: str):
    assert only(f"It is {answered}.").status != "found"


@pytest.mark.parametrize(
    ("answered", "spelled"),
    [
        (UUID.replace("7e90", "7c90"), UUID),
        (UUID.replace("-", "", 1).replace("a68", "o68"), UUID),
        (UUID[:20] + " (" + UUID[20:], UUID),
        (HASH[:12] + "1" + HASH[13:].replace("f1b", "flb"), HASH),
        ("INV-2024-OO931", "INV-2024-00931"),
        ("123466", "123456"),
        ("https://quay.example/start?id=8Hg2", "https://quay.example/start?id=8Hq2"),
    ],
)
def test_what_is_a_letter_or_two_away_was_misread(answered: str, spelled: str):
    check = only(f"It is {answered}, I think.")
    assert (check.status, check.source, check.candidates) == ("misread", spelled, 1)
    text, (mended,) = repaired(f"It is {answered}, I think.", [check])
    assert text == f"It is {spelled}, I think."
    assert mended.repaired
    assert text[mended.start : mended.end] == spelled


def test_a_tie_is_told_and_never_put_right():
    check = only("Part A7X9-99Q4.")
    assert (check.status, check.candidates) == ("misread", 2)
    assert repaired("Part A7X9-99Q4.", [check]) == ("Part A7X9-99Q4.", (check,))


def test_a_blank_inside_is_found():
    broken = f"{UUID[:11]} {UUID[11:]}"
    check = only(f"The key is {broken}.")
    assert (check.status, check.source, check.string) == ("found", UUID, broken)


def test_blanks_for_hyphens_are_found():
    check = only("The part is A7X9 99Q2 BB4K.", source("Part A7X9-99Q2-BB4K is there."))
    assert (check.status, check.source, check.string) == ("found", "A7X9-99Q2-BB4K", "A7X9 99Q2 BB4K")


def test_one_string_in_two_cases_is_no_tie():
    here = source(f"{UUID} and {UUID.upper()}")
    check = only(UUID.replace("7e90", "7c90"), here)
    assert (check.status, check.source, check.candidates) == ("misread", UUID, 1)


def test_what_is_nowhere_is_unknown():
    check = only("It is 77e0c2aa-0000-4111-8222-933344445555.")
    assert (check.status, check.source, check.page, check.offset, check.candidates) == ("unknown", None, None, None, 0)


@pytest.mark.parametrize(
    "answer", ["It is [page 12].", "Yes [INV-2024-88888.txt, page 3].", "是【第12345页】", "Plain words.", "", "In 1998, 12 men."]
)
def test_citations_and_words_are_not_checked(answer: str):
    assert check_answer(answer, [source()]) == ()


def test_the_first_document_that_has_it_names_the_place():
    check = only("8842719", source("No number.", "a.txt"), source("See 8842719.", "b.txt"), source("8842719", "c.txt"))
    assert (check.document, check.page, check.offset, check.places) == ("b.txt", 1, 4, 2)


def test_without_a_source_everything_is_unknown():
    assert check_answer("INV-2024-00931", [])[0].status == "unknown"


def test_several_repairs_keep_their_offsets():
    answer = f"{UUID.replace('7e90', '7c9O')} and INV-2024-OO931, then 123456 and {HASH}."
    checks = check_answer(answer, [source()])
    text, mended = repaired(answer, checks)
    assert [check.status for check in checks] == ["misread", "misread", "found", "found"]
    assert [text[check.start : check.end] for check in mended] == [UUID, "INV-2024-00931", "123456", HASH]
    assert all(check.status == "found" for check in check_answer(text, [source()]))


@given(st.uuids(version=4), st.integers(0, 35), st.sampled_from("0123456789abcdef"), st.booleans())
@example(uuid.UUID("8bfbb1af-2ed7-4faa-805b-1cececceb08f"), 0, "0", True)  # the last group looks like a hash
@example(uuid.UUID("227aa9d2-836d-492b-92a9-97417466354d"), 21, "d", True)
@example(uuid.UUID("5066e920-4817-459b-bfbb-48aebeaceac7"), 12, "b", True)
def test_any_one_wrong_character_of_a_uuid_is_seen_and_put_right(value: uuid.UUID, place: int, other: str, blank: bool):
    right = str(value)
    assume(right[place] not in ("-", other))
    wrong = right[:place] + other + right[place + 1 :]
    answer = f"It is {wrong[:10]} {wrong[10:]}." if blank else f"It is {wrong}."
    here = source(f"One is {right}, another {UUID}.")
    text, _ = repaired(answer, check_answer(answer, [here]))
    assert text == f"It is {right}."


@given(st.text("ab1 -[]().,p", max_size=60))
def test_no_answer_is_harmed_beyond_its_strings(answer: str):
    checks = check_answer(answer, [source()])
    spans = [(check.start, check.end) for check in checks]
    assert spans == sorted(spans)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert repaired(answer, [check for check in checks if check.status != "misread"])[0] == answer


def test_many_strings_are_no_hindrance():
    chance = random.Random(5)
    keys = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(20_000)]
    here = source("\n".join(keys))
    wrong = [key[:7] + ("0" if key[7] != "0" else "1") + key[8:] for key in keys[::400]]
    checks = check_answer(" ".join(wrong), [here])
    assert [check.source for check in checks] == keys[::400]
