#!/usr/bin/env python3
"""Prints, as a Markdown table, what every preset makes of the same four texts: ratio, pages, vision tokens."""

from __future__ import annotations

import random
import re
from pathlib import Path

from glyph_pipeline import RenderConfig, compress

SENTENCES = re.split(r"(?<=[.?!])\s+", (Path(__file__).parents[1] / "docs" / "sample.txt").read_text("utf-8").strip())
WORDS = sorted({word for sentence in SENTENCES for word in re.findall(r"\b[a-z]{3,9}\b", sentence)})
CHINESE = (
    "灯塔建于一七九一年，位于奥姆角的最高处。",
    "守灯人每天傍晚点亮油灯，清晨再把它熄灭。",
    "遇到大雾，她要敲钟，每隔两分钟一次，直到雾散。",
    "港口的船长们都认得这道光，却很少有人知道她的名字。",
    "一八一六年冬天，钟裂了，修理用了整整四十天。",
)


def prose(chance: random.Random) -> str:
    """Paragraphs of four to nine sentences of docs/sample.txt."""
    return "\n".join(" ".join(chance.choices(SENTENCES, k=chance.randint(4, 9))) for _ in range(80))


def log(chance: random.Random) -> str:
    """Short lines, one in forty of them with a sentence."""
    levels, parts = ("INFO", "WARN", "DEBUG"), ("pump", "valve", "lamp", "gate")
    return "\n".join(
        f"12:{second // 60 % 60:02}:{second % 60:02} {chance.choice(levels)} {chance.choice(parts)} {chance.choice(WORDS)}={chance.randint(0, 9999)}"
        + (f" {chance.choice(SENTENCES)[:100]}" if second % 40 == 0 else "")
        for second in range(1500)
    )


def code(chance: random.Random) -> str:
    """Functions, each with a line of documentation."""
    lines = []
    for number in range(250):
        lines += [f"def {chance.choice(WORDS)}_{number}(limit: int) -> int:", f'    """{chance.choice(SENTENCES)[:100]}"""']
        lines += ["    total = 0", "    for step in range(limit):", f"        if step % {chance.randint(2, 9)} == 0:"]
        lines += [f"            total += step * {chance.randint(10, 99)}", "    return total", ""]
    return "\n".join(lines)


def chinese(chance: random.Random) -> str:
    """Paragraphs of eight to sixteen sentences."""
    return "\n".join("".join(chance.choices(CHINESE, k=chance.randint(8, 16))) for _ in range(60))


def main() -> None:
    texts = {make.__name__: make(random.Random(7)) for make in (prose, log, code, chinese)}
    # Bundled fonts only: the same table on every machine.
    configs = {name: RenderConfig.preset(name).replace(system_fonts=False) for name in RenderConfig.presets()}
    reports = {name: [compress(text, config).report for text in texts.values()] for name, config in configs.items()}
    counts = [report.text_tokens for report in reports["en"]]
    print("| preset | " + " | ".join(f"{name}, {count:,} text tokens" for name, count in zip(texts, counts, strict=True)) + " |")
    print("|---" * (len(texts) + 1) + "|")
    for name, row in reports.items():
        print(f"| `{name}` | " + " | ".join(f"**{r.ratio:.2f}**: {r.vision_tokens:,} in {r.pages} p." for r in row) + " |")


if __name__ == "__main__":
    main()
