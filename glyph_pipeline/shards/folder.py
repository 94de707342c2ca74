"""The folder of a set of shards: its plan, which shards are done, and the sums at the end. Draws nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glyph_pipeline import storage
from glyph_pipeline.batch.lock import RunLock, files_of
from glyph_pipeline.errors import OutputError
from glyph_pipeline.files import not_written
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
    "division": "where one shard ends and the next begins",
    "fonts": "the font file",
}


@contextmanager
def held(folder: str) -> Iterator[None]:
    """The folder, made if it is not there, for this run alone; for a URL there is no such thing. Raises OutputError."""
    storage.make_folder(folder)
    if storage.is_url(folder):
        yield
        return
    lock = RunLock(files_of(folder)[1], Path(folder))
    try:
        lock.take()
    except OSError as e:
        raise not_written(files_of(folder)[1], e) from e
    try:
        yield
    finally:
        lock.release()


def begin(plan: ShardPlan, spec: ShardSpec, *, retry_failed: bool = False) -> dict[int, ShardSummary]:
    """Write the plan into the folder, if it isn't there; the summaries of the shards that are done already, by number.

    With ``retry_failed`` those with failed documents are not done: what stands beside them is removed, and documents may have other
    sizes than before. Raises OutputError if the folder has another plan, or shards without one, or can't be written.
    """
    path = storage.below(spec.folder, PLAN)
    sizes = dict(storage.list_files(spec.folder))
    there: Mapping[str, Any] = plan.to_dict()
    if PLAN in sizes:
        there = _same(plan, path, sizes_too=not retry_failed)
    elif foreign := sorted(name for name in sizes if name.startswith("shard-")):
        raise OutputError(
            f"{storage.shown(spec.folder)!r} has shards ({foreign[0]} among them), but no {PLAN}: they are none of ours.",
            hint="Name another folder with --output, or remove them.",
        )
    else:
        _write(path, there)
    with ThreadPoolExecutor(_READERS) as readers:
        summaries = readers.map(lambda number: read_summary(spec, number), _there(plan, spec, sizes))
        found = {each.number: each for each in summaries if each is not None}
    again = [number for number, summary in found.items() if summary.counts.failed] if retry_failed else []
    if there.get("sizes") != plan.sizes or ("counts" in there and len(found) - len(again) < len(plan.units)):
        _write(path, plan.to_dict())  # without the sums, which say that all is done
    for number in again:
        storage.remove(storage.below(spec.folder, spec.summary_name(number)))
        del found[number]
    return found


def finish(plan: ShardPlan, spec: ShardSpec, counts: Counts) -> None:
    """Write the sums, which says that all shards are done, and remove what killed processes left unfinished.

    Raises OutputError, also if shards that were written are not there, or if another run has begun others in this folder.
    """
    path = storage.below(spec.folder, PLAN)
    _same(plan, path)
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
    _write(path, {**plan.to_dict(), "counts": counts.to_dict()})


def _there(plan: ShardPlan, spec: ShardSpec, names: Collection[str]) -> list[int]:
    """The numbers of the shards whose files are both there."""
    return [number for number in range(len(plan.units)) if spec.shard_name(number) in names and spec.summary_name(number) in names]


def _write(path: str, data: Mapping[str, Any]) -> None:
    storage.write_whole(path, (to_json(data, indent=1) + "\n").encode("utf-8"))


def _same(plan: ShardPlan, path: str, *, sizes_too: bool = True) -> Mapping[str, Any]:
    """The plan that stands there. Raises OutputError if it is of other shards, or of documents of other sizes."""
    hint = "Name another folder with --output, or go on as it was begun."
    try:
        there: Mapping[str, Any] = json.loads(storage.read_bytes(path))
        identity = there["identity"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise OutputError(f"{storage.shown(path)!r} is no plan of shards.", hint="Name another folder with --output.") from None
    if identity != plan.identity:
        raise OutputError(f"{storage.shown(path)!r} is the plan of other shards: {_differences(there, plan.decisive)}.", hint=hint)
    if sizes_too and there.get("sizes") != plan.sizes:
        raise OutputError(
            f"{storage.shown(path)!r} is the plan of other shards: the documents' sizes differ.",
            hint="Name another folder with --output; or add --retry-failed if documents that had failed were mended, and no others.",
        )
    return there


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
