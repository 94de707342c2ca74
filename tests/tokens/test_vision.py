"""Vision tokens: the image processor's arithmetic by hand, its bounds, and reading them from a model folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glyph_pipeline.errors import ConfigError
from glyph_pipeline.tokens.vision import FAMILIES, GLM_4V, QWEN_2_5_VL, QWEN_3_VL, VisionArithmetic


@pytest.mark.parametrize(
    ("size", "resized", "tokens"),
    [
        ((595, 842), (588, 840), 630),  # 21 x 30 cells
        ((588, 840), (588, 840), 630),
        ((794, 1123), (784, 1120), 1120),
        ((42, 840), (56, 840), 60),  # 1.5 cells: round goes to the even one, 2
        ((70, 840), (56, 840), 60),  # 2.5 cells: to 2 as well
        ((10, 10), (84, 84), 9),  # scaled to a cell, then up to the lower bound of 12,544 px in two frames
        ((14, 280), (28, 560), 20),
        ((1500, 2000), (1512, 1988), 3834),
        ((4000, 4000), (2184, 2184), 6084),  # the upper bound: 2 x 2184 x 2184 <= 9,633,792
    ],
)
def test_by_hand(size: tuple[int, int], resized: tuple[int, int], tokens: int) -> None:
    assert GLM_4V.resized(*size) == resized
    assert GLM_4V.tokens(*size) == tokens


def test_what_the_processor_would_refuse() -> None:
    with pytest.raises(ConfigError, match=r"30x6030 px is 201 times.*200:1"):
        GLM_4V.tokens(30, 6030)
    with pytest.raises(ConfigError, match="no size"):
        GLM_4V.tokens(0, 10)


@given(st.integers(28, 3000), st.integers(28, 3000))
def test_within_the_bounds_and_whole_cells(width: int, height: int) -> None:
    w, h = GLM_4V.resized(width, height)
    assert w % 28 == h % 28 == 0
    assert GLM_4V.shortest_edge <= 2 * w * h <= GLM_4V.longest_edge
    assert GLM_4V.tokens(width, height) == w * h // 784


def test_the_bounds_of_a_model_folder(tmp_path: Path) -> None:
    processor = {"image_processor_type": "Glm4vImageProcessor", "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(processor | {"size": {"shortest_edge": 12544, "longest_edge": 100_000}}), "utf-8"
    )
    vision = VisionArithmetic.from_model(tmp_path)
    assert (vision.family, vision.longest_edge) == ("Glm4vImageProcessor", 100_000)
    assert vision.tokens(595, 842) == 6 * 9  # 168 x 252
    assert VisionArithmetic.from_model("zai-org/Glyph") is GLM_4V


@pytest.mark.parametrize("content", ["{", "[]", '{"size": 3}', '{"patch_size": "wide"}'])
def test_a_broken_model_folder_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(content, "utf-8")
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json"):
        VisionArithmetic.from_model(tmp_path)


@pytest.mark.parametrize(
    ("family", "size", "resized", "tokens"),
    [
        (QWEN_2_5_VL, (595, 842), (588, 840), 630),
        (QWEN_2_5_VL, (10, 10), (56, 56), 4),  # up to 3,136 px
        (QWEN_2_5_VL, (14, 280), (28, 252), 9),  # half a cell rounds to none, then up to the lower bound
        (QWEN_2_5_VL, (4000, 4000), (3584, 3584), 16384),  # down to 12,845,056 px
        (QWEN_3_VL, (595, 842), (608, 832), 494),  # cells of 32 px
        (QWEN_3_VL, (100, 100), (256, 256), 64),
    ],
)
def test_other_families_by_hand(family: VisionArithmetic, size: tuple[int, int], resized: tuple[int, int], tokens: int) -> None:
    assert family.resized(*size) == resized
    assert family.tokens(*size) == tokens


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@given(width=st.integers(1, 6000), height=st.integers(1, 6000))
def test_every_family_keeps_to_whole_cells(family: VisionArithmetic, width: int, height: int) -> None:
    if max(width, height) / min(width, height) > 100:
        return
    w, h = family.resized(width, height)
    assert w % family.cell == h % family.cell == 0
    assert w > 0
    assert h > 0


def test_a_qwen_folder(tmp_path: Path) -> None:
    config = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 14,
        "temporal_patch_size": 2,
        "min_pixels": 3136,
        "max_pixels": 100_000,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    vision = VisionArithmetic.from_model(tmp_path)
    assert (vision.frames, vision.shortest_edge, vision.longest_edge, vision.widens) == (1, 3136, 100_000, False)
    assert vision.tokens(595, 842) == 117
    config = {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "patch_size": 16,
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    assert VisionArithmetic.from_model(tmp_path).tokens(595, 842) == QWEN_3_VL.tokens(595, 842)
