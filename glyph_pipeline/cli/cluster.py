"""--engine ray: its options, and what they say of who reads on a cluster. Draws and asks nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from glyph_pipeline.errors import UsageError

if TYPE_CHECKING:
    from glyph_pipeline.cli.choice import Asking
    from glyph_pipeline.cluster import AskSpec, Engines
    from glyph_pipeline.rendering.config import RenderConfig

_F = TypeVar("_F", bound=Callable[..., Any])


def engine_options(command: _F) -> _F:
    """--engine and --address."""
    engine = click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="What spreads the work: processes of this machine, or a Ray cluster (extra ray).",
    )
    address = click.option(
        "--address",
        metavar="auto|HOST:PORT",
        help="The Ray cluster; auto: the one that this machine belongs to [default: one of this machine alone, started for this].",
    )
    return engine(address(command))


def check_engine(engine: str, only_ray: Mapping[str, Any], only_local: Mapping[str, Any]) -> None:
    """Raise UsageError for options, by their names, that the other engine would need."""
    for options, other in ((only_local, "ray"), (only_ray, "local")):
        named = [name for name, value in options.items() if value is not None]
        if engine == other and named:
            wanted = "local" if other == "ray" else "ray"
            raise UsageError(
                f"{named[0]} is an option of --engine {wanted}, not of {other}.", hint=f"Leave it out, or use --engine {wanted}."
            )


def spec_of(
    asking: Asking,
    drawing: RenderConfig | Mapping[str, Any],
    readers: int | None,
    ray: ModuleType,
    own: bool,
    notice: Callable[[str], object],
) -> AskSpec:
    """Who reads on the connected cluster, in this order: what was named; a server that ``glyph-compress serve`` started, if the cluster
    is this machine's own (``own``); vLLM in the cluster, if that was asked for or it has GPUs; else OCR, with a notice."""
    from glyph_pipeline.cluster import AskSpec
    from glyph_pipeline.reading.ocr import NOTICE
    from glyph_pipeline.serving import GlyphServer

    choice, arguments = asking.choice, dict(asking.arguments)
    store = arguments.pop("cache")
    spec = {
        "config": drawing,
        "concurrency": arguments.pop("concurrency"),
        "readers": readers,
        "store": None if store is None else store.place,
    }
    gpus = ray.cluster_resources().get("GPU", 0)
    where: dict[str, Any] = {}
    if choice.base_urls:
        where = {"base_url": list(choice.base_urls), "model": choice.model, "api_key": choice.api_key}
    elif choice.reader != "ocr":
        running = None
        if own and choice.profile is None and not choice.launch:
            running = GlyphServer.find(choice.served_name, api_key=choice.api_key)
        if running is not None:
            notice(f"Reading with {running.model} at {running.base_url}, which glyph-compress serve started.")
            where = {"base_url": running.base_url, "model": running.model, "api_key": choice.api_key or running.api_key}
        elif choice.asks_for_server or gpus:
            return AskSpec(arguments, engines=_engines(asking, bool(gpus)), **spec)
        else:
            notice(NOTICE)
    return AskSpec({**arguments, **where}, **spec)


def _engines(asking: Asking, gpus: bool) -> Engines:
    from glyph_pipeline.batch.worker import absolute_file
    from glyph_pipeline.cluster import Engines
    from glyph_pipeline.serving import DEFAULT_MODEL

    choice = asking.choice
    launch = {**choice.launch_arguments(), "timeout": asking.start_timeout, "restarts": choice.restarts}
    if "port" in launch:
        raise UsageError("--port can't be given for servers in a cluster: several may stand on one machine.", hint="Leave it out.")
    needed = launch.get("tensor_parallel_size", 1) * launch.get("data_parallel_size", 1)
    on_cpu = choice.profile == "cpu" or not gpus
    profile = absolute_file(choice.profile or "auto")
    return Engines(choice.served_name or DEFAULT_MODEL, profile, launch, gpus=0 if on_cpu else needed)
