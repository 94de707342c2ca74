"""The version of this package, where every room can see it. Knows nothing else."""

from __future__ import annotations

__version__ = "0.1.0"
