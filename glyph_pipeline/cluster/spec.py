"""AskSpec: how items are drawn and asked on a cluster, as plain values that travel to its machines. Opens and starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from glyph_pipeline.errors import UsageError
from glyph_pipeline.pagestore import StorePlace
from glyph_pipeline.rendering.config import RenderConfig

# What GlyphPipeline takes and can't travel: things that live in one process.
_LOCAL = ("server", "reader", "tokenizer", "cache")


@dataclass(frozen=True, slots=True)
class Engines:
    """vLLM inside the cluster: each reader starts one, for itself alone, on 127.0.0.1 of the machine it was placed on.

    ``launch`` are arguments of GlyphServer.launch, ``timeout`` (seconds) among them. ``gpus``: how many each needs.
    """

    model: str
    profile: str = "auto"
    launch: Mapping[str, Any] = field(default_factory=dict)
    gpus: float = 1


@dataclass(frozen=True, slots=True)
class AskSpec:
    """``pipeline`` are arguments of GlyphPipeline (base_url, model, api_key, sampling, mode and so on); ``concurrency`` is for all
    readers together. Without ``base_url`` and ``engines`` OCR reads. ``store``: a folder of drawn pages, the same path on every machine.

    ``readers``: processes that ask (None: one a machine; with engines one for each that has room; with OCR one for every
    second core). There are no more of them than ``concurrency``, but for engines, each of which has at least one request.
    """

    pipeline: Mapping[str, Any] = field(default_factory=dict)
    config: RenderConfig | Mapping[str, Any] | None = None
    concurrency: int = 8
    readers: int | None = None
    engines: Engines | None = None
    store: StorePlace | None = None

    def __post_init__(self) -> None:
        local = [name for name in _LOCAL if self.pipeline.get(name) is not None]
        if local:
            raise UsageError(
                f"{' and '.join(local)} can't travel to other machines.",
                hint="Name servers by base_url or have engines started there; name the page store by its place (store).",
            )
        for name, number in (("concurrency", self.concurrency), ("readers", self.readers)):
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}.", hint="Give 1 or more.")
        if self.engines is not None and self.pipeline.get("base_url"):
            raise UsageError("base_url names servers that run, engines are started: they contradict each other.", hint="Give one of them.")

    @property
    def ocr(self) -> bool:
        """Whether OCR reads."""
        return self.engines is None and not self.pipeline.get("base_url")

    def shared_by(self, readers: int) -> AskSpec:
        """The same, with each of ``readers`` its part of the requests at a time."""
        return replace(self, readers=readers, concurrency=max(1, self.concurrency // readers))
