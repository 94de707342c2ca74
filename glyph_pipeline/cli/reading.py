"""Options that say who reads and how a question is asked, for the commands that ask. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from glyph_pipeline.planning import MAX_REQUEST_BYTES
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.vllm import DEFAULT_READ_TIMEOUT_S

_F = TypeVar("_F", bound=Callable[..., Any])
MEGABYTE = 1_000_000

_WHO = (
    click.option("--reader", type=click.Choice(["auto", "vllm", "ocr"]), default="auto", show_default=True, help="What reads the pages."),
    click.option(
        "--base-url",
        "base_urls",
        multiple=True,
        metavar="URL",
        help="A running OpenAI-compatible server, such as http://127.0.0.1:8000/v1; several share the requests.",
    ),
    click.option(
        "--model", metavar="NAME|DIR", help="Model to serve, or served at --base-url [default: zai-org/Glyph, or what is served]."
    ),
    click.option("--profile", metavar="NAME|FILE", help="Server profile: auto, nvidia, rocm, cpu, or a TOML file."),
    click.option("--max-model-len", type=int, metavar="TOKENS", help="Context of a server that is started for this."),
    click.option(
        "--max-num-batched-tokens", type=int, metavar="TOKENS", help="vLLM's batch size in tokens, for a server that is started for this."
    ),
    click.option(
        "--tensor-parallel-size", type=int, metavar="N", help="GPUs to split the model over, for a server that is started for this."
    ),
    click.option("--data-parallel-size", type=int, metavar="N", help="Copies of the model, for a server that is started for this."),
    click.option("--port", type=int, help="Port of a server that is started for this [default: any free one]."),
    click.option(
        "--server-arg",
        "server_args",
        multiple=True,
        metavar="FLAG",
        help="A further vLLM flag, e.g. --server-arg=--seed=1; may be repeated.",
    ),
    click.option(
        "--start-timeout", type=float, default=1800, show_default=True, metavar="SECONDS", help="How long a server may take to start."
    ),
    click.option(
        "--restarts",
        type=click.IntRange(min=0),
        show_default="3",
        metavar="N",
        help="How often a server that is started for this, and dies, is started again within 10 minutes.",
    ),
    click.option(
        "--page-files",
        is_flag=True,
        help="Give pages as files of a private folder, not inside requests, to a server that is started for this.",
    ),
    click.option(
        "--api-key", envvar="GLYPH_API_KEY", metavar="KEY", help="Key of the server, if it wants one [environment: GLYPH_API_KEY]."
    ),
)
_HOW = (
    click.option(
        "--max-tokens", type=click.IntRange(min=1), default=8192, show_default=True, help="Tokens for reasoning and answer together."
    ),
    click.option("--concurrency", type=click.IntRange(min=1), default=8, show_default=True, metavar="N", help="Requests at a time."),
    click.option(
        "--overlap",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        metavar="PAGES",
        help="Pages that windows repeat where a document longer than the context is cut.",
    ),
    click.option(
        "--max-request-mb",
        type=click.FloatRange(min=0, min_open=True),
        default=MAX_REQUEST_BYTES / MEGABYTE,
        show_default=True,
        metavar="MB",
        help="Largest request body.",
    ),
    click.option("--cite/--no-cite", default=None, help="Ask the model to name pages [default: with several documents or windows]."),
)
_PATIENCE = (
    click.option(
        "--retry-for",
        type=click.FloatRange(min=0),
        default=RetryPolicy().budget,
        show_default=True,
        metavar="SECONDS",
        help="How long a request that failed for a reason that may pass is tried again.",
    ),
    click.option(
        "--read-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT_READ_TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="Silence after which a request is given up and tried again.",
    ),
)
# What contradicts drawing alone: option, its parameter.
NAMED = {
    "--reader": "reader",
    "--model": "model",
    "--profile": "profile",
    "--max-model-len": "max_model_len",
    "--max-num-batched-tokens": "max_num_batched_tokens",
    "--tensor-parallel-size": "tensor_parallel_size",
    "--data-parallel-size": "data_parallel_size",
    "--port": "port",
    "--server-arg": "server_args",
    "--page-files": "page_files",
}


def reading_options(command: _F) -> _F:
    """The options of every command that asks."""
    command = patience_options(command)
    for option in reversed(_HOW):
        command = option(command)
    return server_options(command)


def patience_options(command: _F) -> _F:
    """Those of them that say how long a server may fail or be silent."""
    for option in reversed(_PATIENCE):
        command = option(command)
    return command


def server_options(command: _F) -> _F:
    """Those of them that say who reads."""
    for option in reversed(_WHO):
        command = option(command)
    return command
