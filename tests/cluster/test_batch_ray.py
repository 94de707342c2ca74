"""batch --engine ray through the installed command: what it reads and writes, on clusters that live, die, or are its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import REPOSITORY, glyph_compress
from tests.support.fake_openai import Fake, running
from tests.support.processes import MARK, command, interrupt, kill_marked, wait_for
from tests.support.ray_batches import TEXT, EchoingFirst, echo, question_of
from tests.support.ray_cluster import TwoNodes

WAIT_S = 120.0


def lines(path: Path, count: int) -> Path:
    items = [{"id": f"item {n}", "text": f"{n}: {TEXT}", "question": f"question {n}", "metadata": {"n": n}} for n in range(count)]
    path.write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    return path


def rows(path: Path) -> dict[str, dict[str, Any]]:
    """Records by id without their seconds; fails if a line is not whole, or if an item has two."""
    data = path.read_text("utf-8")
    assert data.endswith("\n")
    records = [json.loads(line) for line in data.splitlines()]
    for record in records:
        del record["seconds"]
    found = {record["id"]: record for record in records}
    assert len(found) == len(records)
    return found


def run(*arguments: str | Path, state: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = glyph_compress("batch", *arguments, state=state)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done


def test_a_cluster_of_its_own(tmp_path: Path) -> None:
    """Nothing needs to be set up; nothing but our own words on either stream, and nothing left running."""
    source = lines(tmp_path / "in.jsonl", 12)
    asked = ["batch", source, "-o", tmp_path / "ray.jsonl", "--engine", "ray"]
    with running(Fake(echo)) as fake:
        with command(*asked, "--base-url", fake.base_url, state=tmp_path / "state", python=tmp_path) as (process, _):
            out, err = process.communicate(timeout=WAIT_S)
        run(source, "-o", tmp_path / "here.jsonl", "--base-url", fake.base_url, state=tmp_path / "state")
    assert (process.returncode, out) == (0, "")
    (summary,) = err.splitlines()
    assert "12 of 12 items in " in summary
    assert rows(tmp_path / "ray.jsonl") == rows(tmp_path / "here.jsonl")


def test_sigterm_ends_a_cluster_of_its_own(tmp_path: Path) -> None:
    """With the exit code of the local engine, though Ray has a handler of its own; no process is left, and what is done stays done."""
    out = tmp_path / "ray.jsonl"
    with running(Fake(EchoingFirst(200))) as fake:
        asked = ["batch", lines(tmp_path / "in.jsonl", 400), "-o", out, "--engine", "ray", "--base-url", fake.base_url]
        with command(*asked, state=tmp_path / "state", python=tmp_path) as (process, _):
            wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") >= 5, "the fifth row", WAIT_S)
            process.terminate()
            _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert 4 <= len(rows(out)) < 400  # what was seen of the fifth may not have been safe yet


def test_parquet_in_and_out_by_url(standing_cluster: TwoNodes, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "weir.txt").write_text("The weir at Tolvane.\n", "utf-8")
    table = pa.table(
        {"id": ["a", "b", "c"], "text": [TEXT, None, f"c: {TEXT}"], "path": [None, "weir.txt", None], "question": ["A?", "B?", "C?"]}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    with running(Fake(echo)) as fake:
        asked = (f"file://{tmp_path}/in.parquet", "-o", f"file://{out}", "--base-url", fake.base_url)
        cluster = ("--engine", "ray", "--address", standing_cluster.address)
        run(*asked, *cluster, state=tmp_path / "state")
        again = run(*asked, *cluster, state=tmp_path / "state")
        assert len(fake.requests) == 3
    found = pq.read_table(out).to_pylist()
    assert {row["id"]: (row["status"], row["answer"]) for row in found} == {"a": ("ok", "A?"), "b": ("ok", "B?"), "c": ("ok", "C?")}
    assert "Nothing is missing" in again.stderr


@pytest.mark.ocr
def test_read_by_ocr(standing_cluster: TwoNodes, tmp_path: Path) -> None:
    """Each of six documents has a sentence of its own, and each is found in its own."""
    folder = tmp_path / "in"
    folder.mkdir()
    towns = ["Ardmoyle", "Tolvane", "Kesterby", "Lunmore", "Dravik", "Pellworth"]
    for number, town in enumerate(towns):
        (folder / f"{town}.txt").write_text(f"{TEXT[:300]}\nThe keeper of the lighthouse of {town} had {number + 3} goats.\n", "utf-8")
    asked = (folder, "-o", tmp_path / "out.jsonl", "-q", "How many goats had the keeper of the lighthouse?", "--reader", "ocr")
    run(*asked, "--engine", "ray", "--address", standing_cluster.address, "--mode", "pages", state=tmp_path / "state")
    found = rows(tmp_path / "out.jsonl")
    assert sorted(found) == sorted(f"{town}.txt" for town in towns)
    for number, town in enumerate(towns):
        assert f"had {number + 3} goats" in found[f"{town}.txt"]["answer"]


def test_a_killed_driver_goes_on_where_it_stopped(standing_cluster: TwoNodes, tmp_path: Path) -> None:
    count, out = 60, tmp_path / "out.jsonl"
    source = lines(tmp_path / "in.jsonl", count)
    with running(Fake(EchoingFirst(40))) as fake:
        asked = [source, "-o", out, "--base-url", fake.base_url, "--engine", "ray", "--address", standing_cluster.address]
        with command("batch", *asked, state=tmp_path / "state", python=tmp_path) as (process, _):
            wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") >= 10, "the tenth row", WAIT_S)
            process.kill()
            process.wait()
        before = out.read_bytes()
        kept = before[: before.rfind(b"\n") + 1]
        assert 10 <= kept.count(b"\n") < count
        asked_before = Counter(map(question_of, fake.requests))
        fake.reply = echo
        done = run(*asked, state=tmp_path / "state")
        asked_after = Counter(map(question_of, fake.requests)) - asked_before
    assert out.read_bytes().startswith(kept)
    found = rows(out)
    assert len(found) == count
    assert f"{kept.count(chr(10).encode())} of {count} items are done already" in done.stderr
    written = {json.loads(line)["question"] for line in kept.splitlines()}
    assert not written & asked_after.keys()


def test_ctrl_c_ends_it_and_a_node_dies_meanwhile(cluster: TwoNodes, tmp_path: Path) -> None:
    """Ctrl-C in the middle; the second run loses a machine and is complete all the same."""
    count, out = 100, tmp_path / "out.jsonl"
    source = lines(tmp_path / "in.jsonl", count)
    with running(Fake(EchoingFirst(40))) as fake:
        asked = ["batch", source, "-o", out, "--base-url", fake.base_url, "--engine", "ray", "--address", cluster.address]

        def written() -> int:
            return out.read_bytes().count(b"\n") if out.exists() else 0

        with command(*asked, state=tmp_path / "state", python=tmp_path) as (process, _):
            wait_for(lambda: written() >= 5, "the fifth row", WAIT_S)
            interrupt(process)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "still missing: run it again" in err
        assert "Traceback" not in err
        interrupted = written()
        assert 4 <= interrupted < count  # what was seen of the fifth may not have been safe yet, and is then asked again
        fake.reply = held = EchoingFirst(80)
        with command(*asked, state=tmp_path / "state", python=tmp_path) as (process, _):
            wait_for(lambda: written() >= interrupted + 10, "ten more rows", WAIT_S)
            for _ in range(8 // 2 + 1):  # more than one of the two readers may have under way, so both have some
                assert held.waiting.acquire(timeout=60)
            cluster.kill()
            held.release()
            out_text, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, out_text) == (0, ""), err
    assert "was lost; what it had under way is done again" in err
    assert len(rows(out)) == count


def test_options_that_contradict_each_other(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", 1)
    asked = (source, "-o", tmp_path / "out.jsonl", "--base-url", "http://127.0.0.1:1/v1")
    assert "--workers" in run(*asked, "--engine", "ray", "--workers", "2", state=tmp_path, code=2).stderr
    assert "--address" in run(*asked, "--address", "auto", state=tmp_path, code=2).stderr
    assert "ray job submit" in run(*asked, "--engine", "ray", "--address", "ray://127.0.0.1:1", state=tmp_path, code=2).stderr
    engines = (source, "-o", tmp_path / "out.jsonl", "--engine", "ray", "--profile", "cpu", "--model", tmp_path, "--port", "1")
    assert "--port can't be given" in run(*engines, state=tmp_path, code=2).stderr
    none = run(*asked, "--engine", "ray", "--address", "127.0.0.1:1", state=tmp_path, code=14)
    assert "No Ray cluster answers" in none.stderr


@pytest.mark.timeout(900)
def test_the_long_run_in_small(tmp_path: Path) -> None:
    """scripts/measure_cluster.py: a node killed after a third; it compares with the local engine's rows and judges itself."""
    script = REPOSITORY / "scripts" / "measure_cluster.py"
    try:
        done = subprocess.run(
            [sys.executable, script, "small", "--documents", "160", "--keep", tmp_path],
            env={**os.environ, MARK: str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
    finally:
        kill_marked(str(tmp_path))  # of one that is cut short a cluster would remain
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the second node is killed" in done.stdout
    assert "160 rows, 0 missing, 0 twice, 0 other than the local engine's" in done.stdout
