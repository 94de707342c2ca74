"""What each stage gets of a cluster: how many readers, how many cores. Arithmetic on what Ray says there is; starts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from glyph_pipeline.cluster.spec import AskSpec
from glyph_pipeline.errors import ClusterError

# Reading input waits for disks and networks more than it computes.
_LOAD_CPUS = 0.25
# A reader holds next to nothing: after a machine is lost all readers stand on those that are left, and a core that they held there for
# good would be missed by drawing, for ever. It keeps them off machines that are to do no work (no core at all).
_READER_CPUS = 0.01
# So that a task that draws fits beside ten readers on a machine of one core.
_DRAW_CPUS = 0.9


@dataclass(frozen=True, slots=True)
class Room:
    """Readers with the GPUs of each, and how many tasks draw at a time: a core for each reader is left, if there are more."""

    readers: int
    drawing: int
    reader_gpus: float = 0.0
    reader_cpus: float = _READER_CPUS
    draw_cpus: float = _DRAW_CPUS
    load_cpus: float = _LOAD_CPUS


def room_of(ray: ModuleType, spec: AskSpec) -> Room:
    """The room for this job on the connected cluster. Raises ClusterError if its machines can't do it."""
    return divided([node["Resources"] for node in ray.nodes() if node["Alive"]], spec)


def engines_fit(ray: ModuleType, room: Room) -> bool:
    """Whether a machine that lives has the GPUs of one reader, free or not; True if readers need none."""
    return not room.reader_gpus or any(
        node["Resources"].get("GPU", 0) >= room.reader_gpus and node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]
    )


def divided(nodes: Sequence[Mapping[str, float]], spec: AskSpec) -> Room:
    """The room, given the resources of each machine (``CPU``, ``GPU``). Raises ClusterError if there is no core, or no GPU for an engine."""
    cores = [int(node.get("CPU", 0)) for node in nodes]
    working = sum(count > 0 for count in cores)
    if not working:
        raise ClusterError("No machine of the cluster has a core to draw with.", hint="Start Ray with --num-cpus 1 or more on one of them.")
    engines = spec.engines
    gpus = 0.0 if engines is None else engines.gpus
    if gpus:
        places = sum(int(node.get("GPU", 0) // gpus) for node in nodes if node.get("CPU", 0))
        if not places:
            raise ClusterError(
                f"No machine of the cluster has {gpus:g} GPU for an engine, and a core beside it.",
                hint="Name running servers (--base-url), read by OCR (--reader ocr), or use the profile cpu with a small model.",
            )
        readers = min(spec.readers or places, places)
    else:
        readers = spec.readers or (max(1, sum(cores) // 2) if spec.ocr else working)
        readers = min(readers, spec.concurrency)  # or they would send more at a time than they may together
    return Room(readers, max(1, sum(cores) - readers), gpus)
