"""A Ray cluster of this machine's own: on loopback, silent, gone afterwards; and what is said where there is none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from glyph_pipeline.cluster import session
from glyph_pipeline.errors import ClusterError, UsageError
from tests.support.command import REPOSITORY
from tests.support.fake_openai import Fake, running, says
from tests.support.processes import marked, wait_for

PROGRAM = """\
import sys, os, json, time
import psutil
from glyph_pipeline.cluster import session
before = dict(os.environ)
with session(num_cpus=1) as ray:
    @ray.remote
    def telemetry():
        return os.environ.get("RAY_USAGE_STATS_ENABLED")
    said = ray.get(telemetry.remote())
    listening, deadline = set(), time.monotonic() + 60
    while len(listening) < 2 and time.monotonic() < deadline:  # the last of Ray's processes may be on their way
        time.sleep(0.5)
        for process in psutil.process_iter():
            try:
                if process.environ().get("GLYPH_TEST_MARK") == os.environ["GLYPH_TEST_MARK"]:
                    connections = getattr(process, "net_connections", None) or process.connections  # psutil before 6
                    listening |= {c.laddr.ip for c in connections("tcp") if c.status == psutil.CONN_LISTEN}
            except psutil.Error:
                continue
    root = os.path.dirname(ray._private.worker._global_node.get_temp_dir_path())
    open_to = oct(os.stat(root).st_mode & 0o777)
    cores = ray.cluster_resources()["CPU"]
    print(json.dumps({"telemetry": said, "listening": sorted(listening), "cores": cores, "folder": open_to, "root": root}))
    if len(sys.argv) > 1:
        sys.stdout.flush()
        sys.stdin.read()
left = {name for name, _ in set(os.environ.items()) ^ set(before.items())}
assert left <= {"RAY_CLIENT_MODE", "PYTHONBREAKPOINT"}, left  # which Ray sets when it is imported
"""


def started(tmp_path: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    mark = f"session {tmp_path}"
    temporary = tmp_path / "t"
    temporary.mkdir()
    (tmp_path / "home").mkdir()
    known = {
        **os.environ,
        "GLYPH_TEST_MARK": mark,
        "PYTHONPATH": str(REPOSITORY),
        "RAY_ADDRESS": "192.0.2.99:6379",
        "TMPDIR": str(temporary),
        "HOME": str(tmp_path / "home"),
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
    process, mark = started(tmp_path)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    told = json.loads(out)
    root = Path(told.pop("root"))
    listening = set(told.pop("listening"))
    assert "::ffff:127.0.0.1" in listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}  # of the first are Ray's agents, which on a busy machine may not be there yet
    assert told == {"telemetry": "0", "cores": 1.0, "folder": "0o700"}
    assert err == ""
    wait_for(lambda: not marked(mark), "the end of all of Ray's processes", 60)
    assert root.name.startswith("glyph-ray-")
    assert not root.exists()
    assert list((tmp_path / "t").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []


def test_a_killed_driver_leaves_no_process(tmp_path: Path) -> None:
    process, mark = started(tmp_path, "wait")
    assert process.stdout is not None
    assert "telemetry" in process.stdout.readline()
    assert len(marked(mark)) > 3
    process.kill()
    process.communicate()
    wait_for(lambda: not marked(mark), "the end of all of Ray's processes", 60)


def test_ray_that_was_imported_before_stays_on_loopback_too(tmp_path: Path) -> None:
    """And what this machine is called for other clusters, and that they ask for no token, is as it was."""
    program = """
import os, ray
from ray._private import services
from ray._raylet import AuthenticationMode, get_authentication_mode
there = services.get_node_ip_address()
from glyph_pipeline.cluster import session
for _ in range(2):
    with session(num_cpus=1):
        assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:"), ray.get_runtime_context().gcs_address
        assert get_authentication_mode() == AuthenticationMode.TOKEN
    assert services.get_node_ip_address() == there
    assert get_authentication_mode() == AuthenticationMode.DISABLED
"""
    known = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=known, timeout=280, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="ray job submit"), session("ray://127.0.0.1:10001"):
        pass
    with pytest.raises(UsageError, match="HOST:PORT"), session("somewhere"):
        pass
    with pytest.raises(ClusterError, match="No Ray cluster answers at '127\\.0\\.0\\.1:1'") as told, session("127.0.0.1:1"):
        pass
    for address in ("a..b:6379", "127.0.0.1:\N{SUPERSCRIPT TWO}"):
        with pytest.raises(ClusterError, match="No Ray cluster answers"), session(address):
            pass
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:1")
    with pytest.raises(UsageError, match="ray job submit"), session("auto"):
        pass
    assert told.value.exit_code == 14
    assert "--address auto" in str(told.value)


def test_a_machine_too_busy_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ClusterError, match=r"No Ray cluster could be started on this machine: .*timed out.*very busy"), session(num_cpus=1):
        pass


def test_what_listens_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server, and what says nothing: Ray itself would try for minutes, without a word."""
    with (
        running(Fake(says("ok"))) as web,
        pytest.raises(ClusterError, match="what listens there is no head of a Ray cluster"),
        session(web.base_url.removeprefix("http://").removesuffix("/v1")),
    ):
        pass
    monkeypatch.setattr(sys.modules["glyph_pipeline.cluster.session"], "_ANSWER_S", 0.1)  # the package gives the function that name
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ClusterError, match=r"nothing came within 0\.1 s"),
        session(f"127.0.0.1:{silent.getsockname()[1]}"),
    ):
        pass


def test_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    before = dict(os.environ)
    with pytest.raises(ClusterError), session("127.0.0.1:1"):
        pass
    assert dict(os.environ) == before
