"""Vision tokens: what an image processor makes of a picture's size. Arithmetic only; knows no pages and no pixels."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from glyph_pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class VisionArithmetic:
    """The resize rule of transformers' ``Glm4vImageProcessor`` (``smart_resize`` in image_processing_glm4v.py) and, with ``frames``
    1 and ``widens`` False, of ``Qwen2VLImageProcessor`` (image_processing_qwen2_vl.py), which Qwen2-VL to Qwen3-VL use.

    ``patch`` px is the side of a patch, ``merge`` patches a side are merged into one token, ``frames`` is the temporal
    patch size (a still image counts as that many frames). ``shortest_edge`` and ``longest_edge`` are, in spite of
    their names, bounds for frames * height * width in px, from ``size`` in the model's preprocessor_config.json.
    ``markers`` is the number of tokens that frame each image in the prompt (begin and end of image). ``widens``: an image with
    a side shorter than a cell is enlarged to one first.
    """

    family: str
    patch: int = 14
    merge: int = 2
    frames: int = 2
    shortest_edge: int = 112 * 112
    longest_edge: int = 28 * 28 * 2 * 6144
    markers: int = 2
    max_aspect: float = 200.0
    widens: bool = True

    @property
    def cell(self) -> int:
        """Side in px of the square that becomes one token."""
        return self.patch * self.merge

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in px after the processor's resize; raises ConfigError where the processor would refuse."""
        if width < 1 or height < 1:
            raise ConfigError(f"An image of {width}x{height} px has no size.", hint="Both sides must be at least 1 px.")
        cell = self.cell
        w, h = float(width), float(height)
        if self.widens and min(w, h) < cell:
            scale = max(cell / w, cell / h)
            w, h = float(int(w * scale)), float(int(h * scale))
        if max(w, h) / min(w, h) > self.max_aspect:
            raise ConfigError(
                f"A page of {width}x{height} px is {max(w, h) / min(w, h):.0f} times longer than wide; {self.family} reads images up to {self.max_aspect:.0f}:1.",
                hint="Choose a page size closer to a square.",
            )
        # Python's round, halves to even, as the processor does.
        h_bar, w_bar = round(h / cell) * cell, round(w / cell) * cell
        area = self.frames * h_bar * w_bar
        if area > self.longest_edge:
            beta = math.sqrt(self.frames * h * w / self.longest_edge)
            h_bar = max(cell, math.floor(h / beta / cell) * cell)
            w_bar = max(cell, math.floor(w / beta / cell) * cell)
        elif area < self.shortest_edge:
            beta = math.sqrt(self.shortest_edge / (self.frames * h * w))
            h_bar = math.ceil(h * beta / cell) * cell
            w_bar = math.ceil(w * beta / cell) * cell
        return w_bar, h_bar

    def tokens(self, width: int, height: int) -> int:
        """Vision tokens of an image of width x height px, without its markers."""
        w, h = self.resized(width, height)
        return (w // self.cell) * (h // self.cell)

    @classmethod
    def from_model(cls, model: str | Path) -> VisionArithmetic:
        """The arithmetic of a model folder on disk (preprocessor_config.json), or GLM-4.1V's for any other name."""
        path = Path(model) / "preprocessor_config.json"
        try:
            if not path.is_file():
                return GLM_4V
        except OSError:
            return GLM_4V  # a folder of somebody else's
        try:
            data = json.loads(path.read_text("utf-8"))
            kind = str(data.get("image_processor_type", "Glm4vImageProcessor"))
            qwen = kind.startswith("Qwen2VLImageProcessor")  # its bounds are those of a single picture
            known = QWEN_2_5_VL if qwen else GLM_4V
            size = data.get("size") or {}
            return cls(
                family=kind,
                patch=int(data.get("patch_size", known.patch)),
                merge=int(data.get("merge_size", known.merge)),
                frames=1 if qwen else int(data.get("temporal_patch_size", known.frames)),
                # min_pixels and max_pixels are what older Qwen folders call them; there they count.
                shortest_edge=int((data.get("min_pixels") if qwen else None) or size.get("shortest_edge", known.shortest_edge)),
                longest_edge=int((data.get("max_pixels") if qwen else None) or size.get("longest_edge", known.longest_edge)),
                widens=known.widens,
            )
        except (ValueError, TypeError, AttributeError, OSError) as e:
            raise ConfigError(f"{path} cannot be read as an image processor's configuration: {e}.", hint="Download the model again.") from e


GLM_4V = VisionArithmetic(family="GLM-4.1V")
# Bounds as in preprocessor_config.json of Qwen/Qwen2.5-VL-7B-Instruct and Qwen/Qwen3-VL-8B-Instruct.
QWEN_2_5_VL = VisionArithmetic("Qwen2.5-VL", frames=1, shortest_edge=3136, longest_edge=12_845_056, widens=False)
QWEN_3_VL = VisionArithmetic("Qwen3-VL", patch=16, frames=1, shortest_edge=65_536, longest_edge=16_777_216, widens=False)

# By the names that commands take.
FAMILIES = {"glm4v": GLM_4V, "qwen2.5-vl": QWEN_2_5_VL, "qwen3-vl": QWEN_3_VL}
