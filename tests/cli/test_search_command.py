"""glyph-compress search: what it leaves behind, that it goes on where it stopped, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import RenderConfig
from tests.support.command import SAMPLE, glyph_compress
from tests.support.fake_openai import Fake, running, says
from tests.support.processes import command, interrupt, wait_for

# Small pages with large print: a second each for OCR.
SPACE = """[space]
page-size = ["300,300"]
font-size = [8, 9, 10]
leading = [1]
dpi = [72, 96]
"""
QUESTIONS = '{"question": "What burned on the harbour wall?", "answer": "lantern"}\n{"question": "Who sang?", "answer": "zebra"}\n'


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Path]:
    text, space = tmp_path / "text.txt", tmp_path / "space.toml"
    text.write_text(SAMPLE.read_text("utf-8")[:3000])
    space.write_text(SPACE)
    return text, space


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.ocr
def test_what_a_search_leaves_behind(given: tuple[Path, Path], tmp_path: Path) -> None:
    text, space = given
    out = tmp_path / "out"
    asked = ("search", text, "--space", space, "--confirm", "1", "-o", out)
    done = glyph_compress(*asked, "--trials", "4", state=tmp_path)
    assert done.returncode == 0, done.stderr
    trials = lines(out / "trials.jsonl")
    assert [trial["proposed"] for trial in trials] == ["default", "search", "search", "search"]
    assert set(trials[0]["counts"]) == {"text", "random"}
    front = json.loads((out / "front.json").read_text("utf-8"))
    assert front["trials"] == 4
    assert [entry["ratio"] for entry in front["front"]] == sorted((entry["ratio"] for entry in front["front"]), reverse=True)
    # The default's page is larger than any of the space: nothing has its ratio at so few errors, or the answer says which.
    assert done.stdout.splitlines()[-1] == front["answer"]
    assert front["answer"].startswith("Yes: " if front["better"] else "No: of 4 configurations")
    confirmed = {entry["trial"]: entry for entry in lines(out / "confirm.jsonl")}
    files = {path.name for path in (out / "presets").iterdir()}
    assert files == {Path(entry["file"]).name for entry in front["front"]}
    for entry in front["front"]:
        assert entry["confirmed"]
        assert entry["counts"] == confirmed[entry["trial"]]["counts"]
        assert entry["counts"]["random"]["of"] > 2 * entry["searched"]["counts"]["random"]["of"] * 0.9
        assert entry["interval"][0] <= entry["error"] <= entry["interval"][1]
        assert Path(entry["file"]).name == f"ratio-{entry['ratio']:.2f}-error-{entry['error']:.3f}.json"
        drawn = glyph_compress(text, "--config", out / entry["file"], "--json", state=tmp_path)
        assert round(json.loads(drawn.stdout)["report"]["ratio"], 4) == entry["ratio"]
    report = (out / "report.html").read_text("utf-8")
    assert all(heading in report for heading in ("Ratio against error", "The front", "Pages", "What this proves and what not"))
    assert report.count("data:image/png;base64,") >= 2
    # Again: nothing is measured, the same is said.
    before = {path: path.read_bytes() for path in out.glob("*.jsonl")}
    again = glyph_compress(*asked, "--trials", "4", state=tmp_path)
    assert (again.stdout, "4 of 4 trials are there already" in again.stderr) == (done.stdout, True)
    assert {path: path.read_bytes() for path in out.glob("*.jsonl")} == before
    assert (out / "report.html").read_text("utf-8") == report
    # More: what is there stays.
    more = glyph_compress(*asked, "--trials", "9", "--json", "--quiet", state=tmp_path)
    assert (more.returncode, more.stderr) == (0, "")
    assert lines(out / "trials.jsonl")[:4] == trials
    assert json.loads(more.stdout)["trials"] == 7  # the whole space, and the default
    assert json.loads(more.stdout) == json.loads((out / "front.json").read_text("utf-8"))
    assert {path.name for path in (out / "presets").iterdir()} == {Path(e["file"]).name for e in json.loads(more.stdout)["front"]}


@pytest.mark.ocr
def test_another_document_space_or_objective_is_another_search(given: tuple[Path, Path], tmp_path: Path) -> None:
    text, space = given
    out = tmp_path / "out"
    asked = ("--space", space, "--trials", "1", "--confirm", "0", "--error", "random", "-o", out)
    assert glyph_compress("search", text, *asked, state=tmp_path).returncode == 0
    trials = (out / "trials.jsonl").read_bytes()
    other = tmp_path / "other.txt"
    other.write_text("Another text.")
    wider = tmp_path / "wider.toml"
    wider.write_text(SPACE.replace("72, 96", "72, 96, 120"))
    for changed, what in (
        (("search", other, *asked), "another document"),
        (("search", text, *asked, "--space", wider), "another space"),
        (("search", text, *asked, "--error", "text"), "another objective"),
        (("search", text, *asked, "--family", "qwen3-vl", "--seed", "3"), "another family, another seed"),
    ):
        done = glyph_compress(*changed, state=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"was made with {what}." in done.stderr
    (out / "search.json").unlink()
    done = glyph_compress("search", text, *asked, state=tmp_path)
    assert done.returncode == 2
    assert "without search.json" in done.stderr
    assert (out / "trials.jsonl").read_bytes() == trials


@pytest.mark.ocr
def test_ctrl_c_keeps_what_was_measured(given: tuple[Path, Path], tmp_path: Path) -> None:
    text, space = given
    out = tmp_path / "out"
    asked = ["search", text, "--space", space, "--confirm", "0", "--error", "random", "-o", out]
    whole = glyph_compress(*asked[:-1], tmp_path / "whole", "--trials", "6", state=tmp_path)
    assert whole.returncode == 0, whole.stderr
    with command(*asked, "--trials", "6", state=tmp_path, python=Path("/nowhere")) as (process, _):
        wait_for(lambda: (out / "trials.jsonl").exists() and len(lines(out / "trials.jsonl")) >= 2, "the second trial", 120)
        interrupt(process)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert "the same command goes on" in err
    kept = lines(out / "trials.jsonl")
    assert 1 <= len(kept) <= 6  # what was seen of the second may not have been safe yet
    after = glyph_compress(*asked, "--trials", "6", state=tmp_path)
    assert after.returncode == 0, after.stderr
    names = [[trial["id"] for trial in lines(folder / "trials.jsonl")] for folder in (out, tmp_path / "whole")]
    assert names[0] == names[1]
    assert lines(out / "trials.jsonl")[: len(kept)] == kept


@pytest.mark.ocr
def test_questions_answered_by_quotes(given: tuple[Path, Path], tmp_path: Path) -> None:
    text, space = given
    text.write_text("The lantern burned on the harbour wall all night.\n\n" * 3 + "Nobody sang.\n")
    questions = tmp_path / "q.jsonl"
    questions.write_text(QUESTIONS)
    asked = ("search", text, "--space", space, "--questions", questions, "--reader", "ocr", "-o", tmp_path / "out")
    done = glyph_compress(*asked, "--trials", "3", "--json", state=tmp_path)
    assert done.returncode == 0, done.stderr
    for trial in lines(tmp_path / "out" / "trials.jsonl"):
        assert (trial["counts"], trial["error"]) == ({"questions": {"errors": 1, "of": 2}}, 0.5)
    assert not json.loads(done.stdout)["default"]["confirmed"]
    questions.write_text(QUESTIONS.replace("zebra", "sparrow"))
    done = glyph_compress(*asked, "--trials", "3", state=tmp_path)
    assert (done.returncode, "another objective" in done.stderr) == (2, True)


@pytest.mark.ocr
def test_needles_and_a_critic(given: tuple[Path, Path], tmp_path: Path) -> None:
    text, space = given
    asked = ("search", text, "--space", space, "--needles", "2", "--confirm", "2", "--reader", "ocr", "-o", tmp_path / "out")
    with running(Fake(says([{"content": '[{"page-size": "300,300", "font-size": 10, "dpi": 96}]'}]))) as server:
        done = glyph_compress(*asked, "--critic-url", server.base_url, "--critic-every", "1", "--trials", "2", "--json", state=tmp_path)
    assert done.returncode == 0, done.stderr
    default, proposed = lines(tmp_path / "out" / "trials.jsonl")
    assert (proposed["proposed"], proposed["changes"]) == ("critic", {"page-size": "300,300", "font-size": 10, "dpi": 96})
    assert default["counts"]["questions"]["of"] == 2
    assert json.loads(done.stdout)["default"]["counts"]["questions"]["of"] == 4  # others, and twice as many
    assert len(lines(tmp_path / "out" / "critic.jsonl")) == 1
    assert "lantern" not in json.dumps(server.requests)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--space", "nonesuch"], 3, "no space 'nonesuch'"),
        (["--questions", "q", "--needles", "2"], 2, "two measures"),
        (["--needles", "2", "--lines", "3", "--error", "text"], 2, "--error, --lines"),
        (["--questions", "q", "--confirm", "3"], 2, "--confirm"),
        (["--base-url", "http://127.0.0.1:9/v1"], 2, "--base-url: OCR reads"),
        (["--model", "m"], 2, "--model: OCR reads"),
        (["--critic-model", "m"], 2, "there is no critic"),
        (["--critic-url", "ftp://x"], 3, "ftp://x"),
        (["--questions", "nowhere.jsonl"], 4, "nowhere.jsonl"),
        (["--trials", "0"], 2, "--trials"),
        (["--needles", "1", "--base-url", "http://127.0.0.1:9/v1"], 7, "127.0.0.1:9"),
    ],
)
def test_mistakes(options: list[str], code: int, words: str, tmp_path: Path) -> None:
    done = glyph_compress("search", SAMPLE, *options, state=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr


def test_without_optuna_the_message_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("raise ImportError('not here')")
    done = glyph_compress("search", SAMPLE, "-o", tmp_path / "out", state=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 6
    assert "glyph-pipeline[experiments]" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.ocr
def test_without_plotly_everything_but_the_report_is_there(given: tuple[Path, Path], tmp_path: Path) -> None:
    text, space = given
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "plotly.py").write_text("raise ImportError('not here')")
    asked = ("search", text, "--space", space, "--trials", "1", "--confirm", "0", "-o", tmp_path / "out")
    done = glyph_compress(*asked, state=tmp_path, PYTHONPATH=str(tmp_path / "hidden"))
    assert done.returncode == 0, done.stderr
    assert "glyph-pipeline[experiments]" in done.stderr
    assert {"front.json", "presets", "trials.jsonl"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert not (tmp_path / "out" / "report.html").exists()
    (found,) = (tmp_path / "out" / "presets").iterdir()
    assert RenderConfig.load(found) == RenderConfig.preset("en")
