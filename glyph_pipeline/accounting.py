"""Accounting: the Answer of what all requests gave: its text, checked and if wanted repaired, its sources, its reasoning, its cost."""

from __future__ import annotations

from dataclasses import replace

from glyph_pipeline.answer import Answer, MergeAnswer, WindowAnswer
from glyph_pipeline.asking import Asked
from glyph_pipeline.citations import source_of, sources_of
from glyph_pipeline.exactness.checking import SourceText, check_answer, repaired
from glyph_pipeline.material import Material
from glyph_pipeline.reading.reader import FinishReason, Usage
from glyph_pipeline.report import CompressionReport


def answer_of(asked: Asked, material: Material, report: CompressionReport, reader: str, seconds: dict[str, float]) -> Answer:
    """The answer with its account. A cut anywhere is a cut: what was not read or not merged may be missing.

    Looks exact strings up in the whole source: a second for a million tokens with many of them.
    """
    reads: list[WindowAnswer | MergeAnswer] = [*asked.windows, *asked.merges]
    cut = not asked.whole or any(read.finish_reason == "length" for read in reads)
    finish: FinishReason = "length" if cut else asked.windows[0].finish_reason
    text, checks = asked.text, check_answer(asked.text, _sources(material))
    if material.policy.repair:
        text, checks = repaired(text, checks)
    pages = material.pages
    quoted = {(source.document, source.page): source for source in (source_of(pages[quote.page - 1]) for quote in asked.quotes)}
    return Answer(
        text=text,
        reasoning=_reasoning(asked),
        finish_reason=finish,
        usage=Usage(_sum([read.usage.prompt_tokens for read in reads]), _sum([read.usage.completion_tokens for read in reads])),
        windows=asked.windows,
        report=replace(report, sent=asked.sent),
        reader=reader,
        quotes=asked.quotes,
        seconds=seconds,
        merges=asked.merges,
        sources=tuple(quoted.values()) or sources_of(text, pages),
        checks=checks,
    )


def _sources(material: Material) -> list[SourceText]:
    pages: dict[str | None, list[tuple[int, int]]] = {}
    for page in material.pages:
        pages.setdefault(page.document, []).append((page.start, page.number))
    return [SourceText(name, text, tuple(pages[name]), tuple(material.found[name])) for name, text in material.texts.items()]


def _reasoning(asked: Asked) -> str:
    if len(asked.windows) == 1:
        return asked.windows[0].reasoning
    parts = [(window.label, window.reasoning) for window in asked.windows]
    parts += [(f"merging {', '.join(merge.labels)}", merge.reasoning) for merge in asked.merges]
    return "\n\n".join(f"[{label}]\n{reasoning}" for label, reasoning in parts if reasoning)


def _sum(counts: list[int | None]) -> int | None:
    """The sum, None if the server left out any of them."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
