"""What is sent for a question: text where that costs less, exact strings beside pictures, sharper pages, all of it predicted to the token."""

from __future__ import annotations

import base64
import io
import json
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from glyph_pipeline import Document, GlyphPipeline, RenderConfig, render
from glyph_pipeline.answer import Answer
from glyph_pipeline.experiments.evaluation.filler import sentences
from glyph_pipeline.report import Sent
from tests.support.fake_openai import Fake, Handler, running, says

EN = RenderConfig.preset("en").replace(font="DejaVuSans.ttf")
KEYS = [str(uuid.UUID(int=random.Random(7).getrandbits(128) + number * 7919**9, version=4)) for number in range(40)]
Request = Callable[[Handler, dict[str, Any]], None]


def prose(words: int, seed: str = "a") -> str:
    text, source = "", sentences(seed)
    while len(text) < words * 6:
        text += next(source)
    return text


def with_keys(sentences_between: int = 12, keys: int = 20) -> str:
    source = sentences("keys")
    parts = []
    for number in range(keys):
        parts += [next(source) for _ in range(sentences_between)]
        parts.append(f"The session key of ship number {number} named {chr(65 + number)}oria is {KEYS[number]}. ")
    return "".join(parts)


def counting(reply: str = "<answer>Yes.") -> Request:
    """A reply with the usage that the fake's arithmetic makes of what it was sent: a token a character, pictures by their size."""
    from glyph_pipeline.tokens.vision import GLM_4V

    def answer(handler: Handler, body: dict[str, Any]) -> None:
        tokens = 20
        for part in body["messages"][0]["content"]:
            if part["type"] == "text":
                tokens += len(part["text"])
            else:
                tokens += GLM_4V.tokens(*size(part)) + 2
        handler.stream(
            [{"reasoning": "Hm."}, {"content": reply}], usage={"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": 0}
        )

    return answer


def size(part: dict[str, Any]) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))).size


def ask(text: Any, question: str = "When?", **options: Any) -> tuple[Answer, list[list[dict[str, Any]]]]:
    fake = Fake(counting(), max_model_len=options.pop("max_model_len", 131072))
    with running(fake):
        answer = GlyphPipeline(fake.base_url, config=options.pop("config", EN), **options).ask(text, question)
    predicted = [request.predicted_prompt_tokens for request in (*answer.windows, *answer.merges)]
    assert predicted == [request.usage.prompt_tokens for request in (*answer.windows, *answer.merges)]
    return answer, [body["messages"][0]["content"] for body in fake.requests]


def sent_of(answer: Answer) -> Sent:
    assert answer.report.sent is not None
    return answer.report.sent


def test_a_short_text_is_one_text_part_and_costs_its_tokens() -> None:
    answer, [content] = ask("Nine.")
    assert content == [{"type": "text", "text": "Nine.\n\nWhen?"}]
    sent = sent_of(answer)
    assert (sent.mode, sent.tokens, sent.plain_tokens, sent.pages_as_text) == ("auto", 5, 5, 1)
    (run,) = sent.runs
    assert (run.how, run.why, run.first_page, run.last_page) == ("text", "text costs less", 1, 1)
    assert json.loads(json.dumps(answer.to_dict()))["report"]["sent"]["ratio"] == 1.0


def test_pictures_alone_if_they_are_asked_for() -> None:
    answer, [content] = ask("Nine.", mode="pages")
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert sent_of(answer).runs[0].why == "pictures were asked for"


def test_a_long_text_as_text_goes_into_windows_whose_pieces_are_all_of_it() -> None:
    text = prose(3000)
    answer, contents = ask(text, mode="text", max_model_len=9000, cite=False)
    windows = [content[0]["text"] for content in contents if "The text is that of" in content[0]["text"]]
    assert len(windows) == len(answer.windows) > 1
    assert "".join(sorted((window.partition("\n\nWhen?")[0] for window in windows), key=text.find)) == text
    assert all(len(content) == 1 for content in contents)
    assert answer.windows[0].label == "pages 1-1" or answer.windows[0].label.startswith("page")
    assert sent_of(answer).picture_tokens == 0


def test_documents_keep_their_order_and_names_as_pictures_and_as_text() -> None:
    documents = [Document("Nine.", "note.txt"), Document(prose(1500), "book.txt"), Document("Ten.", "last.txt")]
    answer, [content] = ask(documents, config=EN.replace(auto_crop_width=False, auto_crop_last_page=False))
    kinds = [part["type"] for part in content]
    assert kinds == ["text", *["image_url"] * (len(kinds) - 2), "text"]
    assert content[0]["text"] == "=== note.txt ===\nNine."
    assert "\n\n=== last.txt ===\nTen.\n\nWhen?\n\nImages and texts are, in this order: note.txt page 1 as text; " in content[-1]["text"]
    ways = [(run.document, run.how) for run in sent_of(answer).runs]
    # What is on the book's last page is less than a picture of it.
    assert ways == [("note.txt", "text"), ("book.txt", "pages"), ("book.txt", "text"), ("last.txt", "text")]


def test_exact_strings_stand_behind_the_pictures_those_near_the_question_first() -> None:
    text = with_keys(40)
    answer, [content] = ask(text, "What is the session key of ship number 7 named Horia?")
    listed = content[-1]["text"].partition("\n\nWhat is")[0]
    sent = sent_of(answer)
    assert KEYS[7] in listed
    assert KEYS[0] not in listed  # the budget has no room for all
    assert sent.exact_tokens == len(listed) <= max(64, 0.03 * sent.picture_tokens)
    assert 0 < sent.exact_strings < 20
    without, [alone] = ask(text, "What is the session key of ship number 7 named Horia?", exact="off")
    assert alone[-1]["text"] == "What is the session key of ship number 7 named Horia?"
    assert sent_of(without).exact_tokens == 0
    assert alone[:-1] == content[:-1]


def test_all_of_them_where_that_is_asked_for() -> None:
    answer, [content] = ask(with_keys(), exact="all", mode="pages")
    assert all(key in content[-1]["text"] for key in KEYS[:20])
    assert sent_of(answer).exact_strings >= 20


def test_a_window_is_told_of_its_own_pages() -> None:
    text = with_keys(40)
    answer, contents = ask(text, "Which keys are there?", exact="all", mode="pages", max_model_len=3500)
    assert len(answer.windows) > 1
    for window, content in zip(
        answer.windows, sorted((c for c in contents if len(c) > 1), key=lambda c: text.find(first_key(c))), strict=True
    ):
        pages = list(render(text, EN))[window.first_page - 1 : window.last_page]
        here = [key for key in KEYS[:20] if any(page.start <= text.find(key) < page.end for page in pages)]
        assert [key for key in KEYS[:20] if key in content[-1]["text"]] == here


def first_key(content: list[dict[str, Any]]) -> str:
    return min((key for key in KEYS[:20] if key in content[-1]["text"]), key=content[-1]["text"].find, default="")


def test_what_costs_more_than_the_text_is_never_sent() -> None:
    # Nothing but identifiers: a list of all of them beside the pictures would be the text again.
    text = " ".join(KEYS)
    answer, _ = ask(text, exact="all")
    sent = sent_of(answer)
    assert sent.tokens <= sent.plain_tokens
    assert {run.why for run in sent.runs} == {"with all exact strings pictures would cost more than the text"}


def test_pages_that_match_are_drawn_sharper_or_sent_as_text_in_their_place() -> None:
    text = prose(9000) + "The lighthouse keeper of Pellworth was called Zebedee Thornapple and slept in the tower. " + prose(6000, "b")
    plain, [uniform] = ask(text, "Who was the lighthouse keeper Zebedee Thornapple?")
    answer, [content] = ask(text, "Who was the lighthouse keeper Zebedee Thornapple?", resolution="auto")
    assert len(content) == len(uniform)
    changed = [place for place, (a, b) in enumerate(zip(uniform, content, strict=True)) if a != b]
    where = next(page.number for page in render(text, EN) if page.start <= text.find("Zebedee") < page.end)
    assert where - 1 in changed
    before, after = size(uniform[where - 1]), size(content[where - 1])
    assert after[0] == pytest.approx(before[0] * 120 / 72, rel=0.02)
    assert sent_of(answer).picture_tokens <= 1.2 * sent_of(plain).picture_tokens + 100
    sharp = [run for run in sent_of(answer).runs if run.dpi == 120]
    assert where in {number for run in sharp for number in range(run.first_page, run.last_page + 1)}
    assert sharp[0].why == "matches the question: drawn sharper"


def test_secrets_are_kept_out() -> None:
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    text = prose(6000) + f"The order number is ZK-48213-77 and the token is {secret}. " + prose(6000, "b")
    _, [content] = ask(text, "What is the token? What is the order number?")
    assert secret in content[-1]["text"]
    _, [content] = ask(text, "What is the token? What is the order number?", redact=True)
    assert secret not in content[-1]["text"]
    assert "ZK-48213-77" in content[-1]["text"]
    # Nor is one that was misread spelled out in what is said of the answer.
    said = answered(text, f"It is {secret[:-1]}x.", redact=True, repair=True)
    assert secret not in json.dumps(said.to_dict())
    assert [check.status for check in said.checks] == ["unknown"]
    assert answered(text, f"It is {secret[:-1]}x.", repair=True).text == f"It is {secret}."


def answered(text: str, reply: str, **options: Any) -> Answer:
    with running(Fake(says([{"content": f"<answer>{reply}"}]))) as fake:
        return GlyphPipeline(fake.base_url, config=EN, **options).ask(text, "Which key?")


def test_checks_say_what_is_in_the_text_and_what_was_probably_misread() -> None:
    text = with_keys()
    wrong = KEYS[3][:5] + ("0" if KEYS[3][5] != "0" else "8") + KEYS[3][6:]
    answer = answered(text, f"It is {wrong}, not {KEYS[4]}, nor 99887766554433.")
    checks = {check.string: check for check in answer.checks}
    place = next(page.number for page in render(text, EN) if page.start <= text.find(KEYS[4]) < page.end)
    assert (checks[KEYS[4]].status, checks[KEYS[4]].page, checks[KEYS[4]].offset) == ("found", place, text.find(KEYS[4]))
    assert (checks[wrong].status, checks[wrong].source) == ("misread", KEYS[3])
    assert checks["99887766554433"].status == "unknown"
    assert all(answer.text[check.start : check.end] == check.string for check in answer.checks)
    assert json.loads(json.dumps(answer.to_dict()))["checks"][0]["status"] == "misread"


def test_repair_puts_it_right() -> None:
    wrong = KEYS[3][:5] + ("0" if KEYS[3][5] != "0" else "8") + KEYS[3][6:]
    answer = answered(with_keys(), f"It is {wrong}.", repair=True)
    assert answer.text == f"It is {KEYS[3]}."
    (check,) = answer.checks
    assert (check.status, check.repaired, check.source, answer.text[check.start : check.end]) == ("misread", True, KEYS[3], KEYS[3])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_sends_what_a_single_question_sends(workers: int) -> None:
    text = with_keys()
    alone, [content] = ask(text, "Which keys are there?")
    fake = Fake(counting())
    with running(fake):
        (result,) = GlyphPipeline(fake.base_url, config=EN).ask_many([(text, "Which keys are there?")], workers=workers)
    assert fake.requests[0]["messages"][0]["content"] == content
    assert result.answer is not None
    assert result.answer.report == alone.report
