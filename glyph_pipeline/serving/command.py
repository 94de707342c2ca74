"""Builds the command line of a vLLM server from model, profile and the user's options. Checks values, starts nothing."""

from __future__ import annotations

import errno
import os
import random
import re
import shlex
import socket
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import psutil

from glyph_pipeline.errors import ConfigError
from glyph_pipeline.serving.flags import drop_repeated, split_flags, take_value
from glyph_pipeline.serving.installation import VLLMInstallation
from glyph_pipeline.serving.profiles import ServerProfile, load_profile

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

DEFAULT_MODEL = "zai-org/Glyph"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000  # vLLM's own
_PORTS = range(20_000, 32_768)  # below those that Linux takes for outgoing connections (net.ipv4.ip_local_port_range)

CPU_SITE = Path(__file__).resolve().parent / "cpu_site"
_MODULE = "vllm.entrypoints.openai.api_server"
_KEY_VARIABLE = "VLLM_API_KEY"
_REPOSITORY_NAME = re.compile(r"[\w.-]+/[\w.-]+")

# What vLLM and the Hugging Face Hub would otherwise send home, and Python's habit of putting the current folder on sys.path.
_OUR_ENV = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONSAFEPATH": "1",
}
# With these a server answers somewhere we do not look, so starting would end in a time-out; better said at once.
_UNSUPPORTED = ("--uds", "--headless", "--ssl-keyfile", "--ssl-certfile", "--root-path")


class ServeOptions(TypedDict, total=False):
    """The options of a launch besides model and profile; see :func:`plan_launch`."""

    host: str
    port: int | None
    max_num_batched_tokens: int | None
    tensor_parallel_size: int | None
    data_parallel_size: int | None
    max_model_len: int | None
    served_model_name: str | None
    extra_args: Sequence[str]
    env: Mapping[str, str] | None


@dataclass(frozen=True)
class LaunchPlan:
    """Everything about one server process before it is started.

    ``env`` is what we add to the inherited environment, ``env_prepend`` holds folders put in front of path-like variables.
    ``api_key`` is the key the server will want, None if it wants none or one of several.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)  # may hold keys
    env_prepend: Mapping[str, str]
    host: str
    port: int
    model: str
    served_model_name: str
    profile: ServerProfile
    log_path: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    forced_env: frozenset[str] = frozenset()

    @property
    def base_url(self) -> str:
        """Where the OpenAI API will be, for a client on this machine: ``http://127.0.0.1:PORT/v1``."""
        host = {"0.0.0.0": DEFAULT_HOST, "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of the child. What the user exported wins over profile and defaults, options win over both."""
        merged = dict(inherited)
        for name, value in self.env.items():
            if name in self.forced_env or name not in inherited:
                merged[name] = value
        for name, folder in self.env_prepend.items():
            merged[name] = os.pathsep.join(filter(None, (folder, merged.get(name))))
        return merged


def plan_launch(
    model: str | Path = DEFAULT_MODEL,
    profile: str | Path | ServerProfile = "auto",
    *,
    host: str = DEFAULT_HOST,
    port: int | None = None,
    max_num_batched_tokens: int | None = None,
    tensor_parallel_size: int | None = None,
    data_parallel_size: int | None = None,
    max_model_len: int | None = None,
    served_model_name: str | None = None,
    extra_args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    vllm: VLLMInstallation | None = None,
    log_path: Path | None = None,
) -> LaunchPlan:
    """Work out the command of a vLLM server, and check it, without starting anything.

    ``port=None`` takes any free port. Sizes are counts (tokens, GPUs). ``extra_args`` are further flags of
    vLLM; one that repeats a flag of the profile or an option here replaces it. Only naming ``host`` opens the server to the network.
    An ``--api-key`` reaches vLLM through its environment: other users may read command lines, and vLLM logs its own.

    Raises ConfigError for a value that cannot be used: port taken or out of range, size below 1, model folder that does not exist.
    """
    name = check_model(model)
    profile = load_profile(profile)
    extra = [str(arg) for arg in extra_args]
    given = {flag.name: flag.value for flag in split_flags(extra)}
    _refuse_unsupported(given)
    if "--port" in given:
        port = _integer("--port", given["--port"])
    host = (given["--host"] or "") if "--host" in given else host
    if not host.strip():  # the system takes an empty one for "all networks", which nobody has asked for
        raise ConfigError("host is empty.", hint=f"Name an address of this machine: {DEFAULT_HOST}, or 0.0.0.0 for all networks.")
    if port is None:
        port = _pick_port(host)
    else:
        _check_port(host, port)
    chosen = _chosen_flags(
        max_num_batched_tokens=max_num_batched_tokens,
        tensor_parallel_size=tensor_parallel_size,
        data_parallel_size=data_parallel_size,
        max_model_len=max_model_len,
        served_model_name=served_model_name,
    )
    network = ["--host", host, "--port", str(port)]
    ours = drop_repeated([*profile.args, *chosen, *network], extra)
    # vLLM takes one key from its environment; several (any of which it accepts) can only stay on its command line.
    args, key = take_value([*ours, *extra], "--api-key")
    env = {**(env or {}), **({_KEY_VARIABLE: key} if key else {})}
    additions = dict(_OUR_ENV)
    if Path(name).is_dir():
        additions["HF_HUB_OFFLINE"] = "1"
    return LaunchPlan(
        argv=(*_program(name, profile, vllm), *args),
        env={**additions, **profile.env, **env},
        env_prepend=_prepended(profile, vllm),
        host=host,
        port=port,
        model=name,
        served_model_name=given.get("--served-model-name") or served_model_name or name,
        profile=profile,
        log_path=log_path,
        api_key=given.get("--api-key") or {**profile.env, **os.environ, **env}.get(_KEY_VARIABLE) or None,
        forced_env=frozenset(env),
    )


def render_command(
    model: str | Path = DEFAULT_MODEL,
    profile: str | Path | ServerProfile = "auto",
    *,
    vllm: VLLMInstallation | None = None,
    **options: Unpack[ServeOptions],
) -> str:
    """The command to type into a shell: the guide's own line, with what the user chose after it and nothing else of ours.

    Raises ConfigError as :func:`plan_launch` does, except that neither the model's folder nor the port is looked at.
    """
    profile = load_profile(profile)
    extra = [str(arg) for arg in options.get("extra_args", ())]
    chosen = _chosen_flags(
        max_num_batched_tokens=options.get("max_num_batched_tokens"),
        tensor_parallel_size=options.get("tensor_parallel_size"),
        data_parallel_size=options.get("data_parallel_size"),
        max_model_len=options.get("max_model_len"),
        served_model_name=options.get("served_model_name"),
    )
    if host := options.get("host"):
        chosen += ["--host", host]
    if (port := options.get("port")) is not None:
        _check_port_range(port)
        chosen += ["--port", str(port)]
    environment = {**profile.env, **(options.get("env") or {})}
    if profile.accelerator == "cpu":
        environment = {"PYTHONPATH": str(CPU_SITE), **environment}
    assignments = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    python = str(vllm.python) if vllm and vllm.python else "python"
    program = [python, "-m", _MODULE, "--model"] if profile.command == "module" else ["vllm", "serve"]
    words = [*program, str(model), *drop_repeated([*profile.args, *chosen], extra), *extra]
    return " ".join([*assignments, shlex.join(words)])


def check_model(model: str | Path) -> str:
    """The model as vLLM is to be given it: an existing folder made absolute, the name of a repository as it is.

    Raises ConfigError for what is clearly meant as a folder but is none, cannot be looked into, or holds no model.
    """
    text = str(model)
    if not text.strip() or text.startswith("-"):
        raise ConfigError(f"{text!r} is not the name of a model.", hint=f"Use a name such as {DEFAULT_MODEL} or a model folder.")
    if "://" in text:
        return text
    try:
        return _check_model_path(model, text)
    except (OSError, RuntimeError, ValueError) as error:  # name too long, no access; no such user after ~; a NUL in it
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise ConfigError(f"The model {text!r} cannot be used: {reason}.", hint="Name a model folder that can be read.") from error


def _check_model_path(model: str | Path, text: str) -> str:
    path = Path(text).expanduser()
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        if not stat.S_ISREG(_mode(path / "config.json")):
            raise ConfigError(
                f"The model folder {path.absolute()} has no config.json.", hint="Name the folder that holds config.json and the weights."
            )
        return str(path.absolute())
    if stat.S_ISREG(mode):
        raise ConfigError(f"The model {path.absolute()} is a file, not a folder.", hint="Name the folder that holds config.json.")
    is_path = isinstance(model, Path) or text.startswith((".", "/", "~")) or (os.sep in text and not _REPOSITORY_NAME.fullmatch(text))
    if is_path:
        raise ConfigError(
            f"The model folder {path.absolute()} doesn't exist.",
            hint=f"Use an existing folder, or the name of a repository such as {DEFAULT_MODEL}.",
        )
    return text


def _mode(path: Path) -> int:
    """What the file system says is there, 0 for nothing. Path.is_dir() would hide or raise other errors, as Python's version has it."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _program(model: str, profile: ServerProfile, vllm: VLLMInstallation | None) -> list[str]:
    python = str(vllm.python) if vllm and vllm.python else None
    command = str(vllm.executable) if vllm and vllm.executable else None
    if profile.command == "module":
        if vllm is not None and python is None:
            raise ConfigError(
                f"The profile {profile.name!r} needs the Python of vLLM, and only the command {command} was found.",
                hint="Set GLYPH_VLLM_PYTHON to the python of the environment that has vLLM.",
            )
        return [python or "python", "-m", _MODULE, "--model", model]
    if command is None and python is not None:  # `python -m vllm...main serve` is what the `vllm` command runs
        return [python, "-m", "vllm.entrypoints.cli.main", "serve", model]
    return [command or "vllm", "serve", model]


def _prepended(profile: ServerProfile, vllm: VLLMInstallation | None) -> dict[str, str]:
    folders: dict[str, str] = {}
    if profile.accelerator == "cpu":
        folders["PYTHONPATH"] = str(CPU_SITE)
    program = vllm and (vllm.python or vllm.executable)
    if program:  # vLLM's kernels are compiled with the ninja of its own environment, looked up on PATH
        folders["PATH"] = str(program.parent)
    return folders


def _chosen_flags(*, served_model_name: str | None, **sizes: int | None) -> list[str]:
    flags: list[str] = []
    for option, value in sizes.items():
        if value is None:
            continue
        if value < 1:
            raise ConfigError(f"{option} = {value} cannot be used: it must be 1 or more.")
        flags += [f"--{option.replace('_', '-')}", str(value)]
    if served_model_name is not None:
        if not served_model_name.strip():
            raise ConfigError("served_model_name is empty.", hint="Give a name, or leave it out to serve the model under its own.")
        flags += ["--served-model-name", served_model_name]
    return flags


def _refuse_unsupported(given: Iterable[str]) -> None:
    given = set(given)
    if "--model" in given:
        raise ConfigError("--model cannot be an extra argument of vLLM here.", hint="Give the model as the model.")
    for flag in _UNSUPPORTED:
        if flag in given:
            raise ConfigError(
                f"{flag} cannot be used for a server that glyph-pipeline starts.", hint="Start vLLM yourself and name its URL."
            )


def _integer(flag: str, value: str | None) -> int:
    try:
        return int(value or "")
    except ValueError:
        raise ConfigError(f"{flag} {value or ''} cannot be used: a whole number is needed.") from None


def _check_port_range(port: int) -> None:
    if not 1 <= port <= 65535:
        raise ConfigError(f"port = {port} cannot be used: it must be between 1 and 65535.")


def _check_port(host: str, port: int) -> None:
    _check_port_range(port)
    if problem := port_problem(host, port):
        raise ConfigError(f"port = {port} on {host} cannot be used: {problem}.", hint="Choose another port, or leave it out.")


def _pick_port(host: str) -> int:
    """A free port, if possible none of those that the system hands out itself: until vLLM binds it, seconds pass."""
    for port in random.Random().sample(_PORTS, 20):  # not the program's own sequence, which may be seeded
        if _bind_problem(host, port, reuse=False) is None:
            return port
    family, address = _resolve(host, 0)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(address)
        except OSError as error:
            raise ConfigError(f"host = {host!r} cannot be used: {error.strerror}.", hint="Name an address of this machine.") from error
        return int(probe.getsockname()[1])


def port_problem(host: str, port: int) -> str | None:
    """Why a server could not listen there now, None if it could. Raises ConfigError for a host that is none."""
    problem = _bind_problem(host, port, reuse=False)
    # A vLLM that is still loading has bound its port without listening, which only a plain bind notices. But a plain bind also
    # stumbles over the closed connections of a server that has just been stopped.
    if problem and _only_closed_connections(port) and _bind_problem(host, port, reuse=True) is None:
        return None
    return problem


def _bind_problem(host: str, port: int, *, reuse: bool) -> str | None:
    family, address = _resolve(host, port)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if reuse:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return "another program uses it" if error.errno == errno.EADDRINUSE else (error.strerror or str(error)).lower()
    return None


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ConfigError(f"host = {host!r} cannot be used: {error.strerror}.", hint="Name an address of this machine.") from error
    return family, (str(address[0]), port)


def _only_closed_connections(port: int) -> bool:
    try:
        states = {connection.status for connection in psutil.net_connections("tcp") if connection.laddr and connection.laddr.port == port}
    except psutil.Error:
        return False
    return bool(states) and psutil.CONN_LISTEN not in states and psutil.CONN_ESTABLISHED not in states
