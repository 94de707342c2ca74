"""Runs the installed glyph-compress as a user would: its own process, its own folder, nothing of this machine's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("glyph-compress")
REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "docs" / "sample.txt"


def environment(state: Path, **more: str) -> dict[str, str]:
    """The environment of a user with nothing set up: no vLLM, no server, no key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GLYPH_", "OPENAI_", "VLLM_", "HF_"))}
    kept |= {"GLYPH_STATE_DIR": str(state), "GLYPH_VLLM_CPU_HOME": str(state / "no-vllm"), "COLUMNS": "200"}
    kept["XDG_STATE_HOME"] = str(state / "xdg-state")  # the logs of servers, of which the oldest are deleted
    # A vLLM on the developer's own path must not be started for a test that is about having none.
    kept["PATH"] = os.pathsep.join(folder for folder in kept["PATH"].split(os.pathsep) if not (Path(folder) / "vllm").exists())
    return kept | more


def glyph_compress(
    *arguments: str | Path, state: Path, stdin: bytes = b"", cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; standard output and error as text."""
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=1400,
        cwd=cwd,
        env=environment(state, **more),
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
