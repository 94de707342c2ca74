"""The folder of a set of shards: its plan, which shards are done, and the sums at the end. Draws nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from glyph_pipeline import storage
from glyph_pipeline.errors import OutputError
from glyph_pipeline.shards.plan import ShardPlan, ShardSpec
from glyph_pipeline.shards.samples import to_json
from glyph_pipeline.shards.summary import Counts, ShardSummary
from glyph_pipeline.shards.writing import read_summary

PLAN = "shards.json"
"""The file that has the plan and, when all is done, the sums."""
# What storage calls a file until it is whole.
UNFINISHED = ".glyph-"
# Files beside shards that are read at a time: in an object store each takes a while, and there may be thousands.
_READERS = 16
_DECISIVE = {
    "format": "the format",
    "shard_size": "--shard-size",
    "config": "how pages are drawn",
    "encoding": "--encoding",
    "version": "the version of glyph-pipeline",
    "documents": "the number of documents",
    "ids": "the documents",
    "division": "the documents' sizes",
}


def begin(plan: ShardPlan, spec: ShardSpec, *, retry_failed: bool = False) -> dict[int, ShardSummary]:
    """Write the plan into the folder, if it isn't there; the summaries of the shards that are done already, by number.

    With ``retry_failed`` those with failed documents are not done: what stands beside them is removed. Raises OutputError if the folder has another plan, or shards without one, or can't be written.
    """
    storage.make_folder(spec.folder)
    path = storage.below(spec.folder, PLAN)
    sizes = dict(storage.list_files(spec.folder))
    if PLAN in sizes:
        _require_same(plan, storage.read_bytes(path), path)
    elif foreign := sorted(name for name in sizes if name.startswith("shard-")):
        raise OutputError(
            f"{storage.shown(spec.folder)!r} has shards ({foreign[0]} among them), but no {PLAN}: they are none of ours.",
            hint="Name another folder with --output, or remove them.",
        )
    else:
        _write(path, plan.to_dict())
    there = _there(plan, spec, sizes)
    with ThreadPoolExecutor(_READERS) as readers:
        found = {each.number: each for each in readers.map(lambda number: read_summary(spec, number), there) if each is not None}
    if retry_failed:
        for number in [number for number, summary in found.items() if summary.counts.failed]:
            storage.remove(storage.below(spec.folder, spec.summary_name(number)))
            del found[number]
    return found


def finish(plan: ShardPlan, spec: ShardSpec, counts: Counts) -> None:
    """Write the sums, which says that all shards are done, and remove what killed processes left unfinished.

    Raises OutputError, also if shards that were written are not there.
    """
    sizes = dict(storage.list_files(spec.folder))
    lost = sorted(set(range(len(plan.units))) - set(_there(plan, spec, sizes)))
    if lost:
        raise OutputError(
            f"{len(lost)} of the shards were written, but are not in {storage.shown(spec.folder)!r} ({spec.shard_name(lost[0])} is one).",
            hint="On a cluster every machine must see the same folder: name a shared one, or a URL. Then run it again.",
        )
    for name in sizes:
        if name.startswith(UNFINISHED):
            storage.remove(storage.below(spec.folder, name))
    _write(storage.below(spec.folder, PLAN), {**plan.to_dict(), "counts": counts.to_dict()})


def _there(plan: ShardPlan, spec: ShardSpec, names: Collection[str]) -> list[int]:
    """The numbers of the shards whose files are both there."""
    return [number for number in range(len(plan.units)) if spec.shard_name(number) in names and spec.summary_name(number) in names]


def _write(path: str, data: Mapping[str, Any]) -> None:
    storage.write_whole(path, (to_json(data, indent=1) + "\n").encode("utf-8"))


def _require_same(plan: ShardPlan, data: bytes, path: str) -> None:
    hint = "Name another folder with --output, or go on as it was begun."
    try:
        there = json.loads(data)
        identity = there["identity"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise OutputError(f"{storage.shown(path)!r} is no plan of shards.", hint="Name another folder with --output.") from None
    if identity != plan.identity:
        raise OutputError(f"{storage.shown(path)!r} is the plan of other shards: {_differences(there, plan.decisive)}.", hint=hint)


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    found = list(_told(there, here))
    return "; ".join(found) if found else "something that decides them differs"


def _told(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for key, name in _DECISIVE.items():
        before, now = there.get(key), here[key]
        if before == now:
            continue
        if key in ("ids", "division"):
            # Where something above differs, that is what is to be told.
            if (there.get("documents"), there.get("shard_size")) == (here["documents"], here["shard_size"]):
                yield f"{name} differ"
        elif isinstance(before, dict) and isinstance(now, dict):
            changed = sorted(field for field in before.keys() | now.keys() if before.get(field) != now.get(field))
            shown = [
                f"{field} was {json.dumps(before.get(field))}, is {json.dumps(now.get(field))}" for field in changed if field != "auto"
            ]
            yield f"{name} differs" + (f" ({', '.join(shown)})" if shown else "")
        else:
            yield f"{name} was {json.dumps(before)}, is {json.dumps(now)}"
