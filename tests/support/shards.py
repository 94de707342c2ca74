"""Inputs for drawing into shards, and what is in a folder of shards, read by the libraries that training reads it with."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import webdataset
from PIL import Image

from glyph_pipeline import RenderConfig
from glyph_pipeline.shards import ShardReport, draw_shards

CONFIG = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False)
WORDS = [
    "the",
    "ferry",
    "of",
    "Ardmoyle",
    "ran",
    "on",
    "Thursdays",
    "until",
    "nineteen",
    "thirty",
    "two",
    "when",
    "its",
    "last",
    "boat",
    "was",
    "sold",
]


def prose(seed: int, words: int = 300) -> str:
    """A text of its own for each seed."""
    chosen = random.Random(seed)
    return "".join(chosen.choice(WORDS) + chosen.choice("     \n.") for _ in range(words)) + f"{seed}."


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def corpus(path: Path, count: int = 23, words: int = 300) -> Path:
    """Items "d 0" and so on; every seventh is longer than a page."""
    return write_lines(path, [{"id": f"d {n}", "text": prose(n, words if n % 7 else 4000), "metadata": {"n": n}} for n in range(count)])


def tree(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file by its name, hidden ones too."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def beside(folder: Path) -> list[dict[str, Any]]:
    """What stands beside the shards, in order; checks it against the shards."""
    found = []
    for path in sorted(folder.glob("shard-*.json")):
        facts = json.loads(path.read_text("utf-8"))
        shard = (folder / facts["file"]).read_bytes()
        assert facts["sha256"] == hashlib.sha256(shard).hexdigest()
        assert facts["counts"]["bytes"] == len(shard)
        found.append(facts)
    return found


def tar_samples(folder: Path) -> Iterator[dict[str, Any]]:
    """All samples, by the webdataset library's own reader and decoder: ``png`` (a picture), ``txt``, ``json``."""
    for path in sorted(folder.glob("*.tar")):
        with path.open("rb") as stream:  # the library's own opener leaves files open
            files = webdataset.tariterators.tar_file_expander([{"url": path.name, "stream": stream}])
            samples = webdataset.tariterators.group_by_keys(files)
            yield from webdataset.decode("pil")(samples)


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """All rows of Parquet shards, with the picture decoded and the JSON parsed: the fields of a sample's ``json``, ``txt`` and ``png``."""
    for path in sorted(folder.glob("*.parquet")):
        for row in pyarrow.parquet.read_table(path).to_pylist():
            row |= {name: json.loads(row[name]) for name in ("config", "metadata")}
            row["png"] = Image.open(io.BytesIO(row["png"]))
            yield row


def draw(source: Path, output: Path, **options: Any) -> ShardReport:
    """Five documents a shard, drawn in this process, unless the options say otherwise."""
    return draw_shards(source, output, **{"config": CONFIG, "shard_size": 5, "workers": 0, **options})
