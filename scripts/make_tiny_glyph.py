"""Writes a tiny Glm4v model folder that vLLM serves with Glyph's own flags. Knows nothing of the package but its CPU start-up hook.

Usage: ``make_tiny_glyph.py OUT_DIR [--seed N] [--max-len N] [--steps N] [--endless] [--bare-prompt]``, run by the Python of the
environment that ``scripts/install_vllm_cpu`` makes.

The model is a real ``Glm4vForConditionalGeneration`` (39 M parameters, nearly all of them the two vocabulary matrices) that follows a
script. Its text layers end in norms of weight zero, so what a token leads to depends on that token alone, and the two vocabulary matrices
are laid out so that each token of the script leads to the next one and every other token leads to the first. Whatever it is asked, it
thinks aloud, counts ``--steps`` steps, answers, and stops: the tests know its reasoning and answer word for word. OUT_DIR/tiny_glyph.json
holds them. With ``--endless`` it counts in a circle and never leaves its reasoning: what an answer cut off by max_tokens looks like.

Special tokens have GLM-4.1V's real ids, since the stop ids that Glyph's clients send only mean something in a vocabulary that large.
Known from published GLM-4 and Glm4v configurations: 151329 to 151344. Inferred from Glyph's stop ids, where 151348 has to be
``</answer>``: 151345 to 151348. Guessed: the two box tokens.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
CPU_SITE = ROOT / "glyph_pipeline" / "serving" / "cpu_site" / "sitecustomize.py"
MARKER = "tiny_glyph.json"

VOCAB_SIZE = 151552
FIRST_SPECIAL = 151329
SPECIAL_TOKENS = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|image|>", "<|video|>"),
    *("<think>", "</think>", "<answer>", "</answer>", "<|begin_of_box|>", "<|end_of_box|>"),
)
IDS = {token: FIRST_SPECIAL + offset for offset, token in enumerate(SPECIAL_TOKENS)}
STOP_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>", "</answer>")

# No piece may occur twice in the whole script: a token has one successor. The accented letter is two tokens, one a byte, as it can be
# with the real tokenizer, so that streams get to show how they treat half a character.
REASONING = ("Reading", " the", " pages", ",", " step")
ANSWER = ("My", " answer", ":", " caf", "\N{LATIN SMALL LETTER E WITH ACUTE}", " au", " lait", ".")

# cl100k's and GLM-4's way of cutting text into pre-tokens.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Merges that real text runs into, so that token counts are not byte counts.
COMMON = ("\n\n", "    ", " the", " and", " of", " to", " in", " is", " that", " it", " for", " what", "ing", "tion", "er", "ed", "\u4e2d")

CHAT_TEMPLATE = (
    "[gMASK]<sop>"
    "{%- for message in messages -%}"
    "<|{{ message.role }}|>{{ '\\n' }}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}"
    "{%- for part in message.content -%}"
    "{%- if part.type == 'image' or 'image' in part -%}<|begin_of_image|><|image|><|end_of_image|>"
    "{%- elif part.type == 'video' or 'video' in part -%}<|begin_of_video|><|video|><|end_of_video|>"
    "{%- elif part.type == 'text' -%}{{ part.text }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{{ '\\n' }}OPENING{%- endif -%}"
)

VISION_NORM: dict[str, Any] = {
    "do_rescale": True,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "processor_class": "Glm4vProcessor",
}
IMAGE_PROCESSOR = {
    "image_processor_type": "Glm4vImageProcessor",
    "size": {"shortest_edge": 12544, "longest_edge": 9633792},
    **VISION_NORM,
}
VIDEO_PROCESSOR = {
    "video_processor_type": "Glm4vVideoProcessor",
    "size": {"shortest_edge": 12544, "longest_edge": 47040000},
    **VISION_NORM,
}


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    target: Path = options.out_dir
    if target.exists() and any(target.iterdir()) and not (target / MARKER).exists():
        return _fail(f"{target} is not empty and holds no {MARKER}: it is not a model that this script wrote. Name another folder.")
    try:
        _prepare_imports()
    except ImportError as error:
        return _fail(f"{error}. Run this with the Python that scripts/install_vllm_cpu prints.")
    # Built beside the target and moved in one step: a folder of that name is a whole model, also after Ctrl-C.
    staging = target.with_name(f".{target.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        build(staging, seed=options.seed, max_len=options.max_len, steps=options.steps, endless=options.endless, bare=options.bare_prompt)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    print(target)
    return 0


def build(folder: Path, *, seed: int, max_len: int, steps: int, endless: bool, bare: bool) -> None:
    """Fills ``folder`` with everything that vLLM reads, and with the marker file that tells what the model will say."""
    tokenizer, script = build_tokenizer(steps)
    _write_tokenizer(folder, tokenizer, max_len, CHAT_TEMPLATE.replace("OPENING", "" if bare else "<think>"))
    _write_json(folder / "preprocessor_config.json", IMAGE_PROCESSOR)
    _write_json(folder / "video_preprocessor_config.json", VIDEO_PROCESSOR)
    model = build_model(seed, max_len)
    write_script_into(model, script["reasoning"] if endless else script["all"], seed=seed, endless=endless)
    model.save_pretrained(folder)
    # After save_pretrained, which writes a generation_config.json of its own.
    stops = [IDS[token] for token in STOP_TOKENS]
    generation = {"do_sample": False, "eos_token_id": stops, "pad_token_id": IDS["<|endoftext|>"]}
    _write_json(folder / "generation_config.json", generation)
    counted = "".join(f" {step}" for step in range(1, steps + 1))
    marker = {
        "reasoning": "".join(REASONING) + counted,
        "answer": None if endless else "".join(ANSWER),
        "output_tokens": None if endless else len(script["all"]),
        "endless": endless,
        "seed": seed,
    }
    _write_json(folder / MARKER, marker)


def build_tokenizer(steps: int) -> tuple[Tokenizer, dict[str, list[int]]]:
    """A byte-level BPE tokenizer with GLM's special tokens at their ids, and the script as token ids."""
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    spell = ByteLevel(add_prefix_space=False, use_regex=False)
    vocab = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []

    def learn(text: str) -> int:
        """Makes ``text`` one token, reached by merging it letter by letter; returns its id."""
        letters = spell.pre_tokenize_str(text)[0][0]
        for end in range(2, len(letters) + 1):
            if letters[:end] not in vocab:
                merges.append((letters[: end - 1], letters[end - 1]))
                vocab[letters[:end]] = len(vocab)
        return vocab[letters]

    def as_ids(pieces: tuple[str, ...]) -> list[int]:
        ids: list[int] = []
        for piece in pieces:
            if piece.isascii():
                ids.append(learn(piece))
            else:
                ids.extend(vocab[letter] for letter in spell.pre_tokenize_str(piece)[0][0])
        return ids

    for text in COMMON:
        learn(text)
    reasoning = [IDS["<think>"], *as_ids((*REASONING, *(f" {step}" for step in range(1, steps + 1))))]
    answer = [IDS["</think>"], IDS["<answer>"], *as_ids(ANSWER), IDS["</answer>"], IDS["<|user|>"]]
    script = {"reasoning": reasoning, "all": reasoning + answer}
    # Every id names something, as in the real vocabulary: vLLM takes the tokenizer's length for the vocabulary's.
    for index in range(len(vocab), FIRST_SPECIAL):
        vocab[f"<|unused_{index}|>"] = index
    vocab.update(IDS)

    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = Sequence([Split(Regex(WORDS), behavior="isolated"), spell])
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return tokenizer, script


def build_model(seed: int, max_len: int) -> Any:  # transformers' own annotations do not survive mypy --strict
    """A randomly initialised Glm4v of two narrow layers in each half; the vision half stays random."""
    import torch
    from transformers import Glm4vConfig, Glm4vForConditionalGeneration

    stops = [IDS[token] for token in STOP_TOKENS]
    config = Glm4vConfig(
        text_config={
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": max_len,
            # A head is 32 wide, of which all is rotated: the three sections share 16 frequencies.
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6], "partial_rotary_factor": 1.0},
            "eos_token_id": stops,
            "pad_token_id": IDS["<|endoftext|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 128,
            "num_heads": 4,
            "intermediate_size": 256,
            "out_hidden_size": 128,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=IDS["<|image|>"],
        video_token_id=IDS["<|video|>"],
        image_start_token_id=IDS["<|begin_of_image|>"],
        image_end_token_id=IDS["<|end_of_image|>"],
        video_start_token_id=IDS["<|begin_of_video|>"],
        video_end_token_id=IDS["<|end_of_video|>"],
    )
    torch.manual_seed(seed)
    model: Any = Glm4vForConditionalGeneration
    return model(config).to(torch.bfloat16).eval()


def write_script_into(model: Any, script: list[int], *, seed: int, endless: bool) -> None:
    """Lays out the weights so that greedy decoding says ``script``, whatever came before."""
    import torch

    if len(set(script)) != len(script):
        raise ValueError("The script uses a token twice; a token has one successor.")
    generator = torch.Generator().manual_seed(seed)
    # Random directions of 128 dimensions are orthogonal enough: the right token's logit leads by far more than a repetition penalty takes.
    directions: torch.Tensor = torch.nn.functional.normalize(torch.randn(len(script) + 1, 128, generator=generator), dim=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("post_self_attn_layernorm.weight", "post_mlp_layernorm.weight")):
                weight.zero_()
            elif name.endswith("language_model.norm.weight"):
                weight.fill_(1.0)
        embeddings = model.get_input_embeddings().weight
        outputs = model.get_output_embeddings().weight
        embeddings[:] = directions[-1]
        outputs.zero_()
        outputs[script[0]] = directions[-1]
        for position, token in enumerate(script):
            embeddings[token] = directions[position]
            if position + 1 < len(script):
                outputs[script[position + 1]] = directions[position]
        if endless:
            # Not back to <think>, which vLLM's parser would take for a second start, but to the first word after it.
            outputs[script[1]] += directions[len(script) - 1]
        _check_script(embeddings, outputs, script, endless=endless)


def _check_script(embeddings: torch.Tensor, outputs: torch.Tensor, script: list[int], *, endless: bool) -> None:
    """Fails here rather than in a puzzled test, should too many steps have crowded the 128 dimensions."""
    successors = [*script[1:], script[1]] if endless else script[1:]
    logits = embeddings[script[: len(successors)]].float() @ outputs.float().T
    top, found = logits.topk(2, dim=1)
    if found[:, 0].tolist() != successors or bool((top[:, 0] < 1.3 * top[:, 1]).any()):
        raise SystemExit("make_tiny_glyph.py: the script is too long for this small model. Use fewer --steps.")


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, max_len: int, template: str) -> None:
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "Glm4vProcessor",
        "model_max_length": max_len,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": list(SPECIAL_TOKENS),
    }
    _write_json(folder / "tokenizer_config.json", config)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _prepare_imports() -> None:
    """Installs the hook that a server process gets through PYTHONPATH, then tries the imports that can fail."""
    spec = importlib.util.spec_from_file_location("glyph_cpu_site", CPU_SITE)
    if spec is None or spec.loader is None:
        raise ImportError(f"{CPU_SITE} is missing")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    import tokenizers  # noqa: F401
    import torch  # noqa: F401
    from transformers import Glm4vConfig, Glm4vForConditionalGeneration  # noqa: F401


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make_tiny_glyph.py", description="Write a tiny scripted Glm4v model folder for vLLM.")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write; replaced if this script wrote it before")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files (default 0)")
    parser.add_argument("--max-len", type=int, default=131072, help="context length in tokens (default 131072)")
    parser.add_argument("--steps", type=int, default=64, help="how many steps the reasoning counts (default 64)")
    parser.add_argument("--endless", action="store_true", help="count in a circle: never answer, never stop")
    parser.add_argument("--bare-prompt", action="store_true", help="let the model write <think> itself, not the chat template")
    return parser.parse_args(arguments)


def _fail(message: str) -> int:
    print(f"make_tiny_glyph.py: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
