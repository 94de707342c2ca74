"""What an answer cites, as places in the documents: names, page ranges, and what is no citation."""

from __future__ import annotations

import pytest

from glyph_pipeline import Page
from glyph_pipeline.citations import sources_of


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
    ],
)
def test_pages_of_several_documents(text: str, cited: list[tuple[str, int]]) -> None:
    found = sources_of(text, pages(ferry=2, mill=2, other=2, odd=4))
    assert [(source.document, source.page) for source in found] == cited
    assert all((source.start, source.end) == ((source.page - 1) * 100, source.page * 100) for source in found)
