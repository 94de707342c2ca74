"""What each stage gets of a cluster: how many readers, how many cores. Arithmetic on what Ray says there is; starts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from glyph_pipeline.cluster.spec import AskSpec
from glyph_pipeline.errors import ClusterError

# Reading input waits for disks and networks more than it computes.
_LOAD_CPUS = 0.25


@dataclass(frozen=True, slots=True)
class Room:
    """Readers, and the cores and GPUs of each task of a stage. The stage that draws gets all cores that the others leave."""

    readers: int
    reader_cpus: float
    reader_gpus: float = 0.0
    draw_cpus: float = 1.0
    load_cpus: float = _LOAD_CPUS


def room_of(ray: ModuleType, spec: AskSpec) -> Room:
    """The room for this job on the connected cluster. Raises ClusterError if its machines can't do it."""
    return divided([node["Resources"] for node in ray.nodes() if node["Alive"]], spec)


def divided(nodes: Sequence[Mapping[str, float]], spec: AskSpec) -> Room:
    """The room, given the resources of each machine (``CPU``, ``GPU``).

    A reader has a core of its own, so that drawing can't slow it down, if a core for drawing is left beside all of them; on
    small machines they share. Raises ClusterError if there is no core, or no GPU for an engine.
    """
    cores = [int(node.get("CPU", 0)) for node in nodes]
    working = sum(count > 0 for count in cores)
    if not working:
        raise ClusterError("No machine of the cluster has a core to draw with.", hint="Start Ray with --num-cpus 1 or more on one of them.")
    engines = spec.engines
    if engines is not None and engines.gpus:
        places = sum(int(node.get("GPU", 0) // engines.gpus) for node in nodes)
        if not places:
            raise ClusterError(
                f"No machine of the cluster has {engines.gpus:g} GPU for an engine.",
                hint="Name running servers (--base-url), read by OCR (--reader ocr), or use the profile cpu with a small model.",
            )
        readers = min(spec.readers or places, places)
        return Room(readers, engines.cpus if _spare(cores, readers, engines.cpus) else 0.0, engines.gpus)
    if engines is not None:
        readers, wanted = spec.readers or working, engines.cpus
    elif spec.ocr:
        readers, wanted = spec.readers or max(1, sum(cores) // 2), 1.0
    else:
        readers, wanted = spec.readers or working, 1.0
    return Room(readers, wanted if _spare(cores, readers, wanted) else 0.0)


def _spare(cores: Sequence[int], readers: int, each: float) -> bool:
    """Whether a whole core is left for drawing wherever Ray places the readers."""
    # A machine with n cores takes at most n // each readers. One whole core is free for certain if the readers can't fill all machines.
    return readers * each <= sum(cores) - len([count for count in cores if count]) and each <= max(cores)
