"""What the installed command prints and leaves behind when all is well."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from glyph_pipeline import RenderConfig, render
from glyph_pipeline.document import Document
from tests.support.command import REPOSITORY, SAMPLE, glyph_compress
from tests.support.fake_openai import Fake, running, says

ANSWERING = [{"reasoning": "Page 2 says it."}, {"content": "<answer>Thirty-two "}, {"content": "cannon balls"}]
USAGE = {"prompt_tokens": 1404, "completion_tokens": 21, "total_tokens": 1425}


def test_the_answer_on_standard_output_everything_else_on_standard_error(tmp_path: Path) -> None:
    with running(Fake(says(ANSWERING, usage=USAGE))) as fake:
        done = glyph_compress(SAMPLE, "-q", "What does it turn on?", "--base-url", fake.base_url, "--exact", "off", state=tmp_path)
    assert (done.returncode, done.stdout) == (0, "Thirty-two cannon balls\n")
    rows = dict(line.split("  ", 1) for line in done.stderr.splitlines() if "  " in line)
    report = {label.strip(): value.strip() for label, value in rows.items()}
    text = Document.read(SAMPLE).text
    pages = list(render(text))
    vision = sum(page.vision_tokens for page in pages)
    assert report["text tokens"] == f"{len(text):,}  fake/Glyph (server's /tokenize)"
    assert report["vision tokens"] == f"{vision:,}  GLM-4.1V, {len(pages)} pages"
    assert report["ratio"].startswith(f"{len(text) / vision:.2f} ")
    assert report["prompt tokens"] == f"1,404  as served, {20 + len('What does it turn on?') + vision + 2 * len(pages):,} predicted"
    for stage in ("connect", "draw", "read", "total"):
        assert stage in report["time"]
    assert "Page 2 says it." not in done.stderr


def test_reasoning_on_standard_error_when_asked_for(tmp_path: Path) -> None:
    with running(Fake(says(ANSWERING))) as fake:
        done = glyph_compress(SAMPLE, "-q", "What?", "--base-url", fake.base_url, "--show-reasoning", state=tmp_path)
    assert done.stdout == "Thirty-two cannon balls\n"
    assert "Page 2 says it.\n" in done.stderr


def test_json_holds_answer_and_account(tmp_path: Path) -> None:
    with running(Fake(says(ANSWERING, usage=USAGE))) as fake:
        done = glyph_compress(SAMPLE, "-q", "What?", "--base-url", fake.base_url, "--json", "--quiet", state=tmp_path)
    data = json.loads(done.stdout)
    assert done.stderr == ""
    assert (data["text"], data["reasoning"], data["finish_reason"], data["truncated"]) == (
        "Thirty-two cannon balls",
        "Page 2 says it.",
        "stop",
        False,
    )
    assert data["usage"] == {"prompt_tokens": 1404, "completion_tokens": 21}
    assert data["question"] == "What?"
    assert data["documents"] == [str(SAMPLE)]
    assert data["config"] == RenderConfig.preset("en").to_dict()
    assert data["report"]["fonts"][0]["requested"] == "Verdana"
    assert (data["report"]["invisible"], data["report"]["packages"]) == (0, [])
    assert isinstance(data["report"]["ratio"], float)


def test_the_key_comes_from_our_own_variable_only(tmp_path: Path) -> None:
    with running(Fake(says(ANSWERING))) as fake:
        ask = [SAMPLE, "-q", "What?", "--base-url", fake.base_url]
        glyph_compress(*ask, state=tmp_path, GLYPH_API_KEY="ours", OPENAI_API_KEY="theirs")
        glyph_compress(*ask, state=tmp_path, OPENAI_API_KEY="theirs", OPENAI_BASE_URL="http://127.0.0.1:1")
    first, second = (headers["authorization"] for headers in fake.headers)
    assert first == "Bearer ours"
    assert "theirs" not in second


def test_without_a_question_it_draws_and_reports(tmp_path: Path) -> None:
    done = glyph_compress(SAMPLE, state=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "cl100k_base (tiktoken)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_pages_and_index_in_the_output_folder(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "pages"
    done = glyph_compress("render", SAMPLE, "-o", out, "--dpi", "96", "--font-size", "10", state=tmp_path)
    assert done.returncode == 0
    index = json.loads((out / "pages.json").read_text("utf-8"))
    text = Document.read(SAMPLE).text
    pages = list(render(text, RenderConfig.preset("en").replace(dpi=96, font_size=10, line_height=None)))
    assert sorted(path.name for path in out.iterdir()) == [*(f"page_{page.number:04d}.png" for page in pages), "pages.json"]
    assert "".join(text[entry["start"] : entry["end"]] for entry in index["pages"]) == text
    for entry, page in zip(index["pages"], pages, strict=True):
        data = (out / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"] == hashlib.sha256(page.png).hexdigest()
        assert Image.open(io.BytesIO(data)).size == (entry["width"], entry["height"])
        assert entry["vision_tokens"] == page.vision_tokens
    assert index["config"]["dpi"] == 96


def test_several_documents_get_a_folder_each(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.txt").write_text(f"Notes of {folder}.", "utf-8")
    done = glyph_compress("render", "a/notes.txt", "b/notes.txt", "-", "-o", "out", state=tmp_path, cwd=tmp_path, stdin=b"From a pipe.")
    assert done.returncode == 0
    index = json.loads((tmp_path / "out" / "pages.json").read_text("utf-8"))
    assert [(entry["document"], entry["file"]) for entry in index["pages"]] == [
        ("a/notes.txt", "notes/page_0001.png"),
        ("b/notes.txt", "notes_2/page_0001.png"),
        ("stdin", "stdin/page_0001.png"),
    ]
    assert index["report"]["documents"] == 3


def test_render_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for out in ("one", "two"):
        assert glyph_compress("render", SAMPLE, "-o", tmp_path / out, "--json", "--quiet", state=tmp_path).returncode == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_an_official_configuration_loads_unchanged(tmp_path: Path) -> None:
    official = {
        "page-size": "595,842",
        "dpi": 72,
        "margin-x": 10,
        "margin-y": 10,
        "font-path": "../config/Verdana.ttf",
        "font-size": 9,
        "line-height": 10,
        "font-color": "#000000",
        "alignment": "LEFT",
        "horizontal-scale": 1.0,
        "first-line-indent": 0,
        "left-indent": 0,
        "right-indent": 0,
        "space-after": 0,
        "space-before": 0,
        "border-width": 0,
        "border-padding": 0,
        "page-bg-color": "#FFFFFF",
        "para-bg-color": "#FFFFFF",
        "auto-crop-width": True,
        "auto-crop-last-page": True,
    }
    (tmp_path / "config_en.json").write_text(json.dumps(official, indent=6), "utf-8")
    done = glyph_compress("render", SAMPLE, "--config", tmp_path / "config_en.json", "-o", tmp_path / "out", "--json", state=tmp_path)
    assert done.returncode == 0, done.stderr
    (font,) = json.loads(done.stdout)["report"]["fonts"]
    assert font["requested"] == "../config/Verdana.ttf"
    # Verdana may not be bundled: where it is installed it draws, elsewhere the stand-in does, and the report says so.
    assert (font["family"], font["stand_in"]) in {("Verdana", False), ("DejaVu Sans", True)}


@pytest.mark.parametrize(
    ("profile", "command"),
    [
        (
            "nvidia",
            "vllm serve zai-org/Glyph --no-enable-prefix-caching --mm-processor-cache-gb 0 --reasoning-parser glm45 --limit-mm-per-prompt.video 0",
        ),
        (
            "rocm",
            "VLLM_ROCM_USE_AITER=1 SAFETENSORS_FAST_GPU=1 VLLM_USE_TRITON_FLASH_ATTN=0 vllm serve zai-org/Glyph "
            "--no-enable-prefix-caching --mm-processor-cache-gb 0 --reasoning-parser glm45 --limit-mm-per-prompt.video 0",
        ),
    ],
)
def test_serve_prints_the_guides_command(tmp_path: Path, profile: str, command: str) -> None:
    done = glyph_compress("serve", "--profile", profile, "--print-command", state=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, command + "\n", "")


def test_serve_passes_on_what_the_user_chose(tmp_path: Path) -> None:
    chosen = [
        "--max-num-batched-tokens",
        "16384",
        "--tensor-parallel-size",
        "2",
        "--port",
        "8123",
        "--seed=7",
        "--reasoning-parser",
        "none",
    ]
    done = glyph_compress("serve", "--profile", "nvidia", "--print-command", "--model", "/models/glyph", *chosen, state=tmp_path)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[:3] == ["vllm", "serve", "/models/glyph"]
    for flag, value in (
        ("--max-num-batched-tokens", "16384"),
        ("--tensor-parallel-size", "2"),
        ("--port", "8123"),
        ("--reasoning-parser", "none"),
    ):
        assert words.count(flag) == 1
        assert words[words.index(flag) + 1] == value
    assert "--seed=7" in words


def test_serve_without_vllm_says_what_to_install(tmp_path: Path) -> None:
    done = glyph_compress("serve", state=tmp_path)
    assert (done.returncode, done.stdout) == (6, "")
    assert "glyph-pipeline[vllm]" in done.stderr


def test_doctor_names_what_is_missing_and_what_mends_it(tmp_path: Path) -> None:
    done = glyph_compress("doctor", "--json", state=tmp_path, HF_HOME=str(tmp_path / "hub"))
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0
    assert set(findings) == {"Python", "fonts", "tokenizer", "OCR reader", "accelerator", "vLLM", "model", "port", "server"}
    assert findings["fonts"]["state"] == findings["tokenizer"]["state"] == "ready"
    assert (findings["vLLM"]["state"], findings["model"]["state"]) == ("missing", "missing")
    assert findings["vLLM"]["mend"]
    assert findings["model"]["mend"] == "hf download zai-org/Glyph"
    plain = glyph_compress("doctor", state=tmp_path, HF_HOME=str(tmp_path / "hub"))
    for finding in findings.values():
        assert finding["subject"] in plain.stdout


def test_doctor_sees_the_weights_where_they_are(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "hub" / "models--zai-org--Glyph" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"\0" * 100_000_000)
    done = glyph_compress("doctor", "--json", state=tmp_path, HF_HOME=str(tmp_path / "hub"))
    (model,) = (finding for finding in json.loads(done.stdout) if finding["subject"] == "model")
    assert model["state"] == "ready"
    assert "0.1 GB" in model["detail"]


def test_help_lists_every_exit_code_there_is(tmp_path: Path) -> None:
    from glyph_pipeline import errors

    shown = glyph_compress("--help", state=tmp_path).stdout
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GlyphError)}
    listed = {int(line.split()[0]) for line in shown.split("Exit codes:")[1].splitlines() if line.strip()}
    assert listed == codes | {
        errors.EXIT_OK,
        errors.EXIT_TRUNCATED,
        errors.EXIT_ITEMS_FAILED,
        errors.EXIT_NOT_CERTIFIED,
        errors.EXIT_INTERRUPTED,
    }
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    assert all(f"| {code} |" in readme for code in listed)
