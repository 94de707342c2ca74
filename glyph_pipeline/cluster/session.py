"""A connection to a Ray cluster, or a cluster of this machine's own, on loopback and without telemetry. Knows no documents."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TextIO

from glyph_pipeline.background import cores
from glyph_pipeline.cluster.ownfolder import own_folder
from glyph_pipeline.errors import ClusterError, MissingExtraError, UsageError
from glyph_pipeline.serving.signals import exit_on_sigterm, kept_sigterm

# Processes that Ray keeps beyond two a core. By default it keeps one a core and ends others as soon as they are idle, such as those that
# load input while one draws; starting one takes seconds, in which those that wait for it become idle.
_SPARE = 6
# Seconds for the head of a cluster to accept a connection, and to say its first word.
_ANSWER_S = 20.0
# Ray takes the address of this machine's network for a cluster of one machine, and listens on all of them; with this it keeps to
# loopback, as it does elsewhere than on Linux.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_SILENT = {"RAY_USAGE_STATS_ENABLED": "0"}
_QUIET = {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_BACKEND_LOG_LEVEL": "fatal"}


@contextmanager
def session(address: str | None = None, *, num_cpus: int | None = None) -> Iterator[ModuleType]:
    """Ray, connected to the cluster at ``address`` (``auto``: the one this machine belongs to, else ``host:port``), left at the end.

    None starts a cluster of this machine alone, which is ended again: it listens on 127.0.0.1, sends no usage statistics, and its
    files are removed. ``num_cpus``: the cores it uses, all by default. A program that is connected already stays so.
    RAY_ADDRESS counts for ``auto``, as in what ``ray job submit`` runs, and for nothing else: text goes nowhere that was not named.

    Raises MissingExtraError without the extra ``ray``, UsageError for an address of Ray's client, ClusterError if none answers.
    """
    named = os.environ.get("RAY_ADDRESS") if address == "auto" else address
    if named is not None and "://" in named:
        raise UsageError(
            f"{named!r} is an address of Ray's client, by which a stream of results can't be followed.",
            hint="Run the command on the cluster, with --address auto: ray job submit -- glyph-compress ...",
        )
    with _environment({**_SILENT, **({} if _debugging() else _QUIET), **(_LOOPBACK if address is None else {})}):
        ray = _import_ray()
        if ray.is_initialized():
            if address is not None and address != "auto" and ray.get_runtime_context().gcs_address != address:
                raise UsageError(f"This program is connected to {ray.get_runtime_context().gcs_address}, not to {address}.")
            yield ray
            return
        with _connected(ray, address, num_cpus):
            yield ray


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set what Ray reads from the environment when it starts, and then again what stood there before."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _import_ray() -> ModuleType:
    try:
        import ray
        import ray.data
    except ImportError as e:
        raise MissingExtraError("A Ray cluster", "ray", package=e.name or "ray") from None
    return ray


@contextmanager
def _connected(ray: ModuleType, address: str | None, num_cpus: int | None) -> Iterator[None]:
    debugging = _debugging()
    options: dict[str, Any] = {
        "log_to_driver": debugging,
        "logging_level": logging.INFO if debugging else logging.ERROR,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(_addresses(ray, own=address is None))
        if address is None:
            folder = stack.enter_context(own_folder())
            # Below a folder of this user's alone, since Ray opens what it is given to everybody.
            options |= {"address": "local", "num_cpus": num_cpus, "include_dashboard": False, "_temp_dir": f"{folder}/r"}
            # Ray has its processes stand back for all others (nice 15): on a busy machine, next to nothing would be drawn.
            settings = {"num_workers_soft_limit": _SPARE + 2 * (num_cpus or cores()), "worker_niceness": 0}
            options |= {"_node_ip_address": "127.0.0.1", "_system_config": settings}
            stack.enter_context(_token())
        else:
            _check_listening(address)
            options |= {"address": address}
        try:
            with contextlib.nullcontext() if debugging else _without_stderr(), kept_sigterm():
                ray.init(**options)
        except Exception as e:  # of all kinds; a machine so busy that Ray's processes need half a minute is told of by a bare one
            first = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
            if address is not None:
                raise _no_answer(address, first) from e
            raise ClusterError(
                f"No Ray cluster could be started on this machine: {first}",
                hint="Is the machine very busy, or out of memory? GLYPH_DEBUG=1 shows what Ray says.",
            ) from e
        stack.callback(_leave, ray)
        stack.enter_context(exit_on_sigterm())
        if not debugging:
            stack.enter_context(_unheard())
        yield


def _leave(ray: ModuleType) -> None:
    """End the connection. Ray prints then what it had held back of its notices, to standard output."""
    with contextlib.nullcontext() if _debugging() else contextlib.redirect_stdout(io.StringIO()):
        ray.shutdown()


@contextmanager
def _token() -> Iterator[None]:
    """Guard a cluster of our own with a token that nobody else has. Ray would make one, leave it in the home folder, and from then on
    guard every cluster with it that is begun here."""
    if "RAY_AUTH_MODE" in os.environ:
        yield
        return
    try:
        with _environment({"RAY_AUTH_TOKEN": secrets.token_hex(32)}):
            _look_again()
            yield
    finally:
        os.environ.pop("RAY_AUTH_MODE", None)  # which Ray has set
        _look_again()


def _look_again() -> None:
    """Have Ray's compiled half look at the environment again, which it did when it was imported."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _addresses(ray: ModuleType, own: bool) -> Iterator[None]:
    """Whether Ray takes this machine's address on the network for its own, or 127.0.0.1: it decides that when it is imported."""
    constants = getattr(ray._private, "ray_constants", None)
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    if constants is None or before is None:
        yield
        return
    constants.ENABLE_RAY_CLUSTER = not own and (before if next(iter(_LOOPBACK)) in os.environ else not constants.IS_WINDOWS_OR_OSX)
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _debugging() -> bool:
    return bool(os.environ.get("GLYPH_DEBUG"))


def _check_listening(address: str) -> None:
    """Raise ClusterError if no gRPC server answers there, as the head of a cluster is one: Ray itself would try for minutes."""
    if address == "auto":
        return  # Ray knows where that is, and says at once if it doesn't
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"{address!r} is no address of a Ray cluster.", hint="Give --address auto, or HOST:PORT as ray start printed it.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S) as connection:
            speaks = _speaks_http2(connection)
    except TimeoutError as e:
        raise _no_answer(address, f"nothing came within {_ANSWER_S:g} s") from e
    except (OSError, OverflowError, ValueError) as e:  # ValueError: no such name can be
        raise _no_answer(address, str(e)) from e
    if not speaks:
        raise _no_answer(address, "what listens there is no head of a Ray cluster")


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether the other end begins a connection of HTTP/2, on which gRPC stands, with its settings (RFC 9113, section 3.4)."""
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("", "0", "false"):
        return True  # it would have to be asked in TLS
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")  # and our settings, of which there are none
    head = b""
    while len(head) < 9 and (more := connection.recv(9 - len(head))):
        head += more
    return head[3:4] == b"\4"


def _no_answer(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"No Ray cluster answers at {address!r}: {reason.rstrip('.')}.",
        hint="Give --address auto on a machine of the cluster, or the host and port that ray start printed; Ray and Python must have the "
        f"versions of the cluster (here Ray {importlib.metadata.version('ray')}).",
    )


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Keep what Ray's compiled half writes to the descriptor of standard error while it starts: that it was told to be quiet."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep what Ray's own threads print from standard output, which is for results: page after page where a machine is lost."""
    before = sys.stdout
    sys.stdout = _WithoutRay(before)
    try:
        yield
    finally:
        sys.stdout = before


class _WithoutRay:
    """A stream, for all but Ray's threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name.startswith("ray_") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
