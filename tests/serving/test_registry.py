"""Records of running servers: written whole and private, trusted only if they are ours, true and local."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glyph_pipeline.errors import OutputError
from glyph_pipeline.serving import ServerRecord, registry, running_servers


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.communicate()


def record_of(pid: int, base_url: str = "http://127.0.0.1:8000/v1") -> ServerRecord:
    return ServerRecord.of(pid, base_url=base_url, model="m", profile="cpu", log_path=Path("/log"))


def test_round_trip_in_private_files(process: subprocess.Popen[bytes]) -> None:
    record = record_of(process.pid)
    path = registry.remember(record)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert running_servers() == [record]
    assert list(path.parent.iterdir()) == [path]  # nothing temporary left
    registry.forget(process.pid)
    assert running_servers() == []
    registry.forget(process.pid)


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GLYPH_STATE_DIR")
    assert registry.state_dir() == tmp_path / "xdg_state_home" / "glyph-pipeline" / "servers"
    assert running_servers() == []


def test_a_server_that_ended_is_forgotten(process: subprocess.Popen[bytes]) -> None:
    path = registry.remember(record_of(process.pid))
    process.kill()
    process.wait()
    assert running_servers() == []
    assert not path.exists()


def test_a_zombie_does_not_count(process: subprocess.Popen[bytes]) -> None:
    registry.remember(record_of(process.pid))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but not collected
    assert running_servers() == []


def test_a_recycled_number_is_no_server(process: subprocess.Popen[bytes]) -> None:
    record = record_of(process.pid)
    path = registry.remember(record.model_copy(update={"created": record.created - 60}))
    assert running_servers() == []
    assert not path.exists()


@pytest.mark.parametrize(
    "url", ["http://example.com/v1", "http://10.0.0.1:8000/v1", "https://127.0.0.1/v1", "http://127.0.0.1.evil.example/v1", "x"]
)
def test_other_machines_are_not_trusted(process: subprocess.Popen[bytes], url: str) -> None:
    registry.remember(record_of(process.pid, url))
    assert running_servers() == []


def test_localhost_is_trusted(process: subprocess.Popen[bytes]) -> None:
    for url in ("http://localhost:1/v1", "http://[::1]:1/v1"):
        registry.remember(record_of(process.pid, url))
        assert running_servers()[0].base_url == url


def test_another_machines_records_are_left_alone(process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node/1")
    theirs = registry.remember(record_of(process.pid).model_copy(update={"created": 1.0}))
    monkeypatch.setattr("socket.gethostname", lambda: "node2")
    assert running_servers() == []
    ours = registry.remember(record_of(process.pid))
    assert [record.hostname for record in running_servers()] == ["node2"]
    assert registry.logs_in_use() == {"/log"}
    registry.forget(process.pid)
    assert not ours.exists()
    assert theirs.exists()
    assert registry.logs_in_use() == {"/log"}  # its server may run, as far as can be told from here
    monkeypatch.setattr("socket.gethostname", lambda: "node/1")
    assert running_servers() == []
    assert not theirs.exists()


def test_a_record_without_a_machine_is_of_this_one(process: subprocess.Popen[bytes]) -> None:
    path = registry.state_dir() / f"{process.pid}.json"
    path.parent.mkdir()
    path.write_text(record_of(process.pid).model_dump_json(exclude={"hostname"}), encoding="utf-8")
    assert [record.pid for record in running_servers()] == [process.pid]
    process.kill()
    process.wait()
    assert running_servers() == []
    assert not path.exists()


def test_strange_files_are_passed_over(process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    registry.remember(record_of(process.pid))
    (registry.state_dir() / "1.json").write_text("{", encoding="utf-8")
    (registry.state_dir() / "2.json").write_bytes(b"\xff")
    (registry.state_dir() / "3.json").mkdir()
    assert len(running_servers()) == 1
    monkeypatch.setattr(os, "getuid", lambda: 12345)  # then the file is somebody else's
    assert running_servers() == []


def test_the_latest_comes_first(process: subprocess.Popen[bytes]) -> None:
    registry.remember(record_of(os.getpid()))
    registry.remember(record_of(process.pid))
    assert [record.pid for record in running_servers()] == [process.pid, os.getpid()]


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GLYPH_STATE_DIR", str(tmp_path / "file" / "x"))
    with pytest.raises(OutputError, match="GLYPH_STATE_DIR"):
        registry.remember(record_of(os.getpid()))
