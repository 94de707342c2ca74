"""Asks the real vLLM about a document of a million tokens, in windows, and shows each: predicted against served. Judges by its exit code.

Usage: ``long_document.py [--tokens N] [--max-model-len N] [--concurrency N] [--model DIR] [--base-url URL] [--json FILE]``, run by a
Python that has the package and the extra ``dev``. Without ``--base-url`` it launches vLLM on the CPU (``scripts/install_vllm_cpu``)
with the tests' tiny model. The text is real: the documentation strings of the Python that runs this and of its packages.
Exit code 1 if a window's prompt tokens are not those predicted, a page is in no window, or there is no single merged answer.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from glyph_pipeline import Document, GlyphPipeline, GlyphServer
from glyph_pipeline.answer import Answer, Drawn, Merged, WindowDone
from glyph_pipeline.serving import vllm_cpu_home
from glyph_pipeline.tokens.text import Cl100kTokenizer

ROOT = Path(__file__).resolve().parent.parent


def documentation() -> Iterator[str]:
    """Documentation strings, module by module, the library's first, in path order."""
    for folder in ("stdlib", "purelib"):
        for path in sorted(Path(sysconfig.get_path(folder)).rglob("*.py")):
            if folder == "stdlib" and "site-packages" in path.parts:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse(path.read_text("utf-8"))
            except (SyntaxError, ValueError, OSError, RecursionError):
                continue
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            strings = [text for node in ast.walk(tree) if isinstance(node, kinds) and (text := ast.get_docstring(node))]
            if strings:
                yield f"{path.stem}\n\n" + "\n\n".join(strings) + "\n\n"


def real_text(tokens: int) -> str:
    """At least ``tokens`` tokens of it, as cl100k_base counts; less if this machine has no more."""
    tokenizer, parts, count = Cl100kTokenizer(), [], 0
    for part in documentation():
        parts.append(part)
        count += tokenizer.count(part)
        if count >= tokens:
            break
    return "".join(parts)


def main() -> int:
    """Ask, show, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--max-model-len", type=int, default=16384)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--model", help="a model folder [default: the tests' tiny one, made if it is not there]")
    parser.add_argument("--base-url")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    text = real_text(options.tokens)
    counted = Cl100kTokenizer().count(text)
    print(f"{len(text):,} characters, {counted:,} tokens (cl100k_base)", flush=True)
    with ExitStack() as stack:
        if options.base_url:
            pipeline = GlyphPipeline(options.base_url, concurrency=options.concurrency)
        else:
            python = Path(os.environ.get("GLYPH_VLLM_PYTHON") or vllm_cpu_home() / "bin" / "python")
            model = options.model or _tiny_model(python, stack)
            print("Starting vLLM ...", flush=True)
            server = stack.enter_context(GlyphServer.launch(model, "cpu", vllm=python, max_model_len=options.max_model_len))
            pipeline = GlyphPipeline(server=server, concurrency=options.concurrency)
        began = time.monotonic()
        answer: Answer | None = None
        for event in pipeline.stream(Document(text, id="documentation"), "What is said of time zones?"):
            seconds = time.monotonic() - began
            if isinstance(event, Drawn):
                print(f"{seconds:7.1f} s  drawn: {event.report.pages:,} pages, {event.report.vision_tokens:,} vision tokens", flush=True)
            elif isinstance(event, WindowDone):
                window = event.answer
                print(
                    f"{seconds:7.1f} s  window {event.window:3} of {event.windows}: pages {window.first_page:4}-{window.last_page:<4} "
                    f"predicted {window.predicted_prompt_tokens:,}, served {window.usage.prompt_tokens:,}",
                    flush=True,
                )
            elif isinstance(event, Merged):
                merge = event.answer
                print(
                    f"{seconds:7.1f} s  merged {len(merge.labels)} answers (round {merge.round}): "
                    f"predicted {merge.predicted_prompt_tokens:,}, served {merge.usage.prompt_tokens:,}",
                    flush=True,
                )
            elif isinstance(event, Answer):
                answer = event
        pipeline.close()
    assert answer is not None
    if options.json:
        options.json.write_text(json.dumps(answer.to_dict(), ensure_ascii=False), "utf-8")
    return _judged(answer)


def _judged(answer: Answer) -> int:
    requests = [*answer.windows, *answer.merges]
    off = [request for request in requests if request.predicted_prompt_tokens != request.usage.prompt_tokens]
    read = {page for window in answer.windows for page in range(window.first_page, window.last_page + 1)}
    finals = [merge for merge in answer.merges if merge.final]
    report = answer.report
    print(
        f"{len(answer.windows)} windows, {len(answer.merges)} merging requests; {len(requests) - len(off)} of {len(requests)} as predicted; "
        f"{len(read):,} of {report.pages:,} pages read; text {report.text_tokens:,} tokens ({report.tokenizer}), ratio {report.ratio:.2f}; "
        f"{answer.usage.prompt_tokens:,} prompt tokens in all\nAnswer: {answer.text}\nSeconds: {answer.to_dict()['seconds']}"
    )
    whole = len(read) == report.pages and (len(finals) == 1 or len(answer.windows) == 1)
    return 0 if not off and whole and answer.text else 1


def _tiny_model(python: Path, stack: ExitStack) -> str:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    subprocess.run([str(python), str(ROOT / "scripts" / "make_tiny_glyph.py"), folder], check=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
