"""What an answer cites, as places in the documents: names, page ranges, and what is no citation."""

from __future__ import annotations

import pytest

from glyph_pipeline import Page
from glyph_pipeline.citations import sources_of
from glyph_pipeline.prompts import name_of


def pages(**documents: int) -> list[Page]:
    names = {"ferry": "docs/ferry.txt", "mill": "docs/mill.txt", "other": "old/mill.txt", "odd": "page 3 of 5.txt", "only": None}
    return [
        Page(number, 595, 842, b"", (number - 1) * 100, number * 100, (), names[name])
        for name, count in documents.items()
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("On Thursdays [page 2].", [2]),
        ("[Page 2] and [p. 3] and [pp. 4-5], [pages 1, 3 and 5]", [2, 3, 4, 5, 1]),
        ("[page 2; page 4]", [2, 4]),
        ("[pages 2\N{EN DASH}3]", [2, 3]),
        ("[第3页]", [3]),
        ("[report.txt, page 2]", [2]),  # the only document, whatever it is called
        ("[page 7], [page 0], page 2, (page 2), [2], [pages 1-900], [homepage 2]", []),
        ("[page 2][page 2]", [2]),
        ("", []),
    ],
)
def test_pages_of_one_document(text: str, cited: list[int]) -> None:
    assert [source.page for source in sources_of(text, pages(only=5))] == cited


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("[docs/ferry.txt, page 2]", [("docs/ferry.txt", 2)]),
        ("[Ferry.txt page 2], [ferry: p. 1]", [("docs/ferry.txt", 2), ("docs/ferry.txt", 1)]),
        ("[ferry, pages 1-2; docs/mill.txt, page 1]", [("docs/ferry.txt", 1), ("docs/ferry.txt", 2), ("docs/mill.txt", 1)]),
        ("[ferry page 1, page 2]", [("docs/ferry.txt", 1), ("docs/ferry.txt", 2)]),
        ("[mill.txt, page 1]", []),  # two are called so
        ("[nowhere.txt, page 1] [page 1]", []),
        ("[ferry page 1; nowhere page 2]", [("docs/ferry.txt", 1)]),
        ("[page 3 of 5.txt, page 2]", [("page 3 of 5.txt", 2)]),
        ("[page 1 of ferry.txt]", [("docs/ferry.txt", 1)]),
        ("[page 1 of ferry.txt, page 2]", [("docs/ferry.txt", 1), ("docs/ferry.txt", 2)]),
        ("[docs/mill.txt, page 1; page 2 of ferry.txt]", [("docs/mill.txt", 1), ("docs/ferry.txt", 2)]),
        ("[page 1 and ferry.txt, page 2]", [("docs/ferry.txt", 2)]),
        (
            "[**ferry.txt**, page 1] [`docs/mill.txt` p. 2] 【ferry, page 2】",
            [("docs/ferry.txt", 1), ("docs/mill.txt", 2), ("docs/ferry.txt", 2)],
        ),
        ("ferry.txt [page 1]", []),
    ],
)
def test_pages_of_several_documents(text: str, cited: list[tuple[str, int]]) -> None:
    found = sources_of(text, pages(ferry=2, mill=2, other=2, odd=4))
    assert [(source.document, source.page) for source in found] == cited
    assert all((source.start, source.end) == ((source.page - 1) * 100, source.page * 100) for source in found)


def one_page_each(*ids: str) -> list[Page]:
    return [Page(1, 595, 842, b"", 0, 10, (), name) for name in ids]


@pytest.mark.parametrize(
    ("ids", "text", "cited"),
    [
        (("A.txt", "a.txt", "b.txt"), "[A.txt, page 1] [page 1]", ["A.txt"]),
        (("README.md", "readme.md"), "[readme.md, page 1]", ["readme.md"]),
        (("README.md", "readme.md"), "[ReadMe.md, page 1]", []),
        (("Straße.txt", "b.txt"), "[Straße.txt, page 1] [B, page 1]", ["Straße.txt", "b.txt"]),
        (("a  b.txt", ".hidden", "notes."), "[a b.txt, page 1] [.hidden page 1] [notes. page 1]", ["a  b.txt", ".hidden", "notes."]),
        (("[draft] a.txt", "b.txt"), "[[draft] a.txt, page 1]", ["[draft] a.txt"]),
        (("x" * 500 + "1.txt", "x" * 500 + "2.txt"), f"[{name_of('x' * 500 + '2.txt')}, page 1]", ["x" * 500 + "2.txt"]),
        (("a\nb", "c"), "[a b, page 1]", ["a\nb"]),
    ],
)
def test_names_of_all_kinds(ids: tuple[str, ...], text: str, cited: list[str]) -> None:
    assert [source.document for source in sources_of(text, one_page_each(*ids))] == cited


def test_thousands_of_documents_are_no_burden() -> None:
    pages = one_page_each(*(f"folder/document {number}.txt" for number in range(5000)))
    text = " ".join(f"[document {number}.txt, page 1]" for number in range(0, 5000, 50))
    assert len(sources_of(text, pages)) == 100
