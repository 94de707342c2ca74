"""Target: the server that is measured, and what it tells of itself: flags, caches, context. Sends no documents."""

from __future__ import annotations

import contextlib
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from glyph_pipeline.addresses import is_loopback, uses_environment_proxies
from glyph_pipeline.background import cores
from glyph_pipeline.connection import Connection
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.serving import GlyphServer, detect_accelerator
from glyph_pipeline.serving.flags import split_flags

# Counters of vLLM's /metrics: prompt tokens, or images, that a cache answered.
_HITS = {"prefix": "vllm:prefix_cache_hits_total", "multimodal": "vllm:mm_cache_hits_total"}
_PREFIX_CACHING = re.compile(r'vllm:cache_config_info\{[^}]*enable_prefix_caching="(\w+)"')
# What says where a server is, and whose, not how it serves.
_NOT_HOW = ("--host", "--port", "--api-key", "--allowed-local-media-path")
_METRICS_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server to measure. ``version`` is vLLM's, None for another kind of server; ``flags`` its command line's, None if they can't be known;
    ``prefix_caching`` what it says itself; ``where`` is ``this machine``, or the URL."""

    base_url: str
    model: str
    connection: Connection
    api_key: str | None = None
    version: str | None = None
    root: str | None = None
    flags: tuple[str, ...] | None = None
    prefix_caching: bool | None = None
    page_folder: Path | None = None

    @classmethod
    def of(cls, server: GlyphServer, api_key: str | None = None) -> Target:
        """A server that answers. Raises WrongModelError."""
        api_key = api_key or server.api_key
        served = server.info.require(server.model)
        reader = VLLMReader(server.base_url, served.id, api_key=api_key)
        metrics = _metrics(server.base_url, api_key)
        caching = _PREFIX_CACHING.search(metrics)
        return cls(
            server.base_url,
            served.id,
            Connection.to_server(reader, [served], api_key, RetryPolicy(budget=0.0), None),
            api_key,
            server.info.version,
            served.root,
            _flags(server),
            None if caching is None else caching[1] == "True",
            server.page_folder,
        )

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def where(self) -> str:
        """Where it runs, as what was measured depends on it; the port of a server on this machine does not matter."""
        return "this machine" if self.is_local else self.base_url

    @property
    def max_model_len(self) -> int | None:
        """Its context in tokens, None if unknown."""
        return self.connection.max_model_len

    @property
    def folder(self) -> Path | None:
        """The model folder that it serves, if that is one of this machine."""
        path = Path(self.root) if self.root else None
        return path if path is not None and self.is_local and path.is_absolute() and path.is_dir() else None

    def cache_hits(self) -> dict[str, float] | None:
        """How often each of its caches has helped since it started; None for a server that does not tell."""
        metrics = _metrics(self.base_url, self.api_key)
        if not any(name in metrics for name in _HITS.values()):
            return None
        return {kind: _sum(metrics, name) for kind, name in _HITS.items()}

    def told(self) -> str:
        """One line on what is measured."""
        flags = "flags not known" if self.flags is None else " ".join(self.flags) or "no flags"
        caching = {None: "not told", True: "on", False: "off"}[self.prefix_caching]
        version = f"vLLM {self.version}" if self.version else "not vLLM"
        context = f"{self.max_model_len:,}" if self.max_model_len else "unknown"
        return f"{self.model} on {self.where} ({version}, context {context}); {flags}; prefix caching: {caching}"


def machine() -> dict[str, object]:
    """This machine while it is measured: processor, cores, accelerator, and the load average (processes that want to run, last minute)."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
        if found is not None:
            return {"processor": found[1], **_present()}
    return {"processor": platform.processor() or platform.machine(), **_present()}


def _present() -> dict[str, object]:
    return {"cores": cores(), "accelerator": detect_accelerator().detail, "load": round(psutil.getloadavg()[0], 1)}


def _flags(server: GlyphServer) -> tuple[str, ...] | None:
    """The flags of the process that serves, if it runs on this machine and we may look; never its key."""
    with contextlib.suppress(psutil.Error, OSError):
        pid = server.pid or _listener(server.base_url)
        if pid is None:
            return None
        words = psutil.Process(pid).cmdline()
        begin = next((index for index, word in enumerate(words) if word.startswith("--")), None)
        if not any(word.startswith("vllm.entrypoints.") or Path(word).name == "vllm" for word in words):
            return None
        flags = split_flags(words[begin:]) if begin is not None else []
        return tuple(" ".join(flag.tokens) for flag in flags if flag.name not in (*_NOT_HOW, "--model"))
    return None


def _listener(base_url: str) -> int | None:
    parts = urlsplit(base_url)
    if not is_loopback(parts.hostname or ""):
        return None
    for found in psutil.net_connections("tcp"):
        if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == parts.port:
            return found.pid
    return None


def _metrics(base_url: str, api_key: str | None) -> str:
    """The text of ``/metrics``, empty where there is none."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with httpx.Client(trust_env=uses_environment_proxies(base_url), timeout=_METRICS_TIMEOUT_S, headers=headers) as client:
            response = client.get(f"{base_url.removesuffix('/v1')}/metrics")
            return response.text if response.status_code == 200 else ""
    except httpx.HTTPError:
        return ""


def _sum(metrics: str, name: str) -> float:
    """A counter, added up over its labels."""
    return sum(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
