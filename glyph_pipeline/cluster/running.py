"""Running a dataset of ours: rows in as blocks, rows out as they come, an actor beside the driver. Knows no stage."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from glyph_pipeline.cluster.rows import ids_of, packed_values, row_of, unpacked
from glyph_pipeline.errors import BrokenOffError

# Blocks that input is handed over in, each with one row or several: each takes the driver some time and memory.
_MOST_BLOCKS = 4096


def handed_over(ray: ModuleType, rows: Sequence[tuple[str, object]]) -> tuple[Any, int]:
    """A dataset of rows, one a block if there are not too many of them, and the number of its blocks.

    from_arrow would give each block to a task that counts its rows, and asks for a whole core. A small machine may not have one, as long
    as actors of the pass before are not quite gone.
    """
    count = min(len(rows), _MOST_BLOCKS)
    return ray.data.from_items([row_of(*row) for row in rows], override_num_blocks=count), count


def streamed(dataset: Any) -> Generator[list[tuple[str, Any]], None, None]:
    """The ids and values of a dataset's rows, block by block, as they come."""
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield list(zip(ids_of(table), map(unpacked, packed_values(table)), strict=True))


@contextmanager
def breaking_off(ray: ModuleType) -> Iterator[None]:
    """Turn what Ray raises in the block into BrokenOffError."""
    try:
        yield
    except ray.exceptions.RayError as e:
        first = next((line for line in str(e).splitlines() if line.strip()), type(e).__name__)
        raise BrokenOffError(
            f"The cluster broke off ({type(e).__name__}): {first}", hint="See to it, then run it again: what is done stays done."
        ) from e


def beside_driver(ray: ModuleType, make: Callable[[], object]) -> Any:
    """The handle of an actor on the driver's machine: if that is lost, so is the job. It takes no core."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(make).remote()
