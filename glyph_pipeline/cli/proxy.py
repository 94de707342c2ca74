"""glyph-compress proxy: an OpenAI-compatible proxy that draws long texts, until Ctrl-C. Draws nothing itself."""

from __future__ import annotations

from typing import Any

import click

from glyph_pipeline.cli.options import DRAWING_OPTIONS, chosen_drawing, drawing_options
from glyph_pipeline.errors import MissingExtraError
from glyph_pipeline.tokens.vision import FAMILIES


@click.command(short_help="Draw long texts of chat requests on their way to a server.")
@click.option("--upstream", required=True, metavar="URL", help="OpenAI-compatible server to forward to, such as http://127.0.0.1:8000/v1.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on; any but this machine's own needs --api-key.",
)
@click.option("--port", type=int, default=8100, show_default=True, help="Port to listen on; 0: any free one.")
@click.option(
    "--api-key", envvar="GLYPH_PROXY_API_KEY", metavar="KEY", help="Key that clients have to send [environment: GLYPH_PROXY_API_KEY]."
)
@click.option(
    "--upstream-api-key",
    envvar="GLYPH_UPSTREAM_API_KEY",
    metavar="KEY",
    help="Key for the upstream, in place of the client's [environment: GLYPH_UPSTREAM_API_KEY].",
)
@click.option(
    "--draw-role",
    "draw_roles",
    multiple=True,
    default=("user",),
    show_default=True,
    metavar="ROLE",
    help="Draw texts of messages with this role; may be repeated.",
)
@click.option("--min-tokens", type=int, default=1000, show_default=True, metavar="TOKENS", help="Leave texts shorter than this.")
@click.option(
    "--min-ratio",
    type=float,
    default=1.5,
    show_default=True,
    metavar="RATIO",
    help="Leave texts with fewer text tokens for each vision token than this.",
)
@click.option("--max-chars", type=int, default=2_000_000, show_default=True, metavar="CHARS", help="Leave texts longer than this.")
@click.option(
    "--family",
    type=click.Choice(["auto", *FAMILIES]),
    default="auto",
    show_default=True,
    help="Image arithmetic of the model behind the upstream.",
)
@drawing_options
@click.option(
    "--max-body-mb", type=click.FloatRange(min=0, min_open=True), default=32, show_default=True, metavar="MB", help="Largest request body."
)
@click.option(
    "--max-concurrency", type=int, default=256, show_default=True, metavar="N", help="Requests at a time; more are told to come back."
)
@click.option("--workers", type=int, metavar="N", help="Processes that draw [default: one a core, at most 4]; 0: threads.")
@click.option("--cache-mb", type=click.FloatRange(min=0), default=256, show_default=True, metavar="MB", help="Drawn pages that are kept.")
@click.option(
    "--read-timeout",
    type=float,
    default=1800,
    show_default=True,
    metavar="SECONDS",
    help="Silence of the upstream after which a request is given up.",
)
@click.option("--client-timeout", type=float, default=60, show_default=True, metavar="SECONDS", help="Time for a client to send a request.")
@click.option(
    "--grace", type=float, default=10, show_default=True, metavar="SECONDS", help="Time for requests under way when the proxy is stopped."
)
def proxy(**options: Any) -> int:
    """Forward chat requests to an OpenAI-compatible server, with long texts of messages drawn as pages where that saves tokens.

    Its own URL goes to standard output; point clients at it in place of the server's. docs/proxy.md has the rules.
    """
    from glyph_pipeline.background import cores
    from glyph_pipeline.proxy.settings import MEGABYTE, DrawPolicy, ProxySettings
    from glyph_pipeline.rendering.config import RenderConfig
    from glyph_pipeline.rendering.renderer import Renderer

    drawing = chosen_drawing(**{name: options[name] for name in DRAWING_OPTIONS})
    settings = ProxySettings(
        upstream=options["upstream"],
        host=options["host"],
        port=options["port"],
        api_key=options["api_key"],
        upstream_api_key=options["upstream_api_key"],
        policy=DrawPolicy(frozenset(options["draw_roles"]), options["min_tokens"], options["min_ratio"], options["max_chars"]),
        drawing=drawing,
        family=None if options["family"] == "auto" else options["family"],
        workers=min(cores(), 4) if options["workers"] is None else options["workers"],
        max_body_bytes=int(options["max_body_mb"] * MEGABYTE),
        max_concurrency=options["max_concurrency"],
        cache_bytes=int(options["cache_mb"] * MEGABYTE),
        read_timeout=options["read_timeout"],
        client_timeout=options["client_timeout"],
        grace=options["grace"],
    )
    # A wrong key or font shows now, not with the first request.
    Renderer(drawing if isinstance(drawing, RenderConfig) else RenderConfig.for_texts([], drawing))
    try:
        from glyph_pipeline.proxy.running import ProxyServer
    except ModuleNotFoundError as e:
        if (e.name or "").split(".")[0] not in ("starlette", "uvicorn", "prometheus_client", "h11"):
            raise
        raise MissingExtraError("The proxy", "proxy", package=e.name) from e

    server = ProxyServer(settings)
    click.echo(server.base_url)
    click.echo(f"Forwarding to {settings.upstream}; Ctrl-C stops it.", err=True)
    server.run()
    return 0
