"""A small TrueType font made of the bundled Chinese one, whose outlines (CFF) ReportLab can't read. Knows no layout."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont, newTable

from glyph_pipeline.resources import resource_dir

BUNDLED = "NotoSansMonoCJKsc-Regular.otf"
# How far a curve may run beside the original, in font units.
_ERROR = 1.0


def truetype_font(characters: str, folder: Path) -> Path:
    """The bundled font with no more than ``characters`` as a TrueType file in ``folder``: same advances, same units per em."""
    font = TTFont(resource_dir("fonts") / BUNDLED)
    options = Options()
    options.layout_features = []
    options.drop_tables += ["BASE", "vhea", "vmtx", "VORG", "DSIG"]
    options.name_IDs = [1, 2, 4, 6]
    subsetter = Subsetter(options)
    subsetter.populate(text=characters)
    subsetter.subset(font)

    glyphs = font.getGlyphSet()
    glyf = newTable("glyf")
    glyf.glyphOrder = font.getGlyphOrder()
    glyf.glyphs = {}
    for name in glyf.glyphOrder:
        pen = TTGlyphPen(glyphs)
        glyphs[name].draw(Cu2QuPen(pen, _ERROR, reverse_direction=True))
        glyf.glyphs[name] = pen.glyph()
    del font["CFF "]
    font["glyf"], font["loca"] = glyf, newTable("loca")
    font["head"].glyphDataFormat = 0
    maxp = font["maxp"]
    maxp.tableVersion = 0x00010000
    for field in ("maxZones", *_MAXP_ZEROES):
        setattr(maxp, field, 1 if field == "maxZones" else 0)
    font["post"].formatType = 3.0
    font.sfntVersion = "\0\1\0\0"
    # ReportLab takes a font of the same PostScript name for the same font, whatever its file.
    font["name"].setName(f"Chinese-{crc32(characters.encode()):08x}", 6, 3, 1, 0x409)
    path = folder / "chinese.ttf"
    font.save(path)
    return path


_MAXP_ZEROES = (
    "maxTwilightPoints",
    "maxStorage",
    "maxFunctionDefs",
    "maxInstructionDefs",
    "maxStackElements",
    "maxSizeOfInstructions",
    "maxComponentElements",
)
