"""Choice: who reads, given the command line and this machine. Starts the server that is needed; draws nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from glyph_pipeline.cli.caching import open_store
from glyph_pipeline.cli.reading import MEGABYTE
from glyph_pipeline.cli.sending import sending_arguments
from glyph_pipeline.errors import MissingExtraError, UsageError
from glyph_pipeline.reading.ocr import NOTICE, OCRReader
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.serving import DEFAULT_MODEL, DEFAULT_RESTARTS, GlyphServer, detect_accelerator, find_vllm

# Options of a server that is started for this, by the names GlyphServer.launch takes.
_LAUNCH = ("max_model_len", "max_num_batched_tokens", "tensor_parallel_size", "data_parallel_size", "port")

# About 1,360 pages of A4 at 72 dpi (docs/pagestore.md). The profiles turn this cache off, as Glyph's guide does.
_IMAGE_CACHE = ("--mm-processor-cache-gb", "4")

ReaderName: TypeAlias = Literal["auto", "vllm", "ocr"]


@dataclass(frozen=True, slots=True)
class ReaderChoice:
    """What the command line says about who reads. ``launch`` are further options of GlyphServer.launch, ``restarts`` how often
    a server that is started for this may be started again, ``keeps_images`` whether it keeps pages it was sent."""

    reader: ReaderName = "auto"
    base_urls: tuple[str, ...] = ()
    model: str | None = None
    profile: str | None = None
    api_key: str | None = None
    launch: dict[str, Any] = field(default_factory=dict)
    restarts: int = DEFAULT_RESTARTS
    keeps_images: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ReaderChoice:
        """From the parameters of the command line, by their names: those of cli/reading.py and, where a command has it, ``cache``.
        Raises UsageError for what contradicts itself."""
        launch = {name: options[name] for name in _LAUNCH if options[name] is not None}
        if options["page_files"]:
            launch["page_folder"] = True
        if options["server_args"]:
            launch["extra_args"] = list(options["server_args"])
        choice = cls(
            options["reader"],
            options["base_urls"],
            options["model"],
            options["profile"],
            options["api_key"],
            launch,
            DEFAULT_RESTARTS if options["restarts"] is None else options["restarts"],
            keeps_images=options.get("cache") is not None,
        )
        choice.check()
        return choice

    @property
    def asks_for_server(self) -> bool:
        """Whether the user named something that only a server of their own can have."""
        return self.reader == "vllm" or self.model is not None or self.profile is not None or bool(self.launch)

    @property
    def served_name(self) -> str | None:
        """What a server that was started for ``model`` calls it: a folder by its absolute path."""
        if self.model is None:
            return None
        try:
            path = Path(self.model).expanduser()
            return str(path.absolute()) if path.is_dir() else self.model
        except (OSError, RuntimeError):
            return self.model  # no path at all: launching says what is wrong with it

    def launch_arguments(self) -> dict[str, Any]:
        """``launch``, with room for the pages that a server is to keep; the user's own flags come behind, and count."""
        if not self.keeps_images:
            return dict(self.launch)
        return {**self.launch, "extra_args": [*_IMAGE_CACHE, *self.launch.get("extra_args", ())]}

    def check(self) -> None:
        """Raises UsageError for what contradicts itself."""
        if self.base_urls and (self.reader == "ocr" or self.profile is not None or self.launch):
            raise UsageError("--base-url names a server that runs; --reader ocr, --profile and server options contradict it.")
        if self.reader == "ocr" and (self.model is not None or self.profile is not None or self.launch):
            raise UsageError("--reader ocr starts no server; --model, --profile and server options contradict it.")


@dataclass(frozen=True, slots=True)
class ChosenReader:
    """Arguments for GlyphPipeline that read as was chosen, and the seconds that a server took to start if one was started."""

    arguments: dict[str, Any]
    start_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """What the options of cli/reading.py say: who reads, and the arguments of GlyphPipeline that say how it is asked."""

    choice: ReaderChoice
    arguments: dict[str, Any]
    start_timeout: float
    max_tokens: int

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Asking:
        """From the parameters of the command line, by their names."""
        choice = ReaderChoice.of(options)
        arguments = {
            "sampling": Sampling(max_tokens=options["max_tokens"]),
            "concurrency": options["concurrency"],
            "overlap": options["overlap"],
            "max_request_bytes": int(options["max_request_mb"] * MEGABYTE),
            "cite": options["cite"],
            "retry": RetryPolicy(budget=options["retry_for"]),
            "read_timeout": options["read_timeout"],
            **sending_arguments(options),
            "cache": open_store(options.get("cache"), options.get("cache_size")),
        }
        return cls(choice, arguments, options["start_timeout"], options["max_tokens"])


@contextmanager
def chosen_reader(
    choice: ReaderChoice, *, notice: Callable[[str], None], on_wait: Callable[[float, str], object], start_timeout: float
) -> Iterator[ChosenReader]:
    """The reader that ``choice`` says; a server started for it is stopped at the end.

    The order: what was named (--base-url, --reader ocr); a server that ``glyph-compress serve`` started; a server of our
    own, if one was asked for or vLLM and a GPU are here; else OCR, with a notice. A model of this size is never started
    on a CPU unless it was asked for.
    """
    choice.check()
    if choice.base_urls:
        yield ChosenReader({"base_url": list(choice.base_urls), "model": choice.model, "api_key": choice.api_key})
        return
    if choice.reader == "ocr":
        yield ChosenReader({"reader": OCRReader()})
        return
    running = None if choice.profile is not None or choice.launch else GlyphServer.find(choice.served_name, api_key=choice.api_key)
    if running is not None:
        notice(f"Reading with {running.model} at {running.base_url}, which glyph-compress serve started.")
        yield ChosenReader({"base_url": running.base_url, "model": running.model, "api_key": choice.api_key or running.api_key})
        return
    if not choice.asks_for_server:
        accelerator = detect_accelerator()
        can_launch, mend = False, None
        if accelerator.kind != "cpu":
            try:
                # A GPU is of no use to a vLLM that was built for the CPU.
                can_launch = not find_vllm().is_cpu_build
                mend = None if can_launch else "its vLLM is the CPU build; pip install 'glyph-pipeline[vllm]'"
            except MissingExtraError as e:
                mend = e.hint
        if not can_launch:
            notice(NOTICE if mend is None else f"{NOTICE} This machine has a GPU ({accelerator.detail}): {mend}")
            yield ChosenReader({"reader": OCRReader()})
            return
    began = time.perf_counter()
    with GlyphServer.launch(
        choice.model or DEFAULT_MODEL,
        choice.profile or "auto",
        timeout=start_timeout,
        on_wait=on_wait,
        on_restart=notice,
        restarts=choice.restarts,
        **choice.launch_arguments(),
    ) as server:
        yield ChosenReader({"server": server, "api_key": choice.api_key or server.api_key}, time.perf_counter() - began)
