"""A Ray cluster of this machine's own: on loopback, silent, gone afterwards; and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glyph_pipeline.cluster import session
from glyph_pipeline.errors import ClusterError, UsageError
from tests.support.command import REPOSITORY
from tests.support.processes import marked, wait_for

PROGRAM = """\
import sys, os, json
import psutil
from glyph_pipeline.cluster import session
with session(num_cpus=1) as ray:
    @ray.remote
    def telemetry():
        return os.environ.get("RAY_USAGE_STATS_ENABLED")
    said = ray.get(telemetry.remote())
    listening = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("GLYPH_TEST_MARK") == os.environ["GLYPH_TEST_MARK"]:
                connections = getattr(process, "net_connections", None) or process.connections  # psutil before 6
                listening |= {c.laddr.ip for c in connections("tcp") if c.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    print(json.dumps({"telemetry": said, "listening": sorted(listening), "cores": ray.cluster_resources()["CPU"]}))
    if len(sys.argv) > 1:
        sys.stdout.flush()
        sys.stdin.read()
"""


def started(tmp_path: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    mark = f"session {tmp_path}"
    temporary = tmp_path / "t"
    temporary.mkdir()
    known = {
        **os.environ,
        "GLYPH_TEST_MARK": mark,
        "PYTHONPATH": str(REPOSITORY),
        "RAY_ADDRESS": "192.0.2.99:6379",
        "TMPDIR": str(temporary),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=known,
    )
    return process, mark


def test_all_is_on_loopback_and_nothing_is_left(tmp_path: Path) -> None:
    """Also: no usage statistics, RAY_ADDRESS is not followed, a long TMPDIR is no obstacle, nothing but ours on either stream."""
    before = set(Path("/tmp").glob("glyph-ray-*"))
    process, mark = started(tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert eval(out.strip()) == {"telemetry": "0", "listening": ["127.0.0.1", "::ffff:127.0.0.1"], "cores": 1.0}
    assert err == ""
    wait_for(lambda: not marked(mark), "the end of all of Ray's processes", 60)
    assert set(Path("/tmp").glob("glyph-ray-*")) == before
    assert list((tmp_path / "t").iterdir()) == []


def test_a_killed_driver_leaves_no_process(tmp_path: Path) -> None:
    process, mark = started(tmp_path, "wait")
    assert process.stdout is not None
    assert "telemetry" in process.stdout.readline()
    assert len(marked(mark)) > 3
    process.kill()
    process.communicate()
    wait_for(lambda: not marked(mark), "the end of all of Ray's processes", 60)


def test_addresses_that_are_none() -> None:
    with pytest.raises(UsageError, match="ray job submit"), session("ray://127.0.0.1:10001"):
        pass
    with pytest.raises(UsageError, match="HOST:PORT"), session("somewhere"):
        pass
    with pytest.raises(ClusterError, match="No Ray cluster answers at '127\\.0\\.0\\.1:1'") as told, session("127.0.0.1:1"):
        pass
    assert told.value.exit_code == 14
    assert "--address auto" in str(told.value)


def test_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    before = dict(os.environ)
    with pytest.raises(ClusterError), session("127.0.0.1:1"):
        pass
    assert dict(os.environ) == before
