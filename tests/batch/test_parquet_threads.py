"""Parquet is read in the thread that asks for it: a thread of Arrow's that holds a Python stream when Python ends makes it abort."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from glyph_pipeline import storage
from glyph_pipeline.batch import read_items, rowgroups
from glyph_pipeline.batch.partformats import ParquetParts

pa = pytest.importorskip("pyarrow")
ROWS = 3000


class Watched(io.BytesIO):
    """Bytes that notes which threads read them."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.readers: set[int] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        self.readers.add(threading.get_ident())
        return super().read(size)


def test_of_results() -> None:
    parts = ParquetParts()
    rows = [parts.row({"id": str(n), "status": "failed" if n % 2 else "ok", "question": f"{n}?"}, b"") for n in range(ROWS)]
    data = parts.encode(rows)
    first, second = Watched(data), Watched(data)
    assert len(list(parts.statuses(first))) == ROWS
    assert len(list(parts.statuses(io.BytesIO(parts.without_failed(second))))) == ROWS // 2
    assert first.readers == second.readers == {threading.get_ident()}


def test_of_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    column = [f"{n}: " + "x" * 50 for n in range(ROWS)]
    pq.write_table(pa.table({"id": column, "text": column, "path": [None] * ROWS, "question": column}), tmp_path / "in.parquet")
    streams: list[Watched] = []

    def watched(place: storage.Place) -> Watched:
        streams.append(Watched(Path(place).read_bytes()))
        return streams[-1]

    monkeypatch.setattr(rowgroups.storage, "open_read", watched)
    items = read_items(tmp_path / "in.parquet")
    assert list(items.ids) == column
    assert len(list(items)) == ROWS
    assert streams
    assert {thread for stream in streams for thread in stream.readers} == {threading.get_ident()}
