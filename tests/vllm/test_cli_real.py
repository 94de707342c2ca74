"""The command and the real vLLM: it starts a server by itself, prints, stops it, and no process is left however it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import SAMPLE
from tests.support.processes import command, interrupt, marked, text_of, wait_for

pytestmark = pytest.mark.vllm

START_SECONDS = 900.0


def test_it_launches_answers_and_stops_its_server(tiny_model: Path, vllm_python: Path, tmp_path: Path) -> None:
    asked = [SAMPLE, "-q", "What is it?", "--model", tiny_model, "--show-reasoning", "-o", tmp_path / "pages"]
    with command(*asked, state=tmp_path, python=vllm_python) as (process, _):
        out, err = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 0, err
    script = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))
    assert out == script["answer"] + "\n"
    assert script["reasoning"] in err
    prompt = next(line for line in err.splitlines() if line.startswith("prompt tokens"))
    served, predicted = (word for word in prompt.replace(",", "").split() if word.isdigit())
    assert served == predicted
    assert (tmp_path / "pages" / "page_0003.png").is_file()


def test_ctrl_c_while_the_server_starts(tiny_model: Path, vllm_python: Path, tmp_path: Path) -> None:
    with command(SAMPLE, "-q", "What is it?", "--model", tiny_model, state=tmp_path, python=vllm_python) as (process, mark):
        # The server, and by then an engine of its own making.
        wait_for(lambda: len(marked(mark)) >= 4 or process.poll() is not None, "the start of vLLM's engine", START_SECONDS)
        interrupt(process)
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out) == (130, ""), err
        assert "Interrupted." in err
        assert "Traceback" not in err


def test_ctrl_c_while_it_answers(endless_model: Path, vllm_python: Path, tmp_path: Path) -> None:
    asked = [SAMPLE, "-q", "What is it?", "--model", endless_model, "--show-reasoning", "--max-tokens", "100000"]
    with command(*asked, state=tmp_path, python=vllm_python) as (process, _):
        assert process.stderr is not None
        assert process.stderr.read(40).strip()  # the model is thinking aloud
        interrupt(process)
        err = text_of(process.stderr)
        assert (process.wait(300), text_of(process.stdout)) == (130, "")
        assert "Traceback" not in err


def test_a_model_folder_that_does_not_exist(vllm_python: Path, tmp_path: Path) -> None:
    with command(SAMPLE, "-q", "What is it?", "--model", tmp_path / "nothing", state=tmp_path, python=vllm_python) as (process, _):
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out) == (3, "")
        assert "doesn't exist" in err
        assert "Traceback" not in err


def test_serve_is_found_by_the_next_command_and_ends_with_ctrl_c(tiny_model: Path, vllm_python: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with command("serve", "--model", tiny_model, "--profile", "cpu", "--max-model-len", "4096", state=state, python=vllm_python) as (
        server,
        mark,
    ):
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), text_of(server.stderr)
        with command(SAMPLE, "-q", "What is it?", "--json", state=state, python=vllm_python) as (asking, _):
            out, err = asking.communicate(timeout=300)
            assert asking.returncode == 0, err
        assert json.loads(out)["reader"] == str(tiny_model)
        assert url in err
        too_long = tmp_path / "long.txt"
        too_long.write_text(SAMPLE.read_text("utf-8") * 4, "utf-8")
        with command(too_long, "-q", "What is it?", state=state, python=vllm_python) as (asking, _):
            out, err = asking.communicate(timeout=300)
            assert asking.returncode == 0, err
        assert out == json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))["answer"] + "\n"
        assert any(line.startswith("windows") and "merged" in line for line in err.splitlines())
        with command(SAMPLE, "-q", "What? " * 3000, state=state, python=vllm_python) as (asking, _):
            out, err = asking.communicate(timeout=300)
            assert (asking.returncode, out) == (8, "")
            assert "4096" in err
        assert marked(mark)
        assert len(list(state.glob("*.json"))) == 1
        interrupt(server)
        assert server.wait(300) == 0
    assert list(state.glob("*.json")) == []  # where it had been announced
