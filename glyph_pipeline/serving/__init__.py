"""Model servers: vLLM's command line, its process and its readiness. Knows no pages and draws nothing."""

from __future__ import annotations

from glyph_pipeline.serving.accelerator import Accelerator, detect_accelerator
from glyph_pipeline.serving.command import DEFAULT_MODEL, DEFAULT_PORT, LaunchPlan, ServeOptions, plan_launch, render_command
from glyph_pipeline.serving.health import (
    DEFAULT_START_TIMEOUT,
    ServedModel,
    ServerInfo,
    is_healthy,
    normalize_base_url,
    probe,
    wait_until_ready,
)
from glyph_pipeline.serving.installation import VLLMInstallation, find_vllm, vllm_cpu_home
from glyph_pipeline.serving.keeper import DEFAULT_RESTART_WINDOW, DEFAULT_RESTARTS
from glyph_pipeline.serving.process import ServerProcess
from glyph_pipeline.serving.profiles import ServerProfile, load_profile, profile_names
from glyph_pipeline.serving.registry import ServerRecord, running_servers
from glyph_pipeline.serving.server import GlyphServer
from glyph_pipeline.serving.signals import exit_on_sigterm

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_PORT",
    "DEFAULT_RESTARTS",
    "DEFAULT_RESTART_WINDOW",
    "DEFAULT_START_TIMEOUT",
    "Accelerator",
    "GlyphServer",
    "LaunchPlan",
    "ServeOptions",
    "ServedModel",
    "ServerInfo",
    "ServerProcess",
    "ServerProfile",
    "ServerRecord",
    "VLLMInstallation",
    "detect_accelerator",
    "exit_on_sigterm",
    "find_vllm",
    "is_healthy",
    "load_profile",
    "normalize_base_url",
    "plan_launch",
    "probe",
    "profile_names",
    "render_command",
    "running_servers",
    "vllm_cpu_home",
    "wait_until_ready",
]
