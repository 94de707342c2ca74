"""Ray Data's settings while a job of ours runs. Knows no job."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# Bytes of a block between stages: what is larger is split, so a long document travels alone.
BLOCK_BYTES = 1 << 20


@contextmanager
def data_settings(ray: ModuleType, deaths: int = 0) -> Iterator[None]:
    """Set them, and then again what stood there before. ``deaths``: of actors that are starting, in a row, before the job is given up."""
    context = ray.data.DataContext.get_current()
    wanted = {
        "target_max_block_size": BLOCK_BYTES,
        "target_min_block_size": 0,
        "max_errored_blocks": -1,  # they are done again, in the next pass
        "max_consecutive_actor_init_deaths": deaths,
        "enable_progress_bars": False,
        "print_on_execution_start": False,
    }
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
    for name in before:
        setattr(context, name, wanted[name])
    logger = logging.getLogger("ray.data")
    level = logger.level
    if not os.environ.get("GLYPH_DEBUG"):
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module=r"ray\.data\.")  # advice on numbers of blocks
            warnings.filterwarnings("ignore", message=".*ray_remote_args.* is deprecated")
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
