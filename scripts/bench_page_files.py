"""Measures one question about many pages, sent inside the request (base64) and as files, in turns on one server. Judges nothing.

Usage: ``bench_page_files.py [--pages N] [--repeats N]``, run by a Python that has the package and the extra ``dev``; launches vLLM on the
CPU (``scripts/install_vllm_cpu``) with the tests' tiny model and a page folder. Every repeat asks about pages of its own, so that no
cache of the server has them. ``client`` is processor time of this process, ``first token`` the time until the server says something.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from glyph_pipeline import GlyphServer, Page, RenderConfig, render
from glyph_pipeline.planning import body_bytes
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.serving import vllm_cpu_home

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = (ROOT / "docs" / "sample.txt").read_text("utf-8")


def pages_of(number: int, count: int) -> list[Page]:
    """Pages that no other ``number`` has: the first line of each says so."""
    config = RenderConfig.preset("en").replace(auto_crop_last_page=False)
    drawn = list(
        render("\n".join(f"Repeat {number}, line {line}. {SAMPLE[line % 900 : line % 900 + 90]}" for line in range(85 * count)), config)
    )
    return drawn[:count]


async def ask(reader: VLLMReader, pages: list[Page]) -> tuple[float, float, float]:
    """Seconds to the first token, in all, and of this process's processor time."""
    began, worked = time.perf_counter(), time.process_time()
    first = None
    async for _ in reader.read(pages, "What is it?", max_tokens=8):
        first = first or time.perf_counter()
    assert first is not None
    return first - began, time.perf_counter() - began, time.process_time() - worked


async def measure(url: str, model: str, folder: Path, count: int, repeats: int) -> None:
    """Print the table."""
    readers = {"base64": VLLMReader(url, model), "files": VLLMReader(url, model, page_folder=folder)}
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in readers}
    size = 0
    for number in range(repeats + 1):
        for offset, (name, reader) in enumerate(readers.items()):
            pages = pages_of(2 * number + offset, count)
            size = sum(map(body_bytes, pages))
            taken = await ask(reader, pages)
            if number:  # the first warms up
                times[name].append(taken)
    print(f"{count} pages, {size / 1e6:.1f} MB of base64; median of {repeats}\n")
    print("| pages go | first token, s | whole, s | client, s |\n| --- | --- | --- | --- |")
    for name, taken_times in times.items():
        print(f"| {name} | " + " | ".join(f"{statistics.median(column):.3f}" for column in zip(*taken_times, strict=True)) + " |")
    for reader in readers.values():
        await reader.aclose()


def main() -> None:
    """Launch, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    python = Path(os.environ.get("GLYPH_VLLM_PYTHON") or vllm_cpu_home() / "bin" / "python")
    with tempfile.TemporaryDirectory() as model:
        subprocess.run([str(python), str(ROOT / "scripts" / "make_tiny_glyph.py"), model], check=True, stdout=sys.stderr)
        with GlyphServer.launch(model, "cpu", vllm=python, page_folder=True) as server:
            assert server.page_folder is not None
            asyncio.run(measure(server.base_url, server.model, server.page_folder, options.pages, options.repeats))


if __name__ == "__main__":
    main()
