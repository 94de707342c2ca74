"""Server profiles: the flags and environment vLLM is started with on each kind of machine. Knows TOML files, starts nothing."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from glyph_pipeline.errors import ConfigError
from glyph_pipeline.resources import resource_dir
from glyph_pipeline.serving.accelerator import Accelerator, AcceleratorKind, detect_accelerator

# By name: type checking for 3.10 on a newer Python, where tomli is not installed, must not fail.
tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# These say which server this is, not how it runs: they belong to one launch, not to a profile.
_LAUNCH_FLAGS = ("--model", "--host", "--port", "--served-model-name")


class ServerProfile(BaseModel):
    """How vLLM is started on one kind of machine. Read from ``configs/server/NAME.toml`` or a file of the user's own.

    ``command`` is ``"serve"`` (``vllm serve MODEL ...``) or ``"module"`` (``python -m vllm.entrypoints.openai.api_server``);
    ``args`` are vLLM's flags and ``env`` its environment, both kept in the order of the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "custom"
    description: str = ""
    accelerator: AcceleratorKind
    command: Literal["serve", "module"] = "serve"
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}

    @field_validator("args")
    @classmethod
    def _no_launch_flags(cls, args: tuple[str, ...]) -> tuple[str, ...]:
        for arg in args:
            if arg.partition("=")[0].replace("_", "-") in _LAUNCH_FLAGS:
                raise ValueError(f"{arg} belongs to a launch, not to a profile (pass it when starting the server)")
        return args

    @field_validator("env")
    @classmethod
    def _env_names(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if not _ENV_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of an environment variable (letters, digits and _)")
        return env

    @classmethod
    def load(cls, path: str | Path) -> ServerProfile:
        """Read a profile from a TOML file; its name is the file's stem.

        Raises ConfigError, naming file, key, value and what is allowed.
        """
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"The server profile {path} cannot be read: {error.strerror}.", hint=_shipped_hint()) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"The server profile {path} is not UTF-8 text (byte {error.start}).") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"The server profile {path} is not valid TOML: {error}.") from error
        except ValueError as error:  # a NUL in the path
            raise ConfigError(f"The server profile {str(path)!r} cannot be read: {error}.", hint=_shipped_hint()) from error
        try:
            return cls(**{"name": path.stem, **data})
        except ValidationError as error:
            raise ConfigError(_explain(path, error)) from error


def profile_names() -> tuple[str, ...]:
    """The names of the profiles that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in (resource_dir("configs") / "server").glob("*.toml")))


def load_profile(profile: str | Path | ServerProfile = "auto", *, accelerator: Accelerator | None = None) -> ServerProfile:
    """The profile of that name, of that ``.toml`` file, or, for ``"auto"``, the one that fits this machine.

    ``accelerator`` saves looking for one again. Raises ConfigError for a name that does not exist or a file with mistakes.
    """
    if isinstance(profile, ServerProfile):
        return profile
    if profile == "auto":
        profile = (accelerator or detect_accelerator()).kind
    if isinstance(profile, Path) or profile.endswith(".toml") or "/" in profile:
        try:
            path = Path(profile).expanduser()
        except RuntimeError as error:  # no such user after the ~
            raise ConfigError(f"The server profile {profile} cannot be read: {str(error).rstrip('.')}.", hint=_shipped_hint()) from error
        return ServerProfile.load(path)
    if profile not in profile_names():
        raise ConfigError(f"There is no server profile {profile!r}.", hint=_shipped_hint())
    return ServerProfile.load(resource_dir("configs") / "server" / f"{profile}.toml")


def _shipped_hint() -> str:
    return f"Use auto, {', '.join(profile_names())} or the path of a .toml file."


def _explain(path: Path, error: ValidationError) -> str:
    problems = "; ".join(_problem(detail) for detail in error.errors(include_url=False))
    return f"The server profile {path} cannot be used: {problems}."


def _problem(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key!r} (allowed: {', '.join(ServerProfile.model_fields)})"
    if detail["type"] == "missing":
        field = ServerProfile.model_fields[key]
        return f"the key {key!r} is missing (allowed: {_allowed(field.annotation)})"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    return f"{key} = {detail['input']!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _allowed(annotation: Any) -> str:
    values = getattr(annotation, "__args__", ())
    return ", ".join(repr(value) for value in values) if values else str(annotation)
