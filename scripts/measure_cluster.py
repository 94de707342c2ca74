"""Runs batches on a Ray cluster of two nodes beside the local engine, kills a node on the way, and compares the rows. Judges by its exit code.

Usage: ``measure_cluster.py small|long|scaling|driver|settings [options]``, run by a Python that has the package and the extra ``dev``.

  small    10,000 small documents through a stand-in server (scripts/stand_in_server.py), the second node killed after a third of them
  long     300 documents, one of a million tokens, through the tests' tiny model on the real vLLM (scripts/install_vllm_cpu), likewise
  scaling  documents and pages a second for 1, 2 and 4 processes that draw, local engine and Ray in turn, through the stand-in server
  driver   rows a second that the driver takes from Ray and writes, each on the disk before the next: its share of the work, and its bound
  settings seconds of a few documents on two nodes with and without the two settings of docs/scale.md, the machine idle and with other work

Each writes its rows with the installed command (``glyph-compress batch``), so that what is measured is what a user runs. Exit code 1 if
a document is missing or twice, or if the engines' rows differ in anything but ``seconds``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from long_document import real_text

from glyph_pipeline import GlyphServer
from glyph_pipeline.serving import vllm_cpu_home

ROOT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).with_name("glyph-compress")
WORDS = [
    "ferry",
    "weir",
    "dome",
    "ice",
    "winter",
    "mallet",
    "ledger",
    "harbour",
    "lantern",
    "copper",
    "orchard",
    "signal",
    "valley",
    "needle",
    "canvas",
    "anchor",
    "meadow",
    "cellar",
]
NODE = {"num_cpus": 1, "object_store_memory": 500_000_000}
# Ray ends idle processes beyond one a core, and starting another takes seconds; and it has its processes stand back for all others: what
# each is worth, docs/scale.md says.
SETTINGS = {"num_workers_soft_limit": 8, "worker_niceness": 0}


def main() -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["small", "long", "scaling", "driver", "settings"])
    parser.add_argument("--documents", type=int, help="how many [default: 10,000; long: 300; scaling: 1,000; settings: 108]")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="of the longest document of long")
    parser.add_argument("--max-model-len", type=int, default=16384, help="context of the tiny model")
    parser.add_argument("--base-url", help="a server that is there, instead of one that long or small starts and stops")
    parser.add_argument("--concurrency", type=int, help="requests at a time [default: 16; long: 4]")
    parser.add_argument("--keep", type=Path, help="folder for input and output [default: one that is removed]")
    options = parser.parse_args()
    # More long prompts at a time than this only get in each other's way on a CPU.
    options.concurrency = options.concurrency or (4 if options.what == "long" else 16)
    with ExitStack() as stack:
        folder = (options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if options.what == "small":
            source = small_documents(folder, options.documents or 10_000)
            return killed(folder, source, options.base_url or stack.enter_context(stand_in()), options)
        if options.what == "long":
            source = long_documents(folder, options.documents or 300, options.tokens)
            return killed(folder, source, options.base_url or stack.enter_context(tiny_vllm(options.max_model_len)), options)
        if options.what == "driver":
            return driver(folder, options.documents or 10_000)
        if options.what == "settings":
            return settings(folder, small_documents(folder, options.documents or 108), stack.enter_context(stand_in()), options)
        return scaling(folder, small_documents(folder, options.documents or 1_000), stack.enter_context(stand_in()), options)


# -- what is asked -------------------------------------------------------------------------------------------------------------


def small_documents(folder: Path, count: int) -> Path:
    """Documents of 200 to 6,000 characters; the same for the same count."""
    chance, lines = random.Random(8), []
    for number in range(count):
        text = " ".join(chance.choice(WORDS) for _ in range(chance.randint(30, 900)))
        lines.append({"id": f"document {number}", "text": f"Document {number}. {text}.", "question": f"What is said in {number}?"})
    return written(folder / f"small-{count}.jsonl", lines)


def long_documents(folder: Path, count: int, tokens: int) -> Path:
    """Pieces of documentation of 500 to 6,000 characters, and in their middle one document of so many tokens."""
    text, chance = real_text(tokens), random.Random(8)
    lines = []
    for number in range(count - 1):
        start = chance.randrange(len(text) - 6000)
        piece = text[start : start + chance.randint(500, 6000)]
        lines.append({"id": f"document {number}", "text": piece, "question": "What is said of time zones?"})
    lines.insert(count // 2, {"id": "the long one", "text": text, "question": "What is said of time zones?"})
    return written(folder / f"long-{count}.jsonl", lines)


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


# -- who answers ---------------------------------------------------------------------------------------------------------------


@contextmanager
def stand_in() -> Iterator[str]:
    """The URL of a stand-in server."""
    with subprocess.Popen([sys.executable, str(ROOT / "scripts" / "stand_in_server.py")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def tiny_vllm(max_model_len: int) -> Iterator[str]:
    """The URL of the real vLLM with the tests' tiny model."""
    python = Path(os.environ.get("GLYPH_VLLM_PYTHON") or vllm_cpu_home() / "bin" / "python")
    with tempfile.TemporaryDirectory() as model:
        subprocess.run([str(python), str(ROOT / "scripts" / "make_tiny_glyph.py"), model], check=True)
        print("Starting vLLM ...", flush=True)
        with GlyphServer.launch(model, "cpu", vllm=python, max_model_len=max_model_len) as server:
            yield server.base_url


# -- the cluster ---------------------------------------------------------------------------------------------------------------


@contextmanager
def two_nodes(settings: dict[str, int] = SETTINGS) -> Iterator[tuple[str, Any]]:
    """The address of a cluster of two nodes, and what kills the second as a power cut would."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": settings})
    second = cluster.add_node(**NODE)
    try:
        yield cluster.address, lambda: cluster.remove_node(second, allow_graceful=False)
    finally:
        cluster.shutdown()


def batch(source: Path, out: Path, url: str, concurrency: int, *more: str) -> tuple[float, str]:
    """Run the installed command to its end: its seconds, and what it said."""
    asked = [str(COMMAND), "batch", str(source), "-o", str(out), "--base-url", url, "--concurrency", str(concurrency), *more]
    began = time.monotonic()
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=out.parent)
    seconds = time.monotonic() - began
    print(f"$ glyph-compress {' '.join(arg.replace(str(out.parent) + '/', '') for arg in asked[1:])}\n{done.stderr.rstrip()}", flush=True)
    print(f"exit code {done.returncode}, {seconds:.1f} s", flush=True)
    if done.returncode:
        raise SystemExit(1)
    return seconds, done.stderr


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """The records by id, without their seconds; exits if one is there twice."""
    found: dict[str, dict[str, Any]] = {}
    with out.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            del record["seconds"]
            if record["id"] in found:
                raise SystemExit(f"{record['id']} is there twice")
            found[record["id"]] = record
    return found


def killed(folder: Path, source: Path, url: str, options: argparse.Namespace) -> int:
    """The cluster loses a node after a third of the documents; then the local engine does the same."""
    with source.open(encoding="utf-8") as file:
        ids = [json.loads(line)["id"] for line in file]
    there, here = folder / "ray.jsonl", folder / "local.jsonl"
    for path in (there, here):
        path.unlink(missing_ok=True)
    with two_nodes() as (address, kill):
        over, lost = threading.Event(), list[int]()

        def watch() -> None:
            began = time.monotonic()
            while not over.wait(0.2):
                count = there.read_bytes().count(b"\n") if there.exists() else 0
                if count >= len(ids) // 3:
                    kill()
                    lost.append(count)
                    print(
                        f"{time.monotonic() - began:.1f} s: the second node is killed, {count:,} of {len(ids):,} rows written", flush=True
                    )
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            ray_seconds, _ = batch(source, there, url, options.concurrency, "--engine", "ray", "--address", address)
        finally:
            over.set()
            watcher.join()
    local_seconds, _ = batch(source, here, url, options.concurrency)
    found, expected = rows(there), rows(here)
    missing = set(ids) - found.keys()
    differing = [id for id in found if found[id] != expected.get(id)]
    pages = sum(record["report"]["pages"] for record in found.values())
    statuses = sorted({record["status"] for record in found.values()})
    print(
        f"{len(ids):,} documents, {pages:,} pages: {len(found):,} rows, {len(missing)} missing, 0 twice, {len(differing)} other than "
        f"the local engine's; status {', '.join(statuses)}\n"
        f"Ray, two nodes of one core, one killed: {ray_seconds:.1f} s; local engine, the whole machine: {local_seconds:.1f} s"
    )
    return 1 if not lost or lost[0] == len(ids) or missing or differing or len(expected) != len(ids) or statuses != ["ok"] else 0


def scaling(folder: Path, source: Path, url: str, options: argparse.Namespace) -> int:
    """A table of documents and pages a second; the seconds are those of the whole command, its start included."""
    lines = ["| processes that draw | engine | seconds | documents/s | pages/s |", "|---|---|---|---|---|"]
    expected: dict[str, dict[str, Any]] | None = None
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    for workers in (1, 2, 4):
        for engine in ("local", "ray"):
            out = folder / f"{engine}-{workers}.jsonl"
            out.unlink(missing_ok=True)
            if engine == "local":
                seconds, _ = batch(source, out, url, options.concurrency, "--workers", str(workers))
            else:
                # One core more, for the reader.
                head = {**NODE, "num_cpus": workers + 1, "include_dashboard": False, "_system_config": SETTINGS}
                cluster = Cluster(initialize_head=True, head_node_args=head)
                try:
                    seconds, _ = batch(source, out, url, options.concurrency, "--engine", "ray", "--address", cluster.address)
                finally:
                    cluster.shutdown()
            found = rows(out)
            expected = expected or found
            if found != expected:
                raise SystemExit("the rows differ")
            pages = sum(record["report"]["pages"] for record in found.values())
            lines.append(f"| {workers} | {engine} | {seconds:.1f} | {len(found) / seconds:.1f} | {pages / seconds:.1f} |")
    print("\n".join(lines))
    return 0


def settings(folder: Path, source: Path, url: str, options: argparse.Namespace) -> int:
    """A table of seconds: Ray's defaults, each of SETTINGS alone, and both; alone on the machine, and beside a process that keeps a core busy."""
    choices: dict[str, dict[str, int]] = {
        "Ray's defaults": {},
        **{f"`{key}` {SETTINGS[key]}": {key: SETTINGS[key]} for key in SETTINGS},
        "both": SETTINGS,
    }
    lines, found = ["| settings | s, nothing else running | s, one other process busy |", "|---|---|---|"], []
    for name, chosen in choices.items():
        told = []
        for busy in (False, True):
            out = folder / f"settings-{len(found)}.jsonl"
            out.unlink(missing_ok=True)
            with ExitStack() as stack:
                address, _ = stack.enter_context(two_nodes(chosen))
                if busy:
                    other = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
                    stack.callback(other.kill)
                seconds, _ = batch(source, out, url, options.concurrency, "--engine", "ray", "--address", address)
            found.append(rows(out))
            told.append(f"{seconds:.1f}")
        lines.append(f"| {name} | {' | '.join(told)} |")
    print("\n".join(lines))
    return 0 if all(each == found[0] for each in found) else 1


def driver(folder: Path, count: int) -> int:
    """Results of usual size come from tasks that do nothing else, by the way that those of a batch come."""
    from glyph_pipeline import Document, GlyphPipeline
    from glyph_pipeline.batch import open_results
    from glyph_pipeline.cluster import session
    from glyph_pipeline.cluster.rows import packed_values, table_of, unpacked
    from glyph_pipeline.cluster.settings import data_settings

    with stand_in() as url:
        (result,) = GlyphPipeline(url).ask_many([(Document(" ".join(WORDS * 60), id="a"), "What is said?")], workers=0)
    results = [dataclasses.replace(result, id=str(number)) for number in range(count)]
    out = folder / "driver.jsonl"
    out.unlink(missing_ok=True)
    with session() as ray, data_settings(ray), open_results(out) as store:
        blocks = [table_of([(each.id, each) for each in results[start : start + 16]]) for start in range(0, count, 16)]
        began = time.monotonic()
        dataset = ray.data.from_arrow(blocks).map_batches(lambda table: table, batch_size=None, batch_format="pyarrow")
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for value in packed_values(table):
                store.add(unpacked(value).to_dict())
        seconds = time.monotonic() - began
    print(f"{count:,} rows of {out.stat().st_size // count:,} bytes in {seconds:.1f} s: {count / seconds:,.0f} rows/s")
    return 0 if len(rows(out)) == count else 1


if __name__ == "__main__":
    sys.exit(main())
