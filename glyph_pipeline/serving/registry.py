"""Remembers, in small files, which servers this user has running. Knows processes by id and start time, asks nothing over HTTP.

A home folder, and these files with it, may be shared by several machines: what another one wrote is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs
import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from glyph_pipeline.addresses import is_loopback
from glyph_pipeline.errors import OutputError

STATE_DIR_VARIABLE = "GLYPH_STATE_DIR"
# A process's start time is reckoned from the time of boot, which shifts a little when the clock is set right.
_CLOCK_SECONDS = 2.0


class ServerRecord(BaseModel):
    """One running server. ``created`` is the start of its process in seconds since 1970, ``started_at`` the same to read.

    ``hostname`` is the machine it runs on, empty in a record of an earlier version: this one.
    """

    model_config = ConfigDict(frozen=True)

    base_url: str
    pid: int
    created: float
    model: str
    profile: str
    log_path: str | None = None
    started_at: str = ""
    hostname: str = ""

    @classmethod
    def of(cls, pid: int, *, base_url: str, model: str, profile: str, log_path: Path | None) -> ServerRecord:
        """A record of a process that runs now."""
        created = psutil.Process(pid).create_time()
        return cls(
            base_url=base_url,
            pid=pid,
            created=created,
            model=model,
            profile=profile,
            log_path=str(log_path) if log_path else None,
            started_at=datetime.fromtimestamp(created, timezone.utc).isoformat(timespec="seconds"),
            hostname=socket.gethostname(),
        )

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine, where alone its process id means anything."""
        return self.hostname in ("", socket.gethostname())

    def runs(self) -> bool:
        """Whether that very process still runs, and not another that was given its number."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) <= _CLOCK_SECONDS and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def state_dir() -> Path:
    """The folder of the records: $GLYPH_STATE_DIR, else ``servers`` in the user's state folder."""
    if chosen := os.environ.get(STATE_DIR_VARIABLE):
        return Path(chosen).expanduser()
    return platformdirs.user_state_path("glyph-pipeline", appauthor=False) / "servers"


def remember(record: ServerRecord) -> Path:
    """Write a record, all of it or nothing. Raises OutputError if that is not possible."""
    folder = state_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")  # created with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(record.model_dump_json(indent=2) + "\n")
            path = folder / _file_name(record.pid)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"The running server could not be noted in {folder}: {error.strerror}.", hint=f"Set {STATE_DIR_VARIABLE} to another folder."
        ) from error
    return path


def forget(pid: int) -> None:
    """Remove the record of a server that was stopped, if there is one."""
    with contextlib.suppress(OSError):
        (state_dir() / _file_name(pid)).unlink()


def running_servers() -> list[ServerRecord]:
    """The records of servers that still run on this machine, the latest first. Deletes those of servers that do not."""
    records: list[ServerRecord] = []
    for path, record in _records():
        if not record.is_local:
            continue
        if record.runs():
            records.append(record)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return sorted(records, key=lambda record: record.created, reverse=True)


def logs_in_use() -> set[str]:
    """The paths of the logs that a server may still write: one that runs here, or on another machine, where we cannot look."""
    return {record.log_path for _, record in _records() if record.log_path and (not record.is_local or record.runs())}


def _file_name(pid: int) -> str:
    # With the machine's name: another one may have a process of the same number.
    return f"{pid}-{re.sub(r'[^A-Za-z0-9.-]', '_', socket.gethostname())}.json"


def _records() -> Iterator[tuple[Path, ServerRecord]]:
    for path in state_dir().glob("*.json"):
        if record := _read(path):
            yield path, record


def _read(path: Path) -> ServerRecord | None:
    """A record we may trust: written by this user, well-formed, and of a server on this machine. Documents are sent there."""
    try:
        if path.stat().st_uid != os.getuid():
            return None
        record = ServerRecord.model_validate_json(path.read_bytes())
        parts = urlsplit(record.base_url)
    except (OSError, ValidationError, ValueError):
        return None
    return record if parts.scheme == "http" and is_loopback(parts.hostname or "") else None
