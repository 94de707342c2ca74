"""glyph-compress fonts: the chain of fonts, and what it makes of a text. Draws nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import click
import numpy as np

from glyph_pipeline.cli.options import build_config, document_options, drawing_options, load_documents
from glyph_pipeline.cli.output import aligned, print_json
from glyph_pipeline.document import Document
from glyph_pipeline.rendering import system_fonts
from glyph_pipeline.rendering.bundled import bundled_faces
from glyph_pipeline.rendering.canonical import Losses, blocks, canonical_block
from glyph_pipeline.rendering.chain import FontChain, Kind
from glyph_pipeline.rendering.config import NewlineMark
from glyph_pipeline.rendering.packages import packages_with
from glyph_pipeline.rendering.shaping import TextShaper

_EXAMPLES = 5  # missing characters named of each Unicode block
_SHOWN = 12  # hex digits of a checksum, and blocks of missing characters, in the table; JSON has all
_SPACES = (0x0A, 0x20, 0xA0)


@click.command(short_help="Show the fonts that draw, and what they make of a text.")
@document_options(required=False)
@drawing_options
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def fonts(docs: tuple[str, ...], encoding: str | None, as_json: bool, **drawing: Any) -> None:
    """The fonts in the order in which they are asked; with DOC..., how many of its characters each one draws, and what none has."""
    build_config((), **drawing)  # what is wrong with the options is said before any document is read
    documents = load_documents(docs, encoding)
    config = build_config(documents, **drawing)
    chain = FontChain(config.font, config.system_fonts)
    data = coverage(documents, chain) if documents else describe(chain)
    if as_json:
        print_json(data)
    else:
        click.echo(_coverage_table(data) if documents else _chain_table(data))


def describe(chain: FontChain) -> dict[str, Any]:
    """The configured font and the bundled ones, in order; the number of ``installed`` faces and where their index is kept, None if they are left out."""
    first = chain.fonts[0]
    rows = [
        {
            "source": "configured",
            "family": first.family,
            "file": str(first.path),
            "sha256": first.sha256,
            "characters": len(first.harfbuzz.face.unicodes),
            "stand_in_for": first.requested if first.stand_in else None,
        }
    ]
    rows += [
        {
            "source": "bundled",
            "family": face.family,
            "file": str(face.path),
            "sha256": hashlib.sha256(face.path.read_bytes()).hexdigest(),
            "characters": face.characters,
            "stand_in_for": None,
        }
        for face in bundled_faces()
        if (face.path, face.index) != (first.path, first.index)
    ]
    installed, cache = (len(system_fonts.faces()), str(system_fonts.cache_file())) if chain.installed else (None, None)
    return {"fonts": rows, "installed": installed, "cache": cache}


def coverage(documents: list[Document], chain: FontChain) -> dict[str, Any]:
    """What each font draws of the documents, and by Unicode block what none has.

    Characters are those of the source, white space aside; marks and joiners count with the letter that they are drawn with.
    """
    shaper, losses = TextShaper(chain), Losses()
    drawn: Counter[int] = Counter()
    for document in documents:
        for start, end in blocks(document.text):
            _count(document.text, start, end, shaper, losses, drawn)
    return {
        "fonts": [
            {"family": font.family, "file": str(font.path), "sha256": font.sha256, "characters": drawn[index]}
            for index, font in enumerate(chain.fonts)
            if drawn[index] or not index
        ],
        "missing": _by_block(losses.missing, chain.installed),
        "packages": list(packages_with(losses.missing)) if chain.installed else [],
        "removed": losses.removed,
        "invisible": losses.invisible,
    }


def _count(text: str, start: int, end: int, shaper: TextShaper, losses: Losses, drawn: Counter[int]) -> None:
    """Add the characters of text[start:end] to ``drawn``, by the index of the font that draws each."""
    chain = shaper.chain
    block = canonical_block(text, start, end, chain, NewlineMark(), losses)
    if not block.codepoints.size:
        return
    shaped = shaper.shape(block.codepoints)
    glyph = np.arange(len(block.codepoints))
    if shaped.clusters is not None:
        # A character without a glyph of its own is part of the cluster before it.
        glyph = np.maximum(np.searchsorted(shaped.clusters.at, glyph, "right") - 1, 0)
    font_of = np.array([font for font, _ in chain.glyphs])
    source = np.frombuffer(text[start:end].encode("utf-32-le", "surrogatepass"), np.uint32)[block.source - start]
    kinds = chain.learn(block.codepoints)
    # What is drawn as another character is an escape.
    counted = (source == block.codepoints) & ~np.isin(source, _SPACES) & (kinds != Kind.INVISIBLE) & (kinds != Kind.DIRECTING)
    for font, count in enumerate(np.bincount(font_of[shaped.numbers[glyph[counted]]]).tolist()):
        drawn[font] += count


def _by_block(missing: Counter[str], installed: bool) -> list[dict[str, Any]]:
    from fontTools.unicodedata import block

    found: dict[str, list[str]] = {}
    for char, _ in missing.most_common():
        found.setdefault(block(char), []).append(char)
    entries = [
        {
            "block": name.replace("_", " "),
            "count": sum(missing[char] for char in characters),
            "characters": len(characters),
            "examples": [f"U+{ord(char):04X}" for char in characters[:_EXAMPLES]],
            "packages": list(packages_with(characters)) if installed else [],
        }
        for name, characters in found.items()
    ]
    return sorted(entries, key=lambda entry: (-int(str(entry["count"])), str(entry["block"])))


def _font(font: dict[str, Any]) -> str:
    instead = f" in place of {font['stand_in_for']}" if font.get("stand_in_for") else ""
    return f"{font['characters']:>6,} characters  {font['sha256'][:_SHOWN]}  {font['family']}{instead}  {font['file']}"


def _chain_table(data: dict[str, Any]) -> str:
    rows = [(font["source"], _font(font)) for font in data["fonts"]]
    if data["installed"] is None:
        return aligned([*rows, ("installed", "left out")])
    return aligned([*rows, ("installed", f"{data['installed']:,} faces, listed in {data['cache']}")])


def _coverage_table(data: dict[str, Any]) -> str:
    rows = [("draws", _font(font)) for font in data["fonts"]]
    for entry in data["missing"][:_SHOWN]:
        more = " ..." if entry["characters"] > len(entry["examples"]) else ""
        helping = f"; apt install {' '.join(entry['packages'])}" if entry["packages"] else ""
        rows.append(("no font has", f"{entry['count']:>6,} characters  {entry['block']}: {', '.join(entry['examples'])}{more}{helping}"))
    if len(data["missing"]) > _SHOWN:
        rows.append(("", f"and of {len(data['missing']) - _SHOWN:,} more blocks (--json names all)"))
    if data["invisible"]:
        rows.append(("invisible", f"{data['invisible']:>6,} characters without a picture"))
    return aligned(rows)
