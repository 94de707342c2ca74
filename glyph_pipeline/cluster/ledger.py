"""The ledger: which items are under way on which stage, so that one that kills its workers is found out. Knows no documents."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from types import ModuleType
from typing import Any

# Ray begins a task anew for as long as its workers die, and it would do so for ever with a document that takes all memory. An item
# whose worker died beside others is tried alone, so that it is known whose fault it is; so often, and no more.
TRIES_ALONE = 2
# Notices of requests that are sent again, kept for the driver; there may be thousands, and one a minute is shown.
_NOTICES = 100


class Ledger:
    """Items by stage: begun together with others, begun alone, done. An actor runs it (:func:`start_ledger`); it waits for nothing."""

    def __init__(self) -> None:
        self._suspects: dict[str, set[str]] = {}
        self._alone: dict[str, Counter[str]] = {}
        self._notices: deque[tuple[str, str, float]] = deque(maxlen=_NOTICES)

    def begin(self, stage: str, ids: Sequence[str]) -> list[str]:
        """Items are taken up together. Those of them that were under way when a worker died are to be done alone: they are returned.

        An item that was begun and is begun again, without having been done in between, was under way when a worker died.
        """
        begun = self._suspects.setdefault(stage, set())
        suspects = [id for id in ids if id in begun]
        begun.update(ids)
        return suspects

    def begin_alone(self, stage: str, id: str) -> bool:
        """A suspect is taken up, alone; False if it has killed its worker so often that it is not to be tried again."""
        counts = self._alone.setdefault(stage, Counter())
        counts[id] += 1
        return counts[id] <= TRIES_ALONE

    def done(self, stage: str, ids: Sequence[str]) -> None:
        """Items are done, or failed in an orderly way. Ray may still do them again, if the node that holds what they gave is lost."""
        self._suspects.get(stage, set()).difference_update(ids)
        alone = self._alone.get(stage)
        if alone:
            for id in ids:
                alone.pop(id, None)

    def notify(self, id: str, reason: str, seconds: float) -> None:
        """A request of this item failed and is sent again."""
        self._notices.append((id, reason, seconds))

    def notices(self) -> list[tuple[str, str, float]]:
        """What :meth:`notify` was told since the last call."""
        found = list(self._notices)
        self._notices.clear()
        return found


def start_ledger(ray: ModuleType) -> Any:
    """The handle of a ledger beside the driver: if that machine is lost, so is the job. It takes no core."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Ledger).remote()
