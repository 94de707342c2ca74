"""Asks a server over HTTP whether it is ready and what it serves. Knows vLLM's small endpoints, sends no text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import httpx

from glyph_pipeline.addresses import uses_environment_proxies
from glyph_pipeline.errors import ConfigError, ServerStartError, ServerUnreachableError, WrongModelError
from glyph_pipeline.serving.process import ServerProcess, describe_exit

DEFAULT_START_TIMEOUT = 1800.0
DEFAULT_PROBE_TIMEOUT = 20.0  # vLLM's event loop also works on images: asked amid a batch, a good server may be silent for seconds
_STEP = 0.2
_LOOK_SECONDS = 2.0  # going through all processes of a large machine takes a while

OnWait = Callable[[float, str], object]


class Health(Enum):
    """What ``/health`` says: 200 is well; another status, or a refused or broken connection, is sick; no answer in time is silent."""

    WELL = "well"
    SICK = "sick"
    SILENT = "silent"


@dataclass(frozen=True)
class ServedModel:
    """A model a server offers: the name to ask for, its context in tokens, and what it was loaded from, where it says so."""

    id: str
    max_model_len: int | None = None
    root: str | None = None


@dataclass(frozen=True)
class ServerInfo:
    """What a server said about itself. ``base_url`` ends in ``/v1``; ``version`` is vLLM's, if it is one."""

    base_url: str
    models: tuple[ServedModel, ...]
    version: str | None = None

    def require(self, model: str | None = None) -> ServedModel:
        """The served model of that name, without a name the first. Raises WrongModelError, which lists those served."""
        for served in self.models:
            if model is None or served.id == model:
                return served
        names = ", ".join(served.id for served in self.models)
        if model is None:
            raise WrongModelError(f"The server at {self.base_url} serves no model.")
        raise WrongModelError(
            f"The server at {self.base_url} does not serve {model!r}. It serves: {names or 'nothing'}.",
            hint="Ask for one of these." if names else None,
        )


def normalize_base_url(url: str) -> str:
    """``http://host:port/v1`` for ``http://host:port``, ``.../v1`` and ``.../v1/``. Raises ConfigError for anything but http(s)."""
    text = url.strip()
    example = "Write it like http://127.0.0.1:8000/v1."
    try:
        parts = urlsplit(text)
        host, _, _ = parts.hostname, parts.port, httpx.URL(text)
    except (ValueError, httpx.InvalidURL) as error:
        raise ConfigError(f"The server URL {url!r} cannot be used: {error}.", hint=example) from None
    if parts.scheme not in ("http", "https") or not host or len(text.split()) > 1:
        raise ConfigError(f"The server URL {url!r} cannot be used: only http:// and https:// URLs are allowed.", hint=example)
    if parts.username or parts.password:
        # not repeated here: messages end up in logs
        raise ConfigError(f"The server URL for {host} holds a user name or password.", hint="Give the secret as the API key.")
    if parts.query or parts.fragment:
        raise ConfigError(f"The server URL {url!r} cannot be used: it has a part after ? or #.", hint=example)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}/v1"


def is_healthy(base_url: str, *, timeout: float = 2.0) -> bool:
    """Whether the server answers ``/health`` with 200 within ``timeout`` seconds."""
    return look(base_url, timeout=timeout) is Health.WELL


def look(base_url: str, *, timeout: float = 2.0) -> Health:
    """What the server's ``/health`` says within ``timeout`` seconds."""
    with _client(base_url, timeout) as client:
        return _health(client, base_url)


def wait_until_ready(
    process: ServerProcess, base_url: str, *, timeout: float = DEFAULT_START_TIMEOUT, on_wait: OnWait | None = None
) -> None:
    """Return once the server we started answers ``/health``; watch its process meanwhile.

    ``timeout`` is in seconds; ``on_wait(seconds, last_log_line)`` is called about five times a second. Raises ServerStartError, with
    the end of the log, as soon as the process dies, or when time is up. The process is left to the caller either way.
    """
    port = urlsplit(base_url).port or 80
    started = looked = time.monotonic()
    with _client(base_url, 2.0) as client:
        while True:
            if not process.is_alive():
                raise _died(process)
            # Somebody else's server may have come first on this port: then ours is about to fail, and must not be taken for it.
            if _health(client, base_url) is Health.WELL and process.listens_on(port) is not False:
                return
            waited = time.monotonic() - started
            if waited > timeout:
                raise ServerStartError(
                    f"The server was not ready after {timeout:g} seconds.",
                    log_tail=process.failure_report(),
                    hint=f"Allow it more time, or look into the log: {process.log_path}",
                )
            if time.monotonic() - looked > _LOOK_SECONDS:
                process.members()
                looked = time.monotonic()
            if on_wait is not None:
                on_wait(waited, process.last_log_line())
            process.wait(min(_STEP, max(timeout - waited, 0.01)))


def probe(base_url: str, *, api_key: str | None = None, timeout: float = DEFAULT_PROBE_TIMEOUT) -> ServerInfo:
    """Ask a server which models it serves. ``timeout`` is in seconds, per request.

    Raises ConfigError for a URL that cannot be used, ServerUnreachableError if nothing usable answers there.
    """
    base_url = normalize_base_url(base_url)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with _client(base_url, timeout) as client:
        try:
            response = client.get(f"{base_url}/models", headers=headers)
        except httpx.HTTPError as error:
            raise _unreachable(base_url, error, timeout) from error
        models = _models(base_url, response, has_key=bool(api_key))
        return ServerInfo(base_url, models, _version(client, base_url))


def _client(base_url: str, timeout: float) -> httpx.Client:
    # A proxy from the environment has no business between us and this machine.
    return httpx.Client(timeout=timeout, trust_env=uses_environment_proxies(base_url))


def _root(base_url: str) -> str:
    return base_url.rstrip("/").removesuffix("/v1")


def _health(client: httpx.Client, base_url: str) -> Health:
    try:
        return Health.WELL if client.get(f"{_root(base_url)}/health").status_code == 200 else Health.SICK
    except httpx.TimeoutException:
        return Health.SILENT
    except httpx.HTTPError:
        return Health.SICK


def _died(process: ServerProcess) -> ServerStartError:
    how = describe_exit(process.poll() or 0)
    why = process.failure()
    return ServerStartError(
        f"The server stopped while starting ({how})" + (f": {why}" if why else "."),
        log_tail=process.failure_report(),
        hint=f"The whole log: {process.log_path}",
    )


def _unreachable(base_url: str, error: httpx.HTTPError, timeout: float) -> ServerUnreachableError:
    start = "Start a server (glyph-compress serve), or check host and port."
    if isinstance(error, httpx.TimeoutException):
        return ServerUnreachableError(f"The server at {base_url} did not answer within {timeout:g} seconds.", hint=start)
    if isinstance(error, httpx.ConnectError):
        return ServerUnreachableError(f"Nothing answers at {base_url}: {error}.", hint=start)
    return ServerUnreachableError(
        f"What answers at {base_url} does not speak HTTP properly: {error}.", hint="Check scheme (http or https), host and port."
    )


def _models(base_url: str, response: httpx.Response, *, has_key: bool) -> tuple[ServedModel, ...]:
    if response.status_code in (401, 403):
        what = "refused the API key" if has_key else "wants an API key"
        raise ServerUnreachableError(f"The server at {base_url} {what} (HTTP {response.status_code}).", hint="Give its API key.")
    if response.status_code != 200:
        raise ServerUnreachableError(
            f"The server at {base_url} answered {base_url}/models with HTTP {response.status_code}.",
            hint="Check that the URL is that of an OpenAI-compatible server.",
        )
    try:
        entries = response.json()["data"]
        return tuple(_served_model(entry) for entry in entries)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ServerUnreachableError(
            f"What answers at {base_url} is not an OpenAI-compatible server: {base_url}/models has no list of models.",
            hint="Check host, port and path of the URL.",
        ) from None


def _served_model(entry: Any) -> ServedModel:
    length, root = entry.get("max_model_len"), entry.get("root")
    return ServedModel(str(entry["id"]), length if isinstance(length, int) else None, str(root) if root else None)


def _version(client: httpx.Client, base_url: str) -> str | None:
    try:
        version = client.get(f"{_root(base_url)}/version").json()["version"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None  # not every OpenAI-compatible server has it
    return str(version)
