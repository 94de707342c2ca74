"""The Parquet format: a row a page, in row groups of bounded size. Knows no storage and no plan."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from glyph_pipeline.errors import MissingExtraError
from glyph_pipeline.shards.samples import Sample, encodable
from glyph_pipeline.shards.webdataset import Stream

if TYPE_CHECKING:
    import pyarrow as pa

# Bytes of pictures, texts and metadata in a row group at most, unless one page has more: what writing and reading hold at a time.
ROW_GROUP_BYTES = 64_000_000
# Rows after which it is looked whether a data page is full (1 MB): of pictures each is 50 kB or more.
_BATCH_ROWS = 16
# Many rows have the same in these.
_REPEATED = ["id", "document", "config", "metadata"]
# Pictures are packed already. Arrow calls what a list holds "item" or "element", by its version.
_PACKED = ["text", "lines.list.element", "lines.list.item", *_REPEATED]
# Bounds that help to find a document; of pictures and texts they would only take room.
_BOUNDED = ["id", "document", "page"]


def schema() -> pa.Schema:
    """The columns. Raises MissingExtraError without pyarrow."""
    pa = arrow()
    required = [
        ("id", pa.string()),
        ("document", pa.string()),
        ("page", pa.int32()),
        ("pages", pa.int32()),
        ("text", pa.string()),
        ("png", pa.binary()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("vision_tokens", pa.int32()),
        ("dpi", pa.int32()),
        ("lines", pa.list_(pa.string())),
        ("columns", pa.list_(pa.list_(pa.int32()))),
        ("config", pa.string()),
        ("metadata", pa.string()),
    ]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in required])


class ParquetWriter:
    """Writes samples as rows. The same samples give the same bytes with one version of pyarrow. Raises MissingExtraError."""

    def __init__(self, stream: Stream) -> None:
        self._schema = schema()
        import pyarrow.parquet as pq

        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names if name != "png"}
        # One buffer, which Arrow takes as it is: from a list of pictures it would make three times as much.
        self._pictures = bytearray()
        self._ends = array("i")
        self._weight = 0
        self._writer = pq.ParquetWriter(
            stream,
            self._schema,
            compression=dict.fromkeys(_PACKED, "zstd"),
            use_dictionary=_REPEATED,
            write_statistics=_BOUNDED,
            write_batch_size=_BATCH_ROWS,
        )

    def add(self, sample: Sample) -> None:
        """Write one row, or keep it until there are enough for a row group."""
        # Characters for bytes of text, which are four of them at most.
        weight = sum(map(len, (sample.page.png, sample.text, *sample.page.lines, sample.origin.config_json, sample.origin.metadata_json)))
        if self._ends and self._weight + weight > ROW_GROUP_BYTES:
            self._flush()
        self._weight += weight
        row = sample.facts() | {"text": sample.text}
        row["columns"] = row.get("columns", [])
        row["config"], row["metadata"] = sample.origin.config_json, sample.origin.metadata_json
        row["id"], row["document"] = encodable(row["id"]), encodable(row["document"])
        for name, column in self._columns.items():
            column.append(row[name])
        self._pictures += sample.page.png
        self._ends.append(len(self._pictures))

    def close(self) -> None:
        """Write what is kept, and the end."""
        if self._ends:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        pa, rows = arrow(), len(self._ends)
        starts = array("i", [0, *self._ends])
        arrays = [
            pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(starts), pa.py_buffer(self._pictures)])
            if field.name == "png"
            else pa.array(self._columns[field.name], field.type)
            for field in self._schema
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=rows)
        self._pictures, self._ends, self._weight = bytearray(), array("i"), 0
        for column in self._columns.values():
            column.clear()


def arrow() -> Any:
    """The module ``pyarrow``. Raises MissingExtraError."""
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("Writing Parquet", "data", package="pyarrow") from None
    return pyarrow
