"""Ends a process with everything it started; run as a program, does so when its own parent dies. Knows nothing of the package.

It is also the watchdog's program (``python tree.py GRACE PARENT [FOLDER]``), so it imports nothing but psutil and the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable

import psutil

_STEP = 0.05
# From SIGKILL to the end of a process that first gives back gigabytes, or waits for a driver, on a machine that has other things to do.
_KILL_SECONDS = 30.0


class ProcessTree:
    """A process that leads its own session, the members of that session, and every descendant seen so far.

    vLLM's engine processes outlive a parent that is killed, and hold the GPU's memory: watching the parent alone is not enough.
    """

    def __init__(self, root: psutil.Process) -> None:
        self.root = root
        self._seen: dict[int, psutil.Process] = {root.pid: root}
        self._lock = threading.RLock()  # one thread may stop what another waits for

    def alive(self) -> list[psutil.Process]:
        """The processes of the tree that still run (zombies do not), the root first; remembers those it had not seen."""
        with self._lock:
            self._seen = {pid: process for pid, process in self._seen.items() if _runs(process)}
            ours = self._owns_group()
            parents: dict[int, int] = {}
            members: set[int] = set()
            for process in psutil.process_iter(["ppid"]):
                parents[process.pid] = process.info["ppid"] or 0
                if ours and _in_group(process.pid, self.root.pid):
                    members.add(process.pid)
            for pid in parents:
                if pid not in self._seen and (pid in members or self._descends(pid, parents)):
                    with contextlib.suppress(psutil.Error):
                        process = psutil.Process(pid)
                        if _runs(process):
                            self._seen[pid] = process
            return list(self._seen.values())

    def signal(self, number: int) -> None:
        """Send a signal to all of it."""
        alive = self.alive()
        if self._owns_group():  # all of the group at once, so that none is missed that is being born
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.root.pid, number)
        for process in alive:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(process.pid) != self.root.pid:
                    process.send_signal(number)

    def terminate(self, grace: float, reap: Callable[[], object] = lambda: None) -> None:
        """Ask all of it to end (SIGTERM), wait ``grace`` seconds, then kill what is left. ``reap`` collects the root's exit status.

        An exception while waiting, such as a second Ctrl-C, cuts the grace short: all is killed before it goes on.
        """
        try:
            if self._gone(reap):
                return
            self.signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline:
                if self._gone(reap):
                    return
                time.sleep(_STEP)
        finally:
            deadline = time.monotonic() + _KILL_SECONDS
            while not self._gone(reap) and time.monotonic() < deadline:
                self.signal(signal.SIGKILL)
                time.sleep(_STEP / 2)

    def _gone(self, reap: Callable[[], object]) -> bool:
        reap()
        return not self.alive()

    def _owns_group(self) -> bool:
        """Whether the group and session of the root's number are still its own.

        The system gives the number to nobody else while the root or a member lives; afterwards it may.
        """
        try:
            return bool(psutil.Process(self.root.pid) == self.root)
        except psutil.NoSuchProcess:
            return True

    def _descends(self, pid: int, parents: dict[int, int]) -> bool:
        passed: set[int] = set()
        while (pid := parents.get(pid, 0)) and pid not in passed:
            if pid in self._seen:
                return True
            passed.add(pid)
        return False


def _runs(process: psutil.Process) -> bool:
    try:
        if not process.is_running():
            return False
        # A process whose main thread has ended is shown as a zombie while its other threads still hold memory and GPU.
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _in_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group or os.getsid(pid) == group
    except (ProcessLookupError, PermissionError):
        return False


def watch(grace: float, parent: int, folder: str | None = None) -> None:
    """Read the number of a process from standard input, then wait: end that process's tree as soon as ``parent`` is gone.

    Then delete ``folder``, too: it holds the user's pages, and nobody else is left to do it.

    The pipe closes when the parent dies, however it dies. A fork of the parent may hold the pipe open: so its number is
    looked at, too. The line ``done`` means that there is nothing left to end.
    """
    received = b""
    tree: ProcessTree | None = None
    while True:
        # In this order: what a parent that is gone has written is there to be read, however late this program came to start.
        gone = os.getppid() != parent
        if not select.select([0], [], [], 0.0 if gone else 1.0)[0]:
            if gone:
                break
            continue
        chunk = os.read(0, 64)
        if not chunk:
            break
        received += chunk
        if b"done" in received:
            return
        if tree is None and b"\n" in received:
            try:
                tree = ProcessTree(psutil.Process(int(received.split(b"\n")[0])))
            except psutil.NoSuchProcess:  # it has ended already; the folder stays while the parent may start another
                if folder is None:
                    return
                received = received.partition(b"\n")[2]
    if tree is not None:
        tree.terminate(grace)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    watch(float(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:4])
