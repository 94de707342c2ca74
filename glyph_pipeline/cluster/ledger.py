"""The ledger: which items are under way on which stage, so that one that kills its workers is found out. Knows no documents."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

# Ray begins a task anew for as long as its workers die, and it would do so for ever with a document that takes all memory. An item
# whose process died beside others is tried alone, so that it is known whose fault it is; so often, and no more.
TRIES_ALONE = 2
# A machine that is lost with an item under way says nothing of the item; several in a row may.
LOST_MACHINES = 3
# Notices of requests that are sent again, kept for the driver; there may be thousands, and one a minute is shown.
_NOTICES = 100


class Ledger:
    """Items by stage: begun together with others, begun alone, done. An actor beside the driver; it waits for nothing.

    ``machines`` gives the ids of the machines that live; by default those that Ray knows.
    """

    def __init__(self, machines: Callable[[], set[str]] | None = None) -> None:
        self._machines = machines or _living
        self._begun: dict[tuple[str, str], str] = {}
        self._losses: Counter[tuple[str, str]] = Counter()
        self._alone: Counter[tuple[str, str]] = Counter()
        self._notices: deque[tuple[str, str, float]] = deque(maxlen=_NOTICES)
        self._readers = 0

    def begin(self, stage: str, ids: Sequence[str], machine: str) -> list[str]:
        """Items are taken up together on a machine. Those of them that were under way when a process died are to be done alone: they
        are returned.

        An item that was begun and is begun again, without having been done in between, was under way when its process died, or its
        machine with all that was on it.
        """
        again = [id for id in ids if (stage, id) in self._begun]
        living = self._machines() if again else set()
        suspects = []
        for id in again:
            lost = self._begun[stage, id] not in living
            self._losses[stage, id] += lost
            if not lost or self._losses[stage, id] > LOST_MACHINES:
                suspects.append(id)
        for id in ids:
            self._begun[stage, id] = machine
        return suspects

    def begin_alone(self, stage: str, id: str) -> bool:
        """A suspect is taken up, alone; False if it has killed its process so often that it is not to be tried again."""
        self._alone[stage, id] += 1
        return self._alone[stage, id] <= TRIES_ALONE

    def done(self, stage: str, ids: Sequence[str]) -> None:
        """Items are done, or failed in an orderly way. Ray may still do them again, if the machine that holds what they gave is lost."""
        for id in ids:
            self._begun.pop((stage, id), None)
            self._losses.pop((stage, id), None)
            self._alone.pop((stage, id), None)

    def reader_begins(self) -> None:
        """A reader stands on its machine, and has the GPUs that it was to have; its engine is still to start."""
        self._readers += 1

    def has_readers(self) -> bool:
        """Whether any has begun."""
        return self._readers > 0

    def notify(self, id: str, reason: str, seconds: float) -> None:
        """A request of this item failed and is sent again."""
        self._notices.append((id, reason, seconds))

    def notices(self) -> list[tuple[str, str, float]]:
        """What :meth:`notify` was told since the last call."""
        found = list(self._notices)
        self._notices.clear()
        return found


def _living() -> set[str]:
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
