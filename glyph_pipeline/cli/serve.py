"""glyph-compress serve: a vLLM server for Glyph until Ctrl-C, or just its command line. Reads no document."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from glyph_pipeline.serving import DEFAULT_MODEL, DEFAULT_RESTARTS, GlyphServer, render_command


@click.command(short_help="Run a vLLM server for Glyph.", context_settings={"ignore_unknown_options": True})
@click.option("--model", metavar="NAME|DIR", default=DEFAULT_MODEL, show_default=True, help="Model to serve.")
@click.option(
    "--profile",
    metavar="NAME|FILE",
    default="auto",
    show_default=True,
    help="nvidia, rocm, cpu, auto (what this machine has), or a TOML file.",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on [default: 127.0.0.1, this machine only].")
@click.option("--port", type=int, help="Port [default: any free one].")
@click.option("--served-model-name", metavar="NAME", help="Name clients ask for [default: the model].")
@click.option("--max-model-len", type=int, metavar="TOKENS", help="Context of the model.")
@click.option("--max-num-batched-tokens", type=int, metavar="TOKENS", help="vLLM's batch size in tokens: the throughput knob.")
@click.option("--tensor-parallel-size", type=int, metavar="N", help="GPUs to split the model over.")
@click.option("--data-parallel-size", type=int, metavar="N", help="Copies of the model.")
@click.option("--start-timeout", type=float, default=1800, show_default=True, metavar="SECONDS", help="How long it may take to start.")
@click.option(
    "--restarts",
    type=click.IntRange(min=0),
    default=DEFAULT_RESTARTS,
    show_default=True,
    metavar="N",
    help="How often within ten minutes it may be started again when it ends by itself; 0: never.",
)
@click.option("--log", "log_path", metavar="FILE", help="Where vLLM's output goes [default: a new file in the user's log folder].")
@click.option("--print-command", is_flag=True, help="Print the command line, environment included, and start nothing.")
@click.argument("vllm_args", nargs=-1, metavar="[-- VLLM FLAGS]")
def serve(
    model: str,
    profile: str,
    start_timeout: float,
    restarts: int,
    log_path: str | None,
    print_command: bool,
    vllm_args: tuple[str, ...],
    **options: Any,
) -> int:
    """Start vLLM with the flags of its Glyph guide and keep it until Ctrl-C. Other glyph-compress commands find it.

    If it ends by itself it is started again.

    Flags that are not listed here are vLLM's and are passed on.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if print_command:
        click.echo(render_command(model, profile, extra_args=vllm_args, **given))
        return 0
    console = Console(stderr=True, highlight=False)
    with console.status("Starting vLLM ...") as status:

        def waiting(seconds: float, log_line: str) -> None:
            status.update(f"Starting vLLM, {seconds:.0f} s  [dim]{escape(log_line[:100])}[/dim]")

        server = GlyphServer.launch(
            model,
            profile,
            timeout=start_timeout,
            on_wait=waiting,
            announce=True,
            log_path=log_path,
            restarts=restarts,
            on_restart=lambda sentence: click.echo(sentence, err=True),
            extra_args=vllm_args,
            **given,
        )
    with server:
        click.echo(server.base_url)
        click.echo(f"Serving {server.model}; log: {server.log_path}; Ctrl-C stops it.", err=True)
        try:
            while True:
                server.wait()
                server.revive()  # raises when it has died too often
        except KeyboardInterrupt:
            click.echo("Stopping.", err=True)
            return 0
