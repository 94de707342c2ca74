"""Keeps the server of one plan going: starts it, starts it again when it has died, ends it. Knows not what the server is asked."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from glyph_pipeline.errors import ConfigError, ServerError, ServerStartError
from glyph_pipeline.serving import registry
from glyph_pipeline.serving.command import LaunchPlan, port_problem
from glyph_pipeline.serving.health import DEFAULT_START_TIMEOUT, Health, OnWait, ServerInfo, look, probe, wait_until_ready
from glyph_pipeline.serving.pagefolder import PageFolder
from glyph_pipeline.serving.process import DEFAULT_GRACE, ServerProcess, describe_exit
from glyph_pipeline.serving.signals import exit_on_sigterm, hold_signals

DEFAULT_RESTARTS = 3
DEFAULT_RESTART_WINDOW = 600.0

OnRestart = Callable[[str], object]

# vLLM does not heed SIGTERM while its engine loads, and a server that does not answer has nothing to bring to an end.
_FAILED_GRACE = 3.0
# A vLLM whose engine has died answers 5xx and ends by itself within seconds. One that says nothing may only be very busy: /health
# shares its event loop with the work on images.
_SICK_SECONDS = 10.0
_SILENT_SECONDS = 60.0
_HEALTH_SECONDS = 5.0
# Killed, it first gives back its memory: on a busy machine, or with a GPU's driver in between, that takes longer than ending it should.
_REMAINS_SECONDS = 60.0
_PORT_SECONDS = 15.0  # for whoever may have been given the port meanwhile, such as an outgoing connection, to leave it
_STEP = 0.2


@dataclass(frozen=True)
class RestartRule:
    """How often a server that dies is started again: at most ``restarts`` times within ``window`` seconds; 0 is never.

    Raises ConfigError for values that cannot be used. ``on_restart(sentence)`` is called before each restart, in the thread that
    noticed the death.
    """

    restarts: int = DEFAULT_RESTARTS
    window: float = DEFAULT_RESTART_WINDOW
    on_restart: OnRestart | None = None

    def __post_init__(self) -> None:
        if self.restarts < 0:
            raise ConfigError(f"restarts = {self.restarts} cannot be used: it must be 0 (never) or more.")
        if not self.window > 0:
            raise ConfigError(f"restart_window = {self.window:g} cannot be used: it must be more than 0 seconds.")


class Keeper:
    """A server that was started and is ready, and what it takes to start it again. All methods may be called from any thread.

    ``process`` is the present one, ``info`` what it said, ``model`` the served name, ``restarted`` how often it was started again.
    """

    info: ServerInfo
    model: str

    def __init__(
        self,
        plan: LaunchPlan,
        *,
        timeout: float = DEFAULT_START_TIMEOUT,
        on_wait: OnWait | None = None,
        announce: bool = False,
        rule: RestartRule | None = None,
        folder: PageFolder | None = None,
    ) -> None:
        """Start the server and wait until it is ready; ``timeout`` (seconds) holds for each later start, too.

        ``folder`` is removed with the server. Raises ServerStartError; nothing is left running then.
        """
        self.plan = plan
        self.folder = folder
        self.restarted = 0
        self._timeout = timeout
        self._announce = announce
        self._rule = rule or RestartRule()
        # Kept, not made again: what the program does to its environment later must not change the server.
        self._environment = plan.environment(os.environ)
        self._restart_times: deque[float] = deque()
        self._lock = threading.Lock()  # held for moments only, above all while a process is born: stop() waits for it
        self._stopped = threading.Event()
        self._revival: concurrent.futures.Future[bool | None] | None = None
        with exit_on_sigterm():
            self.process = self._start(plan.log_path)
            try:
                self._make_ready(self.process, on_wait)
            except BaseException:
                self._end(self.process)
                raise

    def revive(self, on_wait: OnWait | None = None) -> bool:
        """Start the server again if it has died: see :meth:`GlyphServer.revive`."""
        while True:
            with self._lock:
                others = self._revival
                ours = self._revival = others or concurrent.futures.Future()
            if others is None:
                return self._lead(ours, on_wait)
            outcome = self._follow(others, on_wait)
            if outcome is not None:
                return outcome

    def stop(self, grace: float = DEFAULT_GRACE) -> None:
        """End the server for good, also one that is just being started again: SIGTERM, ``grace`` seconds, SIGKILL."""
        self._stopped.set()
        with self._lock:  # from here on nothing is started any more
            process = self.process
        try:
            process.stop(grace)
        finally:
            registry.forget(process.pid)
            if self.folder:
                self.folder.remove()

    def _lead(self, revival: concurrent.futures.Future[bool | None], on_wait: OnWait | None) -> bool:
        """Do the work of a revival, and tell those who wait for it what came of it."""
        outcome: bool | None = None  # so it stays after Ctrl-C, for one: then they see to it themselves
        failure: ServerError | None = None
        try:
            with exit_on_sigterm():
                outcome = self._revive(on_wait)
            return outcome
        except ServerError as error:
            failure = error
            raise
        finally:
            with self._lock:
                self._revival = None
            if failure is None:
                revival.set_result(outcome)
            else:
                revival.set_exception(failure)

    def _follow(self, revival: concurrent.futures.Future[bool | None], on_wait: OnWait | None) -> bool | None:
        """What came of the revival that another thread is at; None if that thread has broken it off."""
        began = time.monotonic()
        while not revival.done():
            if self._stopped.is_set():
                return False
            if on_wait is not None:
                on_wait(time.monotonic() - began, self.process.last_log_line())
            concurrent.futures.wait([revival], timeout=_STEP)
        return revival.result()

    def _revive(self, on_wait: OnWait | None) -> bool:
        process = self.process
        how = self._ending(process, on_wait)
        while how is not None and not self._stopped.is_set():
            self._end(process)
            self._await_remains(process, on_wait)
            if self._stopped.is_set():
                break
            self._count_restart(process, how)
            self._await_port(process, on_wait)
            try:
                with hold_signals(), self._lock:
                    if self._stopped.is_set():
                        return False
                    _note(process.log_path, f"--- glyph-pipeline: the server died ({how}) and is started again ---")
                    self.process = self._start(process.log_path)
                if self._make_ready(self.process, on_wait):
                    self.restarted += 1
                    return True
            except ServerError:
                if self._stopped.is_set():
                    return False
                if self.process is process or (code := self.process.wait(_STEP)) is None:
                    self._end(self.process)  # it could not be started at all, or it lives and is of no use
                    raise
                process, how = self.process, f"{describe_exit(code)}, while starting"
            except BaseException:
                self._end(self.process)
                raise
        return False

    def _start(self, log_path: Path | None) -> ServerProcess:
        folder = self.folder.path if self.folder else None
        return ServerProcess(self.plan.argv, env=self._environment, log_path=log_path, scratch=folder)

    def _make_ready(self, process: ServerProcess, on_wait: OnWait | None) -> bool:
        """Wait until it is ready, and announce it; false if it was stopped meanwhile."""
        wait_until_ready(process, self.plan.base_url, timeout=self._timeout, on_wait=on_wait)
        info = probe(self.plan.base_url, api_key=self.plan.api_key, timeout=_SILENT_SECONDS)
        served = info.require(self.plan.served_model_name)
        with self._lock:
            if self._stopped.is_set():
                return False
            if self._announce:
                registry.remember(
                    registry.ServerRecord.of(
                        process.pid, base_url=info.base_url, model=served.id, profile=self.plan.profile.name, log_path=process.log_path
                    )
                )
            self.info, self.model = info, served.id
        return True

    def _ending(self, process: ServerProcess, on_wait: OnWait | None) -> str | None:
        """How it ended, in words; None if it is alive and well. One that is neither has a little time to become either."""
        began = time.monotonic()
        while True:
            if (code := process.poll()) is not None:
                return describe_exit(code)
            health = look(self.plan.base_url, timeout=_HEALTH_SECONDS)
            if health is Health.WELL or self._stopped.is_set():
                return None
            waited = time.monotonic() - began
            if waited > (_SILENT_SECONDS if health is Health.SILENT else _SICK_SECONDS):
                return f"its process ran, but /health did not answer 200 for {waited:.0f} s"
            if on_wait is not None:
                on_wait(waited, process.last_log_line())
            process.wait(_STEP)

    def _end(self, process: ServerProcess) -> None:
        """End it with all it started: children that outlive their parent hold its memory, and perhaps its port."""
        process.stop(_FAILED_GRACE)
        registry.forget(process.pid)

    def _count_restart(self, process: ServerProcess, how: str) -> None:
        """Take note of one more restart, and tell of it. Raises ServerStartError if there were enough of them."""
        rule, times, now = self._rule, self._restart_times, time.monotonic()
        while times and now - times[0] > rule.window:
            times.popleft()
        if len(times) < rule.restarts:
            times.append(now)
            if rule.on_restart is not None:
                allowed = f"{len(times)} of at most {rule.restarts} within {rule.window:g} s"
                rule.on_restart(f"The server died ({how}) and is started again ({allowed}). Log: {process.log_path}")
            return
        cause = process.failure()
        because = f": {cause}" if cause else "."
        if rule.restarts == 0:
            message = f"The server ended by itself ({how}){because}"
        else:
            message = (
                f"The server died {len(times) + 1} times within {now - times[0]:.0f} s and is not started again: at most {rule.restarts} "
                f"restarts within {rule.window:g} s are allowed. The last time ({how}){because}"
            )
        raise ServerStartError(message, log_tail=process.failure_report(), hint=f"The whole log: {process.log_path}")

    def _await_remains(self, process: ServerProcess, on_wait: OnWait | None) -> None:
        """Wait until none of it is left, or it was stopped for good. Raises ServerStartError if some of it survives even SIGKILL: a new
        server would find memory or port taken.
        """
        began = time.monotonic()
        while (left := process.members()) and not self._stopped.is_set():
            waited = time.monotonic() - began
            if waited >= _REMAINS_SECONDS:
                raise ServerStartError(
                    f"Processes of the dead server cannot be ended: {', '.join(map(_describe, left))}.",
                    log_tail=process.log_tail(),
                    hint="A driver may still hold them: wait until they are gone, then start a new server.",
                )
            if on_wait is not None:
                on_wait(waited, process.last_log_line())
            self._stopped.wait(_STEP)

    def _await_port(self, process: ServerProcess, on_wait: OnWait | None) -> None:
        """Wait a little until the port is free. If it stays taken the server is started all the same, and says so itself."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < _PORT_SECONDS and not self._stopped.is_set():
            with contextlib.suppress(ConfigError):  # the host's name cannot be looked up just now
                if port_problem(self.plan.host, self.plan.port) is None:
                    return
            if on_wait is not None:
                on_wait(waited, process.last_log_line())
            self._stopped.wait(_STEP)


def _describe(process: psutil.Process) -> str:
    """Its number, and what it is at as the system calls it: one in ``disk-sleep``, for one, waits for a driver."""
    try:
        return f"{process.pid} ({process.status()}, {process.num_threads()} threads)"
    except psutil.Error:
        return str(process.pid)


def _note(log: Path, line: str) -> None:
    """Write a line of our own into a log, if that is possible: it parts the lives of the server for who reads it."""
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
