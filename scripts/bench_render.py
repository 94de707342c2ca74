"""Measures the renderer: speed beside ReportLab + poppler, PNG floor, memory, linearity, two processes, cold start. Judges nothing.

Usage: ``bench_render.py [--quick | --full] [--only SECTION ...] [--json FILE] [--repeats N]``, run by a Python that has the extra ``dev``.
The oracle needs pdftoppm (Debian package poppler-utils). Every measurement runs in a fresh process, on one core, and
draws every page to its PNG. Without an option about three minutes, ``--quick`` one, ``--full`` about ten.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glyph_pipeline import RenderConfig, render
from glyph_pipeline.rendering.png import encode_png

Result = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of text: words that are drawn by lot, characters a source line, the preset it is drawn with, and whether the oracle can."""

    words: str
    line: int
    preset: str = "en"
    oracle: bool = True
    gap: str = " "


SECTIONS = ("texts", "linear", "processes", "cold")
ORACLE = Path(__file__).resolve().parent.parent / "tests" / "rendering"
LIBRARIES = ("glyph-pipeline", "numpy", "freetype-py", "uharfbuzz", "isal", "pillow", "reportlab")
MEGABYTE = 1_000_000

_ENGLISH = (
    "the of and to in a that it was he for on as with his they at be this had not but from have she which or her by one we all "
    "there harbour lantern morning, ships came slowly; rivers ran unhurriedly past extraordinarily quiet villages. When the light "
    "failed, somebody (nobody knew who) rang the bell - twice. Winter had begun; roads were closed, letters arrived late."
)
_LOG = 'INFO WARN ok= id=4711 [worker-3] GET /index 200 17ms retry cache.miss if (n > 0) { return x[i]; } "name": null, 0x7f3a // todo'
_CHINESE = "清晨的港口 灯笼 船慢慢地来了， 河水流过 安静的村庄。 冬天开始了； 道路 已经关闭， 信件来得很晚。 没有人知道 谁 敲了两次钟 图书馆 里 的 老人 记得 那一年"
_ARABIC = "في الصباح وصلت السفن إلى الميناء ببطء وكان المصباح مضيئا، ثم بدأ الشتاء وأغلقت الطرق ولم تصل الرسائل إلا متأخرة. لا أحد يعرف من قرع الجرس مرتين"
_HINDI = "सुबह जहाज़ धीरे धीरे बंदरगाह पर आए और लालटेन जल रही थी, फिर सर्दी शुरू हुई रास्ते बंद हो गए चिट्ठियाँ देर से आईं। कोई नहीं जानता किसने घंटी बजाई"
TEXTS = {
    "prose": Kind(_ENGLISH, 600),
    "short lines": Kind(_LOG, 40),
    "long paragraphs": Kind(_ENGLISH, 100_000),
    "Chinese prose": Kind(_CHINESE, 300, preset="zh", gap=""),
    "Arabic": Kind(_ARABIC, 600, oracle=False),
    "Hindi": Kind(_HINDI, 600, oracle=False),
}


def text_of(name: str, characters: int, seed: int = 0) -> str:
    """Ours, by lot, the same every time; over a million characters the first million over and over."""
    kind, chance = TEXTS[name], random.Random(f"{name} {seed}")
    vocabulary, lines, length = kind.words.split(), [], 0
    while length < min(characters, MEGABYTE):
        line = kind.gap.join(chance.choices(vocabulary, k=kind.line // 3))[: int(kind.line * chance.uniform(0.5, 1.5))]
        lines.append(line)
        length += len(line) + 1
    text = "\n".join([*lines, ""])[:MEGABYTE]
    return (text * -(-characters // len(text)))[:characters]


# Characters of each text that we draw, and that the oracle, so much slower, is given.
SIZES = {
    "prose": {"quick": (300_000, 150_000), "default": (MEGABYTE, 600_000), "full": (MEGABYTE, MEGABYTE)},
    "short lines": {"quick": (300_000, 150_000), "default": (MEGABYTE, 600_000), "full": (MEGABYTE, MEGABYTE)},
    "long paragraphs": {"quick": (500_000, 60_000), "default": (500_000, 150_000), "full": (500_000, 500_000)},
    "others": {"quick": (100_000, 30_000), "default": (300_000, 150_000), "full": (MEGABYTE, 300_000)},
}
LINEAR = [100_000, MEGABYTE, 10 * MEGABYTE, 100 * MEGABYTE]
# How many of LINEAR, documents of one MB for two processes, repeats of a text, starts.
COUNTS = {"quick": (2, 4, 2, 5), "default": (3, 8, 3, 10), "full": (4, 16, 5, 10)}

FIRST_PAGE = "import sys; from glyph_pipeline import render; next(render(open(sys.argv[1], encoding='utf-8').read())).png; "
SAY_SO = "import os; os.write(1, b'.')"


def config_of(name: str) -> RenderConfig:
    """The preset; the English one with a font that is here for certain, so that the oracle draws with the same."""
    config = RenderConfig.preset(TEXTS[name].preset)
    return config.replace(font="DejaVuSans.ttf") if config.font == "Verdana" else config


def measure_text(name: str, characters: int, repeats: int) -> Result:
    """Our renderer on one text: the best of ``repeats``; then the PNG encoder alone on the very same pixels."""
    text, config = text_of(name, characters), config_of(name)
    reset_peak()
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        pages = png_bytes = 0
        for page in render(text, config):
            pages += 1
            png_bytes += len(page.png)
        best = min(best, time.perf_counter() - begin)
        assert page.end == len(text), "not every character is on a page"
    peak = peak_mb()
    escaped = sum(line.count("[U+") for page in render(text[:5000], config) for line in page.lines)
    pixels = [np.asarray(page.to_image()) for page in render(text, config)]
    floor = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        for array in pixels:
            encode_png(array)
        floor = min(floor, time.perf_counter() - begin)
    ours = {"characters": len(text), "pages": pages, "seconds": best, "png_bytes": png_bytes, "peak_mb": peak}
    return {**ours, "png_floor_s": floor, "escaped": escaped}


def measure_oracle(name: str, characters: int) -> Result:
    """ReportLab + poppler on the first ``characters`` of a text, once: PDF, pages, crops, and PNG by Pillow, as the official renderer."""
    sys.path.insert(0, str(ORACLE))
    from poppler_oracle import finished, oracle_pdf, poppler_pages

    text, config = text_of(name, characters), config_of(name)
    if name == "Chinese prose":  # ReportLab reads no CFF outlines
        from truetype_cjk import truetype_font

        with tempfile.TemporaryDirectory() as folder:
            config = config.replace(font=str(truetype_font("".join(sorted(set(text))), Path(folder))))
            oracle_pdf(text[:100], config)
    oracle_pdf(text[:100], config)  # imports, and reads the font into memory
    reset_peak()
    begin = time.perf_counter()
    pdf = oracle_pdf(text, config)
    laid_out = time.perf_counter()
    pages = [finished(page, config, last=False) for page in poppler_pages(pdf, config.dpi)]
    drawn = time.perf_counter()
    for page in pages:
        Image.fromarray(page).save(io.BytesIO(), "PNG")
    end = time.perf_counter()
    steps = {"pdf_s": laid_out - begin, "poppler_s": drawn - laid_out, "png_s": end - drawn}
    return {"characters": len(text), "pages": len(pages), "seconds": end - begin, "peak_mb": peak_mb(), **steps}


def measure_linear(characters: int) -> Result:
    """Our renderer on prose of a length, once, pages dropped as they come."""
    text = text_of("prose", characters)
    next(render(text[:2000]))
    reset_peak()
    begin = time.perf_counter()
    pages = sum(1 for _ in render(text))
    return {"characters": len(text), "pages": pages, "seconds": time.perf_counter() - begin, "peak_mb": peak_mb()}


def measure_processes(documents: int, characters: int) -> Result:
    """The same documents drawn by one process and by two that share them out, started, warm, and with their texts at hand."""
    seconds, spawn = {}, multiprocessing.get_context("spawn")
    for workers in (1, 2):
        ends = []
        for worker in range(workers):
            end, other = spawn.Pipe()
            spawn.Process(target=_draw_documents, args=(other, range(worker, documents, workers), characters), daemon=True).start()
            other.close()  # so that a worker that fails is noticed
            ends.append(end)
        assert all(end.recv() == "ready" for end in ends)
        begin = time.perf_counter()
        for end in ends:
            end.send("go")
        assert sum(end.recv() for end in ends) == documents
        seconds[workers] = time.perf_counter() - begin
    return {"documents": documents, "characters": characters, "one_s": seconds[1], "two_s": seconds[2], "speed_up": seconds[1] / seconds[2]}


def _draw_documents(connection: Connection, numbers: Sequence[int], characters: int) -> None:
    documents = [text_of("prose", characters, seed=number) for number in numbers]
    list(render(documents[0][:5000]))
    connection.send("ready")
    connection.recv()
    for document in documents:
        assert all(page.png for page in render(document))
    connection.send(len(documents))


MEASUREMENTS: tuple[Callable[..., Result], ...] = (measure_text, measure_oracle, measure_linear, measure_processes)


def reset_peak() -> None:
    """Let the peak memory count from now; where the kernel does not allow it, it counts from the start of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / MEGABYTE


def in_fresh_process(measurement: str, *arguments: object, cores: int = 1) -> Result:
    """What a measurement gives, made by a new process on ``cores`` cores; ``{"skipped": why}`` if it can't be made."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", json.dumps([measurement, *arguments])]
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[:cores])
    done = subprocess.run(command, capture_output=True, text=True)
    os.sched_setaffinity(0, allowed)
    if done.returncode:
        return {"skipped": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return dict(json.loads(done.stdout))


def texts(mode: str, scale: float, repeats: int) -> Iterator[tuple[str, Result]]:
    """Every text: our measurement, with the oracle's under ``oracle``."""
    for name, kind in TEXTS.items():
        if kind.preset not in RenderConfig.presets():
            yield name, {"skipped": f"there is no preset {kind.preset!r}"}
            continue
        ours, part = (max(500, int(size * scale)) for size in SIZES.get(name, SIZES["others"])[mode])
        result = in_fresh_process("text", name, ours, repeats)
        if "skipped" not in result:
            unshaped = {"skipped": "ReportLab does not shape this script"}
            result["oracle"] = in_fresh_process("oracle", name, part) if kind.oracle else unshaped
        yield name, result


def cold_start(starts: int, scale: float) -> Result:
    """Milliseconds from the spawn of a fresh Python to its sign: nothing else, numpy imported, or the first page drawn."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "1kB.txt"), Path(folder, "10MB.txt")
        small.write_text(text_of("prose", 1000))
        large.write_text(text_of("prose", max(1000, int(10 * MEGABYTE * scale))))
        programs = {
            "python alone": [SAY_SO],
            "import numpy": ["import numpy; " + SAY_SO],
            "first page of 1 kB": [FIRST_PAGE + SAY_SO, str(small)],
            "first page of 10 MB": [FIRST_PAGE + SAY_SO, str(large)],
        }
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        times: dict[str, list[float]] = {name: [] for name in programs}
        for start in range(starts + 1):  # in turns, so that a busy moment strikes all; the first start writes the bytecode
            for name, program in programs.items():
                begin = time.perf_counter()
                with subprocess.Popen([sys.executable, "-c", *program], stdout=subprocess.PIPE, env=environment) as process:
                    assert process.stdout
                    sign = process.stdout.read(1)
                    elapsed = 1000 * (time.perf_counter() - begin)
                assert sign == b".", f"{name}: the process ended with status {process.returncode}"
                if start:
                    times[name].append(elapsed)
    return {name: {"best_ms": min(all_of), "median_ms": statistics.median(all_of)} for name, all_of in times.items()}


def machine() -> Result:
    """What it ran on."""
    installed = {distribution.name.lower(): distribution.version for distribution in distributions()}
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    banner = subprocess.run(["pdftoppm", "-v"], capture_output=True, text=True).stderr if shutil.which("pdftoppm") else "none"
    return {
        "cpu": (models or [platform.machine()])[0],
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: installed.get(name, "none") for name in LIBRARIES},
        "poppler": banner.split("\n", 1)[0].rsplit(" ", 1)[-1],
    }


HEADS = ("text", "characters", "pages", "kchar/s", "pages/s", "PNG alone, s", "total / PNG", "peak MB", "oracle: characters", "oracle: kchar/s", "ratio")  # fmt: skip
ABOUT_THE_ORACLE = """
The oracle (ReportLab, pdftoppm, Pillow's PNG) is given the first characters of the same text; its rate is that of this part. It is quadratic
in the length of a paragraph, so being given a part of the long paragraphs flatters it."""


def report(results: Result) -> str:
    """The results as Markdown."""
    on = results["machine"]
    libraries = ", ".join(f"{name} {on[name]}" for name in ("python", *LIBRARIES, "poppler"))
    rule = f"Mode {results['mode']}; our times are the best of {results['repeats']}, the oracle's of 1; one core, every page to its PNG."
    out = [f"{on['cpu']}, {on['cores']} cores, load {on['load']:.1f} at the end; {libraries}.", rule]
    if "texts" in results:
        out += [_table(HEADS, [_text_cells(name, row) for name, row in results["texts"].items()]), ABOUT_THE_ORACLE]
    if "linear" in results:
        out.append(_table(("prose, characters", "seconds", "kchar/s", "pages", "peak MB"), map(_length_cells, results["linear"])))
    if "cold" in results:
        rows = [[name, f"{row['best_ms']:.0f}", f"{row['median_ms']:.0f}"] for name, row in results["cold"].items()]
        out.append(_table(("cold start", "best, ms", "median, ms"), rows))
    out.append(_table(("target", "measured"), targets(results)))
    return "\n".join(out)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    padded = [[*row, *[""] * (len(heads) - len(row))] for row in (heads, ["---"] * len(heads), *rows)]
    return "\n" + "\n".join(f"| {' | '.join(row)} |" for row in padded)


def _rate(row: Result) -> float:
    return float(row["characters"] / row["seconds"] / 1000)


def _length_cells(row: Result) -> list[str]:
    if "skipped" in row:
        return [f"skipped: {row['skipped']}"]
    return [f"{row['characters']:,}", f"{row['seconds']:.2f}", f"{_rate(row):,.0f}", f"{row['pages']:,}", f"{row['peak_mb']:.0f}"]


def _text_cells(name: str, row: Result) -> list[str]:
    if "skipped" in row:
        return [name, *_length_cells(row)]
    if row["escaped"]:
        name += f" ({row['escaped']} escapes in 5,000 characters: no font for it)"
    characters, _, rate, pages, peak = _length_cells(row)
    floor, oracle = row["png_floor_s"], row["oracle"]
    cells = [name, characters, pages, rate, f"{row['pages'] / row['seconds']:.0f}", f"{floor:.3f}", f"{row['seconds'] / floor:.2f}", peak]
    beside = _length_cells(oracle) if "skipped" in oracle else [f"{oracle['characters']:,}", f"{_rate(oracle):.1f}", f"{_ratio(row):.0f}x"]
    return [*cells, *beside]


def _ratio(row: Result) -> float:
    return _rate(row) / _rate(row["oracle"])


def targets(results: Result) -> Iterator[tuple[str, str]]:
    """What the renderer should reach, and what this run saw of it."""
    lengths = [row for row in results.get("linear", []) if "skipped" not in row]
    rates = [f"{_rate(row):,.0f} kchar/s at {row['characters']:,}" for row in lengths]
    peaks = [f"{row['peak_mb']:.0f} MB at {row['characters']:,}" for row in lengths]
    starts = {name: row["best_ms"] for name, row in results.get("cold", {}).items() if "page" in name}
    share = results.get("processes", {})

    def of(name: str, value: Callable[[Result], str], with_oracle: bool = False) -> str:
        row = results.get("texts", {}).get(name, {"skipped": ""})
        return "not measured" if "skipped" in row or (with_oracle and "skipped" in row["oracle"]) else value(row)

    def by_part(row: Result) -> str:
        part = row["oracle"]["characters"]
        return f"{_ratio(row):.0f} times" + (f", the oracle given {part:,} characters only" if part < row["characters"] else "")

    yield "prose: 1,500 kchar/s or more", of("prose", lambda row: f"{_rate(row):,.0f} kchar/s")
    yield "short lines: 20 times the oracle or more", of("short lines", by_part, True)
    yield "500,000 characters of long paragraphs: 300 times the oracle or more", of("long paragraphs", by_part, True)
    yield "prose: at most 4 times the PNG alone", of("prose", lambda row: f"{row['seconds'] / row['png_floor_s']:.2f} times")
    yield "linear from 100 kB to 100 MB", "; ".join(rates) or "not measured"
    yield "peak at 100 MB: 300 MB or less", peaks[-1] if peaks else "not measured"
    shared = f"{share['speed_up']:.2f} times, {share['documents']} documents of {share['characters']:,}" if "speed_up" in share else ""
    yield "two processes: 1.7 times one or more", shared or share.get("skipped", "not measured")
    yield "first page: 150 ms or less", "; ".join(f"{ms:.0f} ms, {name}" for name, ms in starts.items()) or "not measured"
    yield "Arabic: 100 kchar/s or more", of("Arabic", lambda row: f"{_rate(row):,.0f} kchar/s" + (" of escapes" if row["escaped"] else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--quick", action="store_const", const="quick", default="default", dest="mode", help="about a minute")
    modes.add_argument("--full", action="store_const", const="full", dest="mode", help="the oracle on whole texts, and 100 MB of prose")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number here")
    parser.add_argument("--repeats", type=int, metavar="N", help="best of N")
    parser.add_argument("--scale", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measurement, *arguments = options.measure
        measure = {measure.__name__: measure for measure in MEASUREMENTS}["measure_" + measurement]
        print(json.dumps(measure(*arguments)))
        return

    mode, scale = options.mode, options.scale
    lengths, documents, repeats, starts = COUNTS[mode]
    results: Result = {"mode": mode, "repeats": options.repeats or repeats, "machine": machine()}
    if "texts" in options.only:
        results["texts"] = dict(texts(mode, scale, results["repeats"]))
    if "linear" in options.only:
        results["linear"] = [in_fresh_process("linear", max(1000, int(size * scale))) for size in LINEAR[:lengths]]
    if "processes" in options.only:
        share = ("processes", documents, max(1000, int(MEGABYTE * scale)))
        results["processes"] = in_fresh_process(*share, cores=2) if len(os.sched_getaffinity(0)) > 1 else {"skipped": "one core"}
    if "cold" in options.only:
        results["cold"] = cold_start(starts, scale)
    results["machine"]["load"] = os.getloadavg()[0]
    print(report(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
