"""Planted facts: where they stand, that texts are as long as they are said to be, what counts as right, and that OCR finds them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from glyph_pipeline import Document, GlyphPipeline, RenderConfig
from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.errors import ConfigError, InputError, UsageError
from glyph_pipeline.experiments.evaluation.filler import sentences, vocabulary
from glyph_pipeline.experiments.evaluation.running import Way, impossible, items, plan, record, survey
from glyph_pipeline.experiments.evaluation.tables import by_kind, by_place
from glyph_pipeline.experiments.needles import _NAMES, _WORDS, KINDS, Haystack, NeedlePlan, Needles, graded
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.tokens.text import Cl100kTokenizer

PLAN = NeedlePlan(depths=(0, 30, 50, 100), lengths=(500, 2000), kinds=("word", "number", "uuid"))
count = Cl100kTokenizer().count


def planted(needles: Needles) -> list[tuple[str, int, float]]:
    """Every sample: its text without the fact, the characters before it, the depth it is said to have. Each is checked by itself."""
    found = []
    for sample in needles.samples():
        value = sample.expected["value"]
        assert sample.text.count(value) == 1
        (match,) = re.finditer(r"The (?:secret|serial|access)[^.]*\.", sample.text)
        assert value in match.group()
        before = sample.text[: match.start()].rstrip()
        assert before == "" or before[-1] in ".!?"
        found.append((sample.text[: match.start()] + sample.text[match.end() + 1 :], len(before), sample.about["at"]))
        assert sample.about["tokens"] == count(sample.text)
        assert abs(sample.about["tokens"] - sample.about["length"]) <= max(12, 0.01 * sample.about["length"])
        assert abs(sample.about["at"] - sample.about["depth"]) < (8 if sample.about["length"] < 1000 else 2)
        assert abs(len(before) / (len(sample.text) - len(match.group())) * 100 - sample.about["at"]) < 1
    return found


def test_a_fact_stands_once_at_its_depth_in_a_text_of_its_length() -> None:
    needles = Needles(PLAN)
    found = planted(needles)
    assert len(found) == 4 * 2 * 3
    assert found == planted(Needles(PLAN))  # the same again
    assert found != planted(Needles(replace(PLAN, seed=2)))
    # One haystack: the texts without their needles begin alike.
    assert len({text[:1500] for text, _, _ in found}) == 1
    values = [sample.expected["value"] for sample in needles.samples(["uuid"])]
    assert len(set(values)) == len(values) == 8
    repeated = list(Needles(replace(PLAN, repeat=2, depths=(50,), lengths=(500,), kinds=("word",))).samples())
    assert [sample.about["repeat"] for sample in repeated] == [1, 2]
    assert repeated[0].text[:100] != repeated[1].text[:100]


def test_filler_says_nothing_of_what_is_asked() -> None:
    words = vocabulary()
    assert not words & set(_WORDS)
    assert not words & {name.lower() for name in _NAMES}
    for kind in KINDS.values():
        asked = set(re.findall(r"\w+", f"{kind.sentence} {kind.question}".lower()))
        assert words & asked <= {"the", "of", "is", "only"}
    made = sentences("7")
    text = "".join(next(made) for _ in range(3000))
    assert set(re.findall(r"\w+", text.lower())) <= words
    lines = text.split(". ")
    assert len(set(lines)) > 0.97 * len(lines)


def test_a_text_of_the_users_own(tmp_path: Path) -> None:
    lines = [f"Dr. Hale met Mr. Pelican on day {number} of that year! He spoke of galdoria" for number in range(300)]
    hay = Document("\n".join(lines), id="own.txt")
    samples = list(Needles(NeedlePlan((0, 50, 100), (400,), ("word", "number"), repeat=3), hay).samples())
    assert len(samples) == 18
    for sample in samples:
        assert sample.about["haystack"] == "own.txt"
        assert sample.expected["value"] != "pelican"  # it is there already, and so is that name
        assert "Galdoria" not in sample.question
        (match,) = re.finditer(r" ?The (?:secret|serial)[^.]*\. ?", sample.text)
        rest = sample.text[: match.start()] + sample.text[match.end() :]
        assert "".join(hay.text.split()).startswith("".join(rest.split()))
        assert match.start() == 0 or re.search(r"(?:!|galdoria)$", sample.text[: match.start()])
    with pytest.raises(InputError, match=r"'own.txt' has .* tokens, too few"):
        list(Needles(NeedlePlan((0,), (20_000,), ("word",)), hay).samples())
    with pytest.raises(InputError, match=r"no end of a sentence or line near its token 1,9\d\d"):
        list(Needles(NeedlePlan((0,), (2000,), ("word",)), Document("and so on " * 9000)).samples())
    with pytest.raises(InputError, match="holds all that could be planted"):
        Needles(PLAN, Document(" ".join(_WORDS)))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_line_ends_as_it_does_on_any_system(line_end: str) -> None:
    hay = Document(line_end.join(f"a line {number} without a stop" for number in range(100)))
    (sample,) = Needles(NeedlePlan((50,), (300,), ("word",)), hay).samples()
    assert re.search(r"without a stop The secret[^.]*\.\s+a line", sample.text)


def test_of_a_long_text_only_what_is_needed_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"Line {number} was written late. " for number in range(2000))
    counted: list[int] = []
    monkeypatch.setattr(Cl100kTokenizer, "count", lambda _, part: counted.append(len(part)) or count(part))
    short = Haystack(Document(text)).planted("So it is.", 400, 50, 1)
    counted.clear()
    assert Haystack(Document(text * 50)).planted("So it is.", 400, 50, 1) == short
    assert max(counted) < len(text)


def test_a_long_row_of_stops_is_one_end_of_a_sentence() -> None:
    # Tried from each of its stops, it would take an hour. (More of them, and tiktoken before 0.13 takes minutes to count them.)
    hay = Document("It begins " + "." * 100_000 + "x" + " It goes on. " * 9)
    with pytest.raises(InputError, match="no end of a sentence"):
        list(Needles(NeedlePlan((0,), (1000,), ("word",)), hay).samples())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depths": (101,)}, "The depth 101"),
        ({"depths": ()}, "depths are none"),
        ({"depths": (10, 10.0)}, "depths are 10, 10"),
        ({"lengths": (500, 500)}, "each once"),
        ({"lengths": (99,)}, "The length 99 is too short"),
        ({"lengths": (10**9,)}, "The length 1,000,000,000 is too long"),
        ({"repeat": 10**6}, "That is 24,000,000 questions"),
        ({"kinds": ("colour",)}, "no kind 'colour'"),
    ],
)
def test_impossible_plans(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(PLAN, **change)  # type: ignore[arg-type]


UUID = "5926e120-b24a-452e-a038-8365c45cf123"


@pytest.mark.parametrize(
    ("value", "answer", "right", "near", "similarity"),
    [
        ("walnut", "It is\nWALNUT.", True, False, 1),
        ("walnut", "“The secret password of the vault is walnut.”", True, False, 1),
        ("walnut", "_walnut_", True, False, 1),
        ("walnut", "-walnut", True, False, 1),
        ("walnut", "walnut--that is it", True, False, 1),
        ("walnut", "密码是walnut。", True, False, 1),
        ("walnut", "ｗａｌｎｕｔ", True, False, 1),
        ("walnut", "pre-walnut", False, True, 0.833),
        ("walnut", "walnut_2", False, True, 0.833),
        ("walnut", "walnuts", False, True, 0.833),
        ("walnut", "wal nut", False, True, 0.833),
        ("walnut", "wa1nut", False, True, 0.833),
        ("walnut", "the harbour", False, False, None),
        ("walnut", "", False, False, 0),
        ("4812331", "4,812,331", True, False, 1),
        ("4812331", "No. 4812331!", True, False, 1),
        ("4812331", "4 812 331", True, False, 1),
        ("4812331", "4\u202f812\u202f331", True, False, 1),
        ("4812331", "4.812.331", True, False, 1),
        ("4812331", "4812331,500", True, False, 1),
        ("4812331", "4,812,331 500", True, False, 1),
        ("4812331", "no. 3 4812331 500", True, False, 1),
        ("4812331", "４８１２３３１", True, False, 1),
        ("4812331", "481 2331", False, True, 0.857),
        ("4812331", "48123x31", False, True, 0.857),
        ("4812331", "481231", False, True, 0.857),
        ("4812331", "4,812,3310", False, True, 0.857),
        ("4812331", "4812337", False, True, 0.857),
        ("4812331", "48123310", False, True, 0.857),
        ("4812331", "9912337", False, False, None),
        (UUID, f"the key is {UUID.upper()}, I think", True, False, 1),
        (UUID, f"the key is {UUID[:20]}8{UUID[21:]}", False, True, 0.972),
        (UUID, f"{UUID}-7", False, True, 0.972),
        (UUID, UUID.replace("-", "\u2011"), True, False, 1),
        (UUID, f"terminal 7 {UUID} 500", True, False, 1),
        (UUID, f"the key is {UUID[:30]} {UUID[30:]}.", False, True, 0.972),
        (UUID, f"the key is {UUID[:7]}{UUID[8:]}.", False, True, 0.972),
        (UUID, "0ab7c839-f2cf-400c-9c92-24331e1d3ffd", False, False, None),
    ],
)
def test_what_is_right_and_what_is_near(value: str, answer: str, right: bool, near: bool, similarity: float | None) -> None:
    grade = graded(value, answer)
    assert (grade["score"], grade["right"], grade["near"]) == (float(right), right, near)
    assert grade["similarity"] == similarity if similarity is not None else grade["similarity"] < 0.6


def test_the_key_of_a_row_changes_with_all_that_its_outcome_depends_on() -> None:
    needles = Needles(NeedlePlan((50,), (200,), ("word",)))
    config = RenderConfig.preset("en")
    way = Way("en", config, {})

    def key(benchmark: Needles = needles, way: Way = way, reader: str = "a", **asking: object) -> str:
        (planned,) = plan(survey(benchmark, [way]), reader, {"max_tokens": 10, **asking})
        return planned.id

    ids = [key(), key(reader="b"), key(max_tokens=20), key(way=Way("en", config.replace(dpi=96), {}))]
    ids += [key(Needles(NeedlePlan((50,), (200,), ("word",), seed=2))), key(way=Way("en", config.replace(font="DejaVuSans.ttf"), {}))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glyph_pipeline.experiments.evaluation.running.version", lambda _: "77.0")
        ids.append(key())
    with pytest.MonkeyPatch.context() as patch:  # the same name for another font file
        found = find_font("DejaVuSansMono.ttf", True)
        patch.setattr("glyph_pipeline.experiments.evaluation.running.find_font", lambda *_: found)
        ids.append(key())
    with pytest.MonkeyPatch.context() as patch:
        asked = replace(KINDS["word"], question="Tell the password of the {name} vault.")
        patch.setattr("glyph_pipeline.experiments.needles.KINDS", {**KINDS, "word": asked})
        ids.append(key())
    assert len(set(ids)) == len(ids)
    assert key() == ids[0]


def test_samples_are_read_once_to_plan_them_and_are_told() -> None:
    told: list[int] = []
    cases = survey(Needles(PLAN), [Way("en", RenderConfig.preset("en"), {}), Way("b", RenderConfig.preset("tight"), {})], told.append)
    assert told == list(range(1, 25))
    assert [case.way.name for case in cases] == ["en"] * 24 + ["b"] * 24
    assert {case.sample.text for case in cases} == {""}


def test_data_that_change_meanwhile_are_not_asked_about() -> None:
    small = NeedlePlan((0, 50), (200,), ("word",))
    planned = plan(survey(Needles(small), [Way("en", RenderConfig.preset("en"), {})]), "a", {})
    ids = {one.id for one in planned}
    assert [item.id for item in items(Needles(small), planned, ids)] == [one.id for one in planned]
    samples = list(Needles(small).samples())
    others = [samples[:1], [*samples, samples[0]], [samples[0], replace(samples[1], text=samples[0].text)]]
    others.append([samples[0], replace(samples[1], expected={"value": "other"})])
    for other in others:
        changed = Needles(small)
        changed.samples = lambda tasks=(), other=other: iter(other)  # type: ignore[method-assign, misc]
        with pytest.raises(InputError, match="data of needle have changed"):
            list(items(changed, planned, ids))


def test_what_cannot_be_drawn_is_a_failed_row() -> None:
    error = ConfigError("No line fits the page.")
    (planned,) = plan(survey(Needles(NeedlePlan((50,), (200,), ("word",))), [Way("tiny", {}, {"font-size": 99}, error)]), "a", {})
    row = impossible(planned)
    assert (row["status"], row["error"], row["changes"]) == ("failed", "No line fits the page.", {"font-size": 99})
    assert by_place([row]) == [{"drawing": "tiny", "depth": "50 %", "200": "0/0"}]
    (kinds,) = by_kind([row])
    assert (kinds["n"], kinds["right"], kinds["failed"], kinds["ratio"]) == (0, 0, 1, None)


@pytest.mark.ocr
def test_the_ocr_reader_finds_most_of_what_is_planted() -> None:
    needles = Needles(NeedlePlan((0, 100), (300, 600), ("word",)))
    way = Way("small", RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False, page_size="298,420"), {})
    planned = {one.id: one for one in plan(survey(needles, [way]), "OCR", {})}
    with GlyphPipeline(reader=OCRReader(), config=way.drawing) as pipeline:
        results: list[BatchResult] = list(pipeline.ask_many(items(needles, list(planned.values()), set(planned)), workers=0))
    rows = [record(needles, planned[result.id], result) for result in results]
    assert len(rows) == 4
    assert sum(row["right"] for row in rows) >= 3
    for row in rows:
        assert (row["status"], row["finish_reason"], row["error"]) == ("ok", "quote", None)
        assert row["text_tokens"] == row["tokens"]
        assert 1 < row["ratio"] < 6
    assert by_place(sorted(rows, key=lambda row: row["depth"]))[0].keys() == {"drawing", "depth", "300", "600"}
