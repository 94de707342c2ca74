"""Pages from a store are the renderer's own: bytes, values, fonts, losses; whatever has happened to the file."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glyph_pipeline import Document, Page, RenderConfig, compress
from glyph_pipeline.errors import EmptyDocumentError, FontError
from glyph_pipeline.pagestore import PageStore, StoredRenderer
from glyph_pipeline.rendering.renderer import Renderer

CONFIG = RenderConfig.preset("en")
PROSE = "The lamp of Sorrel Point is lit at dusk, and the keeper notes the oil.\n" * 120
# Of several fonts, with a character that no font has, a soft hyphen, a byte order mark and a lone surrogate.
MIXED = "Harbour שלום עולם 港湾 日誌 \U0001f30a caf\u00e9 \ufffe \ud800 so\u00adft \ufeff end\n"


def drawn(renderer: Renderer | StoredRenderer, documents: Sequence[Document]) -> list[Page]:
    return [page for document in documents for page in renderer.render(document)]


def account(renderer: Renderer | StoredRenderer) -> tuple[Any, ...]:
    return renderer.fonts, dict(renderer.losses.missing), renderer.losses.removed, renderer.losses.invisible


def entries(store: PageStore) -> list[Path]:
    return sorted(store.folder.glob("*.zip"))


@pytest.fixture
def store(tmp_path: Path) -> PageStore:
    return PageStore(tmp_path / "store")


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(*_: object) -> NoReturn:
        raise AssertionError("something was drawn")

    monkeypatch.setattr("glyph_pipeline.rendering.raster.Rasteriser.draw", draws)
    monkeypatch.setattr("glyph_pipeline.rendering.chain.FontChain.__init__", draws)


def test_a_second_run_draws_nothing_and_gives_the_same(store: PageStore, request: pytest.FixtureRequest) -> None:
    documents = [Document(PROSE, "a.txt"), Document(MIXED * 3, "b.txt"), Document("日本\n" + MIXED, "c.txt")]
    plain = Renderer(CONFIG)
    expected = drawn(plain, documents)
    first = store.renderer(CONFIG)
    assert drawn(first, documents) == expected
    assert account(first) == account(plain)
    assert (store.hits, store.misses, first.misses) == (0, 3, 3)
    request.getfixturevalue("no_drawing")
    second = store.renderer(CONFIG)
    assert drawn(second, documents) == expected
    assert account(second) == account(plain)
    assert (store.hits, store.misses, second.hits) == (3, 3, 3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(alphabet=list("aé\n \tשל港日กक्\U0001f30a\u200d\ufe0f\ufffe\ud800\u00ad\ufeff☃"), min_size=1, max_size=40), max_size=4),
    st.data(),
)
def test_several_documents_in_any_state_of_the_store(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject
) -> None:
    documents = [Document("x" + text, str(number)) for number, text in enumerate(texts)]
    store = PageStore(tmp_path_factory.mktemp("store"))
    known = data.draw(st.lists(st.sampled_from(documents), max_size=3)) if documents else []
    for document in known:
        drawn(store.renderer(CONFIG), [document])
    plain, stored = Renderer(CONFIG), store.renderer(CONFIG)
    assert drawn(stored, documents) == drawn(plain, documents)
    assert account(stored) == account(plain)


@pytest.mark.parametrize(
    ("title", "only", "changes"),
    [
        (None, None, {"columns": 2, "font-color": "#aa0000"}),
        ("From the log book", None, {}),
        ("", frozenset({1, 3}), {}),
        (None, frozenset[int](), {"dpi": 120}),
    ],
)
def test_titles_chosen_pages_and_columns(store: PageStore, title: str | None, only: frozenset[int] | None, changes: dict[str, Any]) -> None:
    config = CONFIG.replace(**changes)
    expected = list(Renderer(config).render(PROSE * 3, title, only))
    for _ in range(2):
        assert list(store.renderer(config).render(PROSE * 3, title, only)) == expected
    assert (store.hits, store.misses) == (1, 1)


def test_equal_texts_of_two_documents_share_an_entry(store: PageStore) -> None:
    first, second = Document(PROSE, "first.txt"), Document(PROSE, "second.txt")
    drawn(store.renderer(CONFIG), [first])
    pages = drawn(store.renderer(CONFIG), [second, Document(PROSE)])
    assert {page.document for page in pages} == {"second.txt", None}
    assert (store.hits, len(entries(store))) == (2, 1)


def test_the_same_document_gives_the_same_file(tmp_path: Path) -> None:
    files = []
    for name, before in (("one", []), ("two", [Document(PROSE)])):
        store = PageStore(tmp_path / name)
        # What the same renderer has drawn before leaves no trace.
        drawn(store.renderer(CONFIG), [*before, Document(MIXED)])
        files.append({path.name: path.read_bytes() for path in entries(store)})
    assert files[0].items() < files[1].items()


def test_pages_come_as_they_are_drawn_and_a_part_of_a_document_is_not_kept(store: PageStore) -> None:
    pages = store.renderer(CONFIG).render(PROSE * 40)
    assert [page.number for page in islice(pages, 2)] == [1, 2]
    assert list((store.folder / "unfinished").iterdir()) != []
    del pages
    assert entries(store) == []
    assert list((store.folder / "unfinished").iterdir()) == []
    assert store.hits == 0


def test_what_cannot_be_drawn_is_said_at_once_as_without_a_store(store: PageStore) -> None:
    with pytest.raises(EmptyDocumentError):
        store.renderer(CONFIG).render(" \n")
    with pytest.raises(FontError, match="no such file"):
        store.renderer(CONFIG.replace(font="No Such Font"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[PageStore, Path, bytes, list[Page]]:
    store = PageStore(tmp_path_factory.mktemp("whole"))
    pages = drawn(store.renderer(CONFIG), [Document(MIXED)])
    (path,) = entries(store)
    return store, path, path.read_bytes(), pages


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_drawn_again_and_replaced(whole: tuple[PageStore, Path, bytes, list[Page]], data: st.DataObject) -> None:
    store, path, good, pages = whole
    broken = bytearray(good)
    if data.draw(st.booleans(), "truncated"):
        del broken[data.draw(st.integers(0, len(good) - 1), "length") :]
    for place in data.draw(st.lists(st.integers(0, max(0, len(broken) - 1)), max_size=3), "flipped"):
        if broken:
            broken[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(broken)
    misses = store.misses
    assert drawn(store.renderer(CONFIG), [Document(MIXED)]) == pages
    # Some bytes of a ZIP file mean nothing to a reader; wherever it was drawn again, the file is whole now.
    assert store.misses == misses or path.read_bytes() == good


def test_every_truncation_is_a_miss(whole: tuple[PageStore, Path, bytes, list[Page]]) -> None:
    store, path, good, pages = whole
    for length in {0, 1, 22, len(good) // 2, *range(len(good) - 30, len(good))}:
        path.write_bytes(good[:length])
        misses = store.misses
        assert drawn(store.renderer(CONFIG), [Document(MIXED)]) == pages
        assert (store.misses, path.read_bytes()) == (misses + 1, good)


@pytest.mark.parametrize("foreign", ["another entry", "another archive", "packed", "text"])
def test_a_foreign_file_is_a_miss(store: PageStore, foreign: str) -> None:
    pages = drawn(store.renderer(CONFIG), [Document(MIXED)])
    (path,) = entries(store)
    good = path.read_bytes()
    if foreign == "another entry":
        drawn(store.renderer(CONFIG), [Document(PROSE)])
        (other,) = set(entries(store)) - {path}
        shutil.copy(other, path)
    elif foreign == "text":
        path.write_text("not an archive")
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        if foreign == "another archive":
            members["pages.json"] = b'{"report": {}, "pages": []}'
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    again = store.renderer(CONFIG)
    assert drawn(again, [Document(MIXED)]) == pages
    assert (again.hits, path.read_bytes()) == (0, good)


def test_damage_found_after_some_pages_were_given(store: PageStore) -> None:
    plain = Renderer(CONFIG)
    expected = drawn(plain, [Document(PROSE * 5)])
    drawn(store.renderer(CONFIG), [Document(PROSE * 5)])
    (path,) = entries(store)
    good = path.read_bytes()
    at = good.index(expected[-2].png) + 100
    path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    again = store.renderer(CONFIG)
    assert drawn(again, [Document(PROSE * 5)]) == expected
    assert account(again) == account(plain)
    assert (again.hits, again.misses, path.read_bytes()) == (0, 1, good)


def test_compress_with_a_store(store: PageStore) -> None:
    documents = [Document(PROSE, "a"), Document(MIXED, "b")]
    expected = compress(documents)
    assert compress(documents, store=store) == expected
    assert compress(documents, store=store) == expected
    assert (store.hits, store.misses) == (2, 2)
