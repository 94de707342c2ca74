"""Metrics on cases computed by hand."""

from __future__ import annotations

from difflib import SequenceMatcher

import pytest

from glyph_pipeline.experiments.evaluation import metrics


def test_word_f1() -> None:
    assert metrics.word_f1("The Ferry, of Ardmoyle!", "a ferry of ardmoyle") == 1.0
    # said: old ferry ran; wanted: ferry: precision 1/3, recall 1.
    assert metrics.word_f1("the old ferry ran", "Ferry") == pytest.approx(0.5)
    # A word counts as often as it stands on both sides: 2 of 3 and 2 of 2.
    assert metrics.word_f1("red red red", "red red") == pytest.approx(0.8)
    assert metrics.word_f1("", "ferry") == metrics.word_f1("boat", "ferry") == 0.0


def test_chinese_f1() -> None:
    assert metrics.chinese_f1("会议记录。", "会议记录！") == 1.0
    # Words: 总 投资 / 投资, precision 1/2, recall 1.
    assert metrics.chinese_f1("总投资", "投资") == pytest.approx(2 / 3)


def test_rouge_l() -> None:
    # Longest common subsequence "the ran" (2) of 3 words said and 4 wanted: 2 * 2/3 * 2/4 / (2/3 + 2/4).
    assert metrics.rouge_l("the dog ran", "the ferry never ran") == pytest.approx(4 / 7)
    # By sentences: both are found, in whatever order; a word counts once.
    assert metrics.rouge_l("boats came. it rained.", "it rained. boats came. boats came.") == pytest.approx(1.0)
    assert metrics.rouge_l("ran the ferry", "ferry the ran") == pytest.approx(1 / 3)
    assert metrics.rouge_l("", "x") == metrics.rouge_l("...", "x") == 0.0


def test_rouge_l_of_a_sentence_longer_than_any_stack() -> None:
    long = " ".join(f"w{number}" for number in range(1200))
    assert metrics.rouge_l(long, long) == pytest.approx(1.0)


def test_chinese_rouge_l() -> None:
    assert metrics.chinese_rouge_l("会议记录", "会议记录") == pytest.approx(1.0)
    # 投资 of two words said and one wanted: 2 * 1/2 * 1 / (1/2 + 1).
    assert metrics.chinese_rouge_l("总投资", "投资") == pytest.approx(2 / 3)


def test_classification() -> None:
    classes = ["Human", "Location", "Location city"]
    assert metrics.classification("I say: Human", "Human", classes) == 1.0
    assert metrics.classification("Human or Location", "Human", classes) == 0.5
    # "Location" is only a part of the right one.
    assert metrics.classification("Location city", "Location city", classes) == 1.0
    assert metrics.classification("Location city", "Human", classes) == 0.0


def test_numbers() -> None:
    assert metrics.number_share("There are 7.", "7") == 1.0
    assert metrics.number_share("7 or 8, or 17", "7") == pytest.approx(1 / 3)
    assert metrics.number_share("none", "7") == 0.0


def test_code() -> None:
    assert metrics.code_similarity("\n```python\n# the next line\nreturn total\nmore()", "return total") == 1.0
    line, wanted = "return totals", "return sum"
    assert metrics.code_similarity(line, wanted) == round(100 * SequenceMatcher(None, line, wanted).ratio()) / 100
    assert metrics.code_similarity("# nothing", "return total") == 0.0
    assert metrics.code_similarity("", "") == 1.0


def test_mrcr() -> None:
    assert metrics.prefixed_ratio("xK9the poem", "xK9the poem", "xK9") == 1.0
    # "poem" against "poet": 2 * 3 / 8.
    assert metrics.prefixed_ratio("xK9poem", "xK9poet", "xK9") == pytest.approx(0.75)
    assert metrics.prefixed_ratio(" xK9the poem", "xK9the poem", "xK9") == 0.0


def test_ruler() -> None:
    assert metrics.all_parts("They are ABC and\x02 12", ["abc", "12", "zz"]) == pytest.approx(2 / 3)
    assert metrics.any_part("It is Dunmere.", ["dunmere", "Saltcombe"]) == 1.0
    assert metrics.any_part("", ["dunmere"]) == metrics.all_parts("", ["dunmere"]) == 0.0
