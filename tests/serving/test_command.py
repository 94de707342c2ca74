"""The printed command, the launched command, and the values that are refused."""

from __future__ import annotations

import errno
import os
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline.errors import ConfigError
from glyph_pipeline.serving import LaunchPlan, ServerProfile, VLLMInstallation, plan_launch, render_command

GUIDE = (
    "vllm serve zai-org/Glyph --no-enable-prefix-caching --mm-processor-cache-gb 0 --reasoning-parser glm45 --limit-mm-per-prompt.video 0"
)
ROCM = "VLLM_ROCM_USE_AITER=1 SAFETENSORS_FAST_GPU=1 VLLM_USE_TRITON_FLASH_ATTN=0 "


def pairs(plan: LaunchPlan) -> dict[str, str]:
    return {flag: value for flag, value in zip(plan.argv, plan.argv[1:], strict=False) if flag.startswith("--")}


def test_printed_command_is_the_guides() -> None:
    assert render_command(profile="nvidia") == GUIDE
    assert render_command(profile="rocm") == ROCM + GUIDE


def test_what_the_user_chose_comes_after_it() -> None:
    command = render_command(profile="nvidia", port=9000, max_model_len=4096, tensor_parallel_size=2, extra_args=["--seed", "1"])
    assert command == f"{GUIDE} --tensor-parallel-size 2 --max-model-len 4096 --port 9000 --seed 1"
    assert render_command("a b/c", "nvidia").startswith("vllm serve 'a b/c' --no-enable")
    assert render_command(profile="nvidia", env={"A": "1 2"}) == f"A='1 2' {GUIDE}"


def test_printed_command_for_the_cpu_can_be_typed() -> None:
    words = shlex.split(render_command(profile="cpu", vllm=VLLMInstallation(Path("/e/bin/python"), None, "1", "a test")))
    assert words[0].startswith("PYTHONPATH=")
    assert (Path(words[0].partition("=")[2]) / "sitecustomize.py").is_file()
    assert words[1:6] == ["VLLM_CPU_KVCACHE_SPACE=2", "/e/bin/python", "-m", "vllm.entrypoints.openai.api_server", "--model"]


def test_launch_adds_an_address_and_quiet() -> None:
    plan = plan_launch("zai-org/Glyph", "nvidia")
    assert plan.argv[: len(GUIDE.split())] == tuple(GUIDE.split())
    assert plan.argv[len(GUIDE.split()) :] == ("--host", "127.0.0.1", "--port", str(plan.port))
    assert plan.base_url == f"http://127.0.0.1:{plan.port}/v1"
    for name in ("VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        assert plan.env[name] == "1"
    assert "HF_HUB_OFFLINE" not in plan.env
    assert plan.served_model_name == "zai-org/Glyph"


def test_options_become_flags(model_folder: Path) -> None:
    plan = plan_launch(
        model_folder,
        "nvidia",
        max_num_batched_tokens=8192,
        tensor_parallel_size=2,
        data_parallel_size=4,
        max_model_len=100,
        served_model_name="glyph",
    )
    flags = pairs(plan)
    assert flags["--max-num-batched-tokens"] == "8192"
    assert flags["--tensor-parallel-size"] == "2"
    assert flags["--data-parallel-size"] == "4"
    assert flags["--max-model-len"] == "100"
    assert flags["--served-model-name"] == plan.served_model_name == "glyph"


def test_a_local_model_is_made_absolute_and_keeps_the_hub_out(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_folder.parent)
    plan = plan_launch(f"./{model_folder.name}", "nvidia")
    assert plan.argv[2] == plan.model == plan.served_model_name == str(model_folder)
    assert plan.env["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("extra", "ours", "count"),
    [
        (["--reasoning-parser", "other"], "glm45", 0),
        (["--reasoning_parser=other"], "glm45", 0),
        (["--enable-prefix-caching"], "--no-enable-prefix-caching", 0),
        (["--limit-mm-per-prompt", '{"image": 5}'], "--limit-mm-per-prompt.video", 0),
        (["--limit-mm-per-prompt.image", "5"], "--limit-mm-per-prompt.video", 1),
        (["-tp", "4"], "--tensor-parallel-size", 0),
        (["--seed", "-1"], "glm45", 1),
    ],
)
def test_a_repeated_flag_is_the_users(extra: list[str], ours: str, count: int) -> None:
    plan = plan_launch(profile="nvidia", tensor_parallel_size=2, extra_args=extra)
    assert plan.argv[-len(extra) :] == tuple(extra)
    assert plan.argv.count(ours) == count
    assert "--mm-processor-cache-gb" in plan.argv


def test_address_and_name_among_the_extra_arguments_are_understood() -> None:
    port = free_port()
    plan = plan_launch(
        profile="nvidia", port=1, extra_args=[f"--port={port}", "--host", "::1", "--served_model_name", "a", "b", "--api-key=k"]
    )
    assert (plan.port, plan.host, plan.served_model_name, plan.api_key) == (port, "::1", "a", "k")
    assert plan.base_url == f"http://[::1]:{port}/v1"
    assert "--port" not in plan.argv
    assert plan.argv.count("--host") == 1
    assert "--api-key=k" not in plan.argv


@pytest.mark.parametrize(
    "given",
    [["--api-key", "geheim"], ["--api-key=geheim"], ["--api_key", "geheim"], ["--api-key", "old", "--api-key=geheim"]],
    ids=" ".join,
)
def test_an_api_key_is_kept_off_the_command_line(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "exported")
    plan = plan_launch(profile="nvidia", extra_args=["--seed", "1", *given, "--enforce-eager"], env={"VLLM_API_KEY": "less"})
    assert plan.argv[-3:] == ("--seed", "1", "--enforce-eager")
    assert not any("api" in word or "geheim" in word for word in plan.argv)
    assert plan.api_key == "geheim"
    assert plan.environment({"VLLM_API_KEY": "exported"})["VLLM_API_KEY"] == "geheim"
    assert "geheim" not in repr(plan)


@pytest.mark.parametrize("given", [["--api-key", "one", "two"], ["--api-key="], ["--api-key"]], ids=" ".join)
def test_keys_that_only_the_command_line_can_say_stay_there(given: list[str]) -> None:
    plan = plan_launch(profile="nvidia", extra_args=given)
    assert plan.argv[-len(given) :] == tuple(given)
    assert "VLLM_API_KEY" not in plan.env
    assert plan.api_key == ("one" if "one" in given else None)


def test_the_key_of_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    by_flag = ServerProfile(accelerator="nvidia", args=("--api-key", "profile", "--enforce-eager"))
    plan = plan_launch(profile=by_flag)
    assert (plan.api_key, plan.env["VLLM_API_KEY"], "profile" in plan.argv) == ("profile", "profile", False)
    plan = plan_launch(profile=by_flag, extra_args=["--api-key=mine"])
    assert (plan.api_key, plan.env["VLLM_API_KEY"], "profile" in plan.argv) == ("mine", "mine", False)
    by_variable = ServerProfile(accelerator="nvidia", env={"VLLM_API_KEY": "profile"})
    assert plan_launch(profile=by_variable).api_key == "profile"
    monkeypatch.setenv("VLLM_API_KEY", "exported")
    assert plan_launch(profile=by_variable).api_key == "exported"


def test_only_naming_a_host_opens_the_server() -> None:
    assert plan_launch(profile="nvidia").host == "127.0.0.1"
    plan = plan_launch(profile="nvidia", host="0.0.0.0")
    assert pairs(plan)["--host"] == "0.0.0.0"
    assert plan.base_url.startswith("http://127.0.0.1:")
    for empty in ({"host": ""}, {"extra_args": ["--host", ""]}, {"extra_args": ["--host="]}):
        with pytest.raises(ConfigError, match="host is empty"):
            plan_launch(profile="nvidia", **empty)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 0}, "port = 0.*between 1 and 65535"),
        ({"port": 65536}, "port = 65536"),
        ({"extra_args": ["--port", "x"]}, "--port x.*whole number"),
        ({"max_model_len": 0}, "max_model_len = 0.*1 or more"),
        ({"tensor_parallel_size": -1}, "tensor_parallel_size = -1"),
        ({"served_model_name": " "}, "served_model_name is empty"),
        ({"extra_args": ["--model", "x"]}, "--model"),
        ({"extra_args": ["--uds", "x"]}, "--uds"),
        ({"extra_args": ["--ssl_keyfile=x"]}, "--ssl-keyfile"),
        ({"host": "no.such.host.invalid"}, "host = 'no.such.host.invalid'"),
        ({"host": "192.0.2.1"}, "host = '192.0.2.1'"),
    ],
)
def test_impossible_values(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_launch(profile="nvidia", **options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("listening", [True, False], ids=["listening", "bound, as while vLLM loads"])
def test_a_port_that_is_taken(listening: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        if listening:
            other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port = {port} on 127.0.0.1 cannot be used: another program uses it"):
            plan_launch(profile="nvidia", port=port)


def test_a_port_with_only_closed_connections_is_free() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as vLLM does
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = server.getsockname()
        with socket.socket() as client:
            client.connect(address)
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first keeps the address for a while
            assert client.recv(1) == b""
    assert plan_launch(profile="nvidia", port=address[1]).port == address[1]


def test_without_a_port_any_that_is_free() -> None:
    ports = {plan_launch(profile="nvidia").port for _ in range(3)}
    assert all(1024 < port < 65536 for port in ports)
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports.pop()))  # it was free


@pytest.mark.parametrize("model", ["./nothing", "/no/such/folder", "~/no-such-folder", "a/b/c", Path("org/name")])
def test_a_model_folder_that_does_not_exist(model: str | Path) -> None:
    with pytest.raises(ConfigError, match=r"model folder .* doesn't exist"):
        plan_launch(model, "nvidia")


def test_models_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        plan_launch(tmp_path, "nvidia")
    (tmp_path / "weights").touch()
    with pytest.raises(ConfigError, match="is a file"):
        plan_launch(tmp_path / "weights", "nvidia")
    for nothing in ("", "--port"):
        with pytest.raises(ConfigError, match="not the name of a model"):
            plan_launch(nothing, "nvidia")


@pytest.mark.parametrize("model", ["~nosuch-user/x", "m" * 300, f"./{'m' * 300}", f"/{'m' * 300}/x", "a\0b"])
def test_models_that_cannot_even_be_looked_at(model: str) -> None:
    for given in (model, Path(model)):
        with pytest.raises(ConfigError, match=r"The model '.*' cannot be used: \w"):
            plan_launch(given, "nvidia")


@pytest.mark.parametrize("inside", ["", "model"])
def test_a_model_in_a_folder_that_may_not_be_entered(model_folder: Path, monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    looked_at = Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:  # root, as whom tests may run, is refused nothing
        if model_folder in path.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return looked_at(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ConfigError, match=r"cannot be used: Permission denied"):
        plan_launch(model_folder / inside, "nvidia")


@pytest.mark.parametrize("model", ["zai-org/Glyph", "glyph", "s3://bucket/folder/model"])
def test_names_are_left_alone(model: str) -> None:
    assert plan_launch(model, "nvidia").model == model


PYTHON, COMMAND = Path("/e/bin/python"), Path("/e/bin/vllm")
MODULE = "vllm.entrypoints.openai.api_server"


@pytest.mark.parametrize(
    ("profile", "python", "executable", "start"),
    [
        ("nvidia", PYTHON, COMMAND, ["/e/bin/vllm", "serve", "zai-org/Glyph"]),
        ("nvidia", None, COMMAND, ["/e/bin/vllm", "serve", "zai-org/Glyph"]),
        ("rocm", PYTHON, None, ["/e/bin/python", "-m", "vllm.entrypoints.cli.main", "serve", "zai-org/Glyph"]),
        ("cpu", PYTHON, COMMAND, ["/e/bin/python", "-m", MODULE, "--model", "zai-org/Glyph"]),
    ],
)
def test_which_program_is_run(profile: str, python: Path | None, executable: Path | None, start: list[str]) -> None:
    plan = plan_launch(profile=profile, vllm=VLLMInstallation(python, executable, "1", "a test"))
    assert list(plan.argv[: len(start)]) == start
    assert plan.env_prepend["PATH"] == "/e/bin"


def test_cpu_without_a_python() -> None:
    with pytest.raises(ConfigError, match="GLYPH_VLLM_PYTHON"):
        plan_launch(profile="cpu", vllm=VLLMInstallation(None, COMMAND, "1", "a test"))


def test_environment_of_the_child() -> None:
    plan = plan_launch(profile="cpu", env={"DO_NOT_TRACK": "0", "MINE": "1"})
    inherited = {"PYTHONPATH": "/p", "DO_NOT_TRACK": "maybe", "VLLM_CPU_KVCACHE_SPACE": "8", "HOME": "/h"}
    merged = plan.environment(inherited)
    assert merged["PYTHONPATH"].endswith("/serving/cpu_site:/p")
    assert merged["VLLM_CPU_KVCACHE_SPACE"] == "8"  # exported by the user
    assert (merged["DO_NOT_TRACK"], merged["MINE"], merged["HOME"]) == ("0", "1", "/h")
    assert plan.environment({})["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert plan.environment({})["PYTHONPATH"].endswith("/serving/cpu_site")
    assert "PYTHONPATH" not in plan_launch(profile="nvidia").environment({})
