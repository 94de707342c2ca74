"""Owns one child process with all its descendants, and its log. Knows no vLLM and no HTTP."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import platformdirs
import psutil

from glyph_pipeline.errors import ServerStartError
from glyph_pipeline.serving import logs, registry, tree
from glyph_pipeline.serving.signals import hold_signals

DEFAULT_GRACE = 15.0
_KEPT_LOGS = 20
_LOG_NAME = re.compile(r"vllm-\d+-\d+-(\d+)-[0-9a-f]+\.log")  # as default_log_path makes it, with our process id
_REAP_SECONDS = 10.0  # from its last breath to its exit status: a large process takes a moment to give back its memory


class ServerProcess:
    """A running child that leads its own session. Ending it ends everything it started.

    It is ended by :meth:`stop`, by leaving a ``with`` block, when this object is forgotten, when Python exits, and, through a
    small watchdog process, when Python is killed.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log_path: str | Path | None = None,
        scratch: Path | None = None,
    ) -> None:
        """Start ``argv`` with exactly the environment ``env`` (default: ours); its output goes to the end of ``log_path``.

        ``scratch`` is a folder of ours that the watchdog deletes, too, when Python is killed and can't do so itself.

        Raises ServerStartError if the log cannot be written or the program not be started.
        """
        self.argv = tuple(argv)
        self.log_path = Path(log_path).expanduser().absolute() if log_path else default_log_path()
        log = _open_log(self.log_path)
        child: _Child | None = None
        try:
            self._log_start = os.fstat(log).st_size
            # A Ctrl-C between the birth of the child and our taking note of it would leave it behind.
            with hold_signals():
                self._child = child = _Child(self.argv, env, log, scratch)
                # atexit stays at its default: the finalizer also runs when Python exits
                self._finalizer = weakref.finalize(self, self._child.stop, DEFAULT_GRACE)
        except OSError as error:
            raise ServerStartError(
                f"{self.argv[0]} could not be started: {error.strerror or error}.", hint="Check the installation of vLLM."
            ) from error
        except BaseException:
            if child:
                child.stop(DEFAULT_GRACE)
            raise
        finally:
            os.close(log)

    @property
    def pid(self) -> int:
        """The process id; also the id of its group and session."""
        return self._child.popen.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._child.popen.poll()

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.poll() is None

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait up to ``timeout`` seconds for it to end by itself: the exit code, or None if it still runs."""
        try:
            return self._child.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def members(self) -> list[psutil.Process]:
        """The process and all it started that still runs. Each call notes its descendants: :meth:`stop` then knows them, too, should
        they leave the group.
        """
        return self._child.tree.alive()

    def listens_on(self, port: int) -> bool | None:
        """Whether a process of this tree listens on that TCP port; None if the system does not tell."""
        try:
            connections = psutil.net_connections("tcp")
        except psutil.Error:
            return None
        members = {process.pid for process in self.members()}
        return any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid in members for c in connections)

    def log_tail(self, lines: int = 25) -> str:
        """The last lines it wrote."""
        return logs.tail(self.log_path, lines, start=self._log_start)

    def last_log_line(self) -> str:
        """The last line it wrote, or an empty string."""
        return logs.last_line(self.log_path, start=self._log_start)

    def failure(self) -> str:
        """The line of the log that says best why it failed, or an empty string."""
        return logs.failure(self.log_path, start=self._log_start)

    def failure_report(self, lines: int = 25) -> str:
        """The last lines of the log, with the errors from further up above them."""
        return logs.report(self.log_path, lines, start=self._log_start)

    def stop(self, grace: float = DEFAULT_GRACE) -> int | None:
        """End it and everything it started: SIGTERM, up to ``grace`` seconds of patience, SIGKILL. The exit code.

        Harmless when it has ended already, and from several threads at once: each returns when all is over.
        """
        self._child.stop(grace)
        self._finalizer.detach()
        return self.poll()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()


class _Child:
    """What ends the process. Apart from ServerProcess, because a finalizer must not hold on to what it is to finalize."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None, log: int, scratch: Path | None) -> None:
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._stopped = False
        self._watchdog = _start_watchdog(scratch)
        try:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True)
        except BaseException:
            _tell(self._watchdog, b"done\n", last=True)
            raise
        self.tree = tree.ProcessTree(psutil.Process(self.popen.pid))
        _tell(self._watchdog, b"%d\n" % self.popen.pid)

    def stop(self, grace: float) -> None:
        if os.getpid() != self._owner:  # a fork of our process inherits its exit handlers, but not its children
            return
        with self._lock:
            if self._stopped:
                return
            self.tree.terminate(grace, self.popen.poll)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(_REAP_SECONDS)
            self._stopped = True
            _tell(self._watchdog, b"done\n", last=True)


def _start_watchdog(scratch: Path | None) -> subprocess.Popen[bytes] | None:
    """The process that ends ours if we are killed; None where it cannot be started, which is no reason not to serve."""
    if not sys.executable:
        return None
    with contextlib.suppress(OSError):
        return subprocess.Popen(
            [
                sys.executable,
                str(Path(tree.__file__).resolve()),
                str(DEFAULT_GRACE),
                str(os.getpid()),
                *([str(scratch)] if scratch else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return None


def _tell(watchdog: subprocess.Popen[bytes] | None, message: bytes, *, last: bool = False) -> None:
    if watchdog is None or watchdog.stdin is None:
        return
    with contextlib.suppress(OSError):  # it has died: then there is nobody to tell
        watchdog.stdin.write(message)
        watchdog.stdin.flush()
    if last:
        with contextlib.suppress(OSError):
            watchdog.stdin.close()
        try:
            watchdog.wait(5)
        except subprocess.TimeoutExpired:
            watchdog.kill()
            watchdog.wait()


def describe_exit(code: int) -> str:
    """An exit code in words: ``exit code 1``, ``killed by SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}" + (", as the system does when memory runs out" if code == -signal.SIGKILL else "")


def default_log_path() -> Path:
    """A new log file's path in the user's log folder, else in the temporary one; the oldest logs there that nobody writes are deleted."""
    folder = platformdirs.user_log_path("glyph-pipeline", appauthor=False) / "servers"
    name = f"vllm-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{threading.get_ident() & 0xFFFF:x}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _delete_old_logs(folder)
        if os.access(folder, os.W_OK):
            return folder / name
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="glyph-server-")) / name


def _delete_old_logs(folder: Path) -> None:
    old = sorted(folder.glob("vllm-*.log"))[: -_KEPT_LOGS + 1]
    if not old:
        return
    in_use = registry.logs_in_use()
    for path in old:
        # A server ends with the process that launched it, whose id is in the name. An id given anew keeps a log longer, no more.
        launcher = _LOG_NAME.fullmatch(path.name)
        if str(path) not in in_use and not (launcher and psutil.pid_exists(int(launcher[1]))):
            path.unlink(missing_ok=True)


def _open_log(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # for us alone: a log may hold what was asked
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise ServerStartError(
            f"The log file {path} cannot be written: {error.strerror}.", hint="Choose another place for the log."
        ) from error
