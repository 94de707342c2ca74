"""Rows between the stages: an id and a value, in Arrow tables, since Ray's object store holds those without copies. Knows no stage."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def table_of(rows: Iterable[tuple[str, object]]) -> pa.Table:
    """Rows as a table: ``id`` (text), ``value`` (bytes: what :func:`packed` makes; PNG files stay as they are in it)."""
    import pyarrow as pa

    # large_binary: the pages of one document may pass 2 GiB together with its neighbours'.
    schema = pa.schema([("id", pa.binary()), ("value", pa.large_binary())])
    return pa.Table.from_pylist([row_of(*row) for row in rows], schema)


def row_of(id: str, value: object) -> dict[str, bytes]:
    """A row of such a table."""
    # A name of a file may hold half a surrogate pair, which Arrow's text can't; nobody reads the column but us.
    return {"id": id.encode("utf-8", "surrogatepass"), "value": packed(value)}


def ids_of(table: pa.Table) -> list[str]:
    """The ids of a table, in order."""
    return [id.decode("utf-8", "surrogatepass") for id in table.column("id").to_pylist()]


def packed_values(table: pa.Table) -> Iterator[Any]:
    """The values of a table as they are stored, one after the other, without a copy."""
    for value in table.column("value"):
        yield value.as_buffer()


def packed(value: object) -> bytes:
    """A value as bytes. What was defined in the user's own program is told along with it."""
    from ray import cloudpickle

    data: bytes = cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)  # type: ignore[no-untyped-call]
    return data


def unpacked(data: Any) -> Any:
    """The value of bytes that :func:`packed` made: both ends are this package, in one version, in one cluster."""
    return pickle.loads(data)
