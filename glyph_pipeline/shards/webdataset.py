"""The WebDataset format: a tar file in which the files of one sample stand together. Knows no storage and no plan."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Protocol

from glyph_pipeline.shards.samples import Sample, to_json


class Stream(Protocol):
    """What a shard is written to."""

    def write(self, data: bytes) -> object:
        """Write all of ``data``."""
        ...


class WebDatasetWriter:
    """Writes samples, each as ``KEY.png``, ``KEY.txt`` and ``KEY.json``. The same samples give the same bytes: no times, no owners."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._written = 0

    def add(self, sample: Sample) -> None:
        """Write one sample."""
        for kind, data in _members(sample):
            entry = tarfile.TarInfo(f"{sample.key}.{kind}")
            entry.size = len(data)
            self._write(entry.tobuf(tarfile.USTAR_FORMAT))
            self._write(data)
            self._write(bytes(-len(data) % tarfile.BLOCKSIZE))

    def close(self) -> None:
        """Write the end."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._written % tarfile.RECORDSIZE))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._written += len(data)


def _members(sample: Sample) -> Iterator[tuple[str, bytes]]:
    yield "png", sample.page.png
    yield "txt", sample.text.encode("utf-8")
    yield "json", to_json(sample.facts()).encode("utf-8")
