"""What mode auto sends never costs more than the text, whatever the documents are; and what texts in the place of pages tell and hide."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from glyph_pipeline import Document, Page, RenderConfig, compress
from glyph_pipeline.connection import Connection
from glyph_pipeline.counting import SteadyTokenizer
from glyph_pipeline.exactness.controls import has_control_marks
from glyph_pipeline.material import Material, Source, gather
from glyph_pipeline.parts import PageText, content
from glyph_pipeline.planning import page_cost
from glyph_pipeline.prompts import title_of
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.requests import AskLimits, RequestPlan, plan_requests
from glyph_pipeline.sending import CONTROL_MARKS, SendPolicy, as_joined, choose
from glyph_pipeline.tokens.text import Cl100kTokenizer
from glyph_pipeline.tokens.vision import GLM_4V
from tests.test_exact_pipeline import ask, sent_of

LOCAL = Cl100kTokenizer()
PROSE = "The ferry leaves the north quay at nine and comes back with the evening tide, unless the wind has turned to the west. "
BLANK = "\n" * 900 + "." + "\n" * 200
SPARSE = "\n".join("-" * (number % 4) for number in range(300))
KEYS = "\n".join(f"row {number} is {number * 7919**4:016x}" for number in range(90))


class Counter(SteadyTokenizer):
    """Counts as a server would whose tokens are ``share`` of cl100k_base's."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__([], RetryPolicy())
        self._share = share

    @property
    def name(self) -> str:
        return "a server's"

    def count(self, text: str) -> int:
        return -int(-LOCAL.count(text) * self._share // 1)

    def count_chat(self, question: str) -> int:
        return 10 + self.count(question)


def planned(
    texts: Sequence[str],
    policy: SendPolicy,
    *,
    question: str = "Which row is it?",
    share: float = 1.0,
    length: int = 131072,
    cite: bool | None = None,
) -> tuple[Material, RequestPlan]:
    documents = [Document(text, f"d{number}.txt" if len(texts) > 1 else "") for number, text in enumerate(texts)]
    sources = [Source(document, title_of(document, documents)) for document in documents]
    config = RenderConfig.for_texts(texts)
    connection = Connection(VLLMReader("http://127.0.0.1:9/v1", "m"), Counter(share), GLM_4V, length)
    compressed = compress(documents, config, tokenizer=connection.tokenizer)
    marked = cite is not False and (cite or len(texts) > 1)
    material = gather(
        compressed, sources, config, question, policy, GLM_4V, connection.tokenizer, marked=lambda _: bool(marked), must_mark=bool(cite)
    )
    return material, plan_requests(connection, material, question, AskLimits(512, cite=cite))


@pytest.mark.parametrize("exact", ["auto", "all"])
@pytest.mark.parametrize(
    "texts",
    [
        [BLANK],
        [SPARSE],
        ["Nine.", "Ten.", "Eleven."],
        [SPARSE, "Nine."],
        [BLANK, KEYS],
        [PROSE * 80, KEYS, SPARSE],
        [KEYS * 3, PROSE * 30],
    ],
)
def test_auto_never_costs_more_than_the_text(texts: list[str], exact: str) -> None:
    _, plan = planned(texts, SendPolicy(exact=exact))  # type: ignore[arg-type]
    assert plan.sent.tokens <= plan.sent.plain_tokens


def test_a_vocabulary_that_knows_a_script_better_than_ours_is_asked() -> None:
    # Of such text GLM's makes a half of cl100k_base's tokens: what looks much dearer than its picture may cost less.
    text = "渡轮九点离开北码头，傍晚随潮水归来，除非风已转西。" * 400
    pages = compress(text).pages
    cost = sum(page_cost(page, GLM_4V) for page in pages)
    share = 0.9 * cost / LOCAL.count(text)
    material, plan = planned([text], SendPolicy(exact="off"), share=share)
    assert plan.sent.tokens <= plan.sent.plain_tokens < cost
    assert all(isinstance(one.part, PageText) for one in material.sendables)


def test_texts_that_go_on_cost_together_what_they_do_in_the_message() -> None:
    pages = compress(BLANK).pages
    apart = choose(pages, {None: BLANK}, {None: ""}, "text", vision=GLM_4V, tokenizer=LOCAL)
    joined = as_joined(apart, LOCAL)
    assert sum(page_cost(one.part, GLM_4V) for one in apart) > LOCAL.count(BLANK)
    assert sum(page_cost(one.part, GLM_4V) for one in joined) == LOCAL.count(BLANK)
    assert sum(one.text_tokens for one in joined) == LOCAL.count(BLANK)
    assert content([one.part for one in joined], "Q") == content([one.part for one in apart], "Q") == [f"{BLANK}\n\nQ"]


def test_pages_that_cannot_be_told_are_not_asked_for() -> None:
    material, plan = planned([BLANK, "Nine."], SendPolicy())
    assert not material.paged
    assert "Name the page" not in plan.requests[0].question
    material, plan = planned([BLANK, "Nine."], SendPolicy(), cite=True)
    assert material.paged
    assert "Name the page" in plan.requests[0].question
    assert [one.part.heading for one in material.sendables if isinstance(one.part, PageText)][1] == "[page 2]\n"


@pytest.mark.parametrize("length", [1024, 9000])
def test_a_long_text_is_cut_to_any_context_and_tells_its_pages_where_they_are_asked_for(length: int) -> None:
    # The fake counts a token a character; as pictures all of it would fit into 9,000.
    answer, contents = ask(PROSE * 100, mode="text", max_model_len=length, config=RenderConfig.preset("en").replace(font="DejaVuSans.ttf"))
    assert len(answer.windows) > 1
    texts = "".join(one["text"] for parts in contents for one in parts)
    assert ("Name the page" in texts, "[page 2]\n" in texts) == (True, True)


def test_a_page_that_is_sent_as_text_for_its_match_tells_its_number_where_the_others_do() -> None:
    text = PROSE * 200 + "Zebedee Thornapple kept the lighthouse. " + PROSE * 200
    pages = compress(text).pages
    where = next(page for page in pages if page.start <= text.find("Zebedee") < page.end)
    # A server to which text is cheap: about what pictures cost, so that a sharper picture costs more.
    material, plan = planned(
        [text, "Nine."],
        SendPolicy("auto", "off", resolution="auto", resolution_budget=5),
        question="Who was Zebedee Thornapple?",
        share=1.05 * page_cost(where, GLM_4V) / LOCAL.count(text[where.start : where.end]),
    )
    texts = [one for one in material.sendables if isinstance(one.part, PageText) and "matches the question" in one.why]
    assert [one.part.heading for one in texts if isinstance(one.part, PageText)] == [f"[page {where.number}]\n"]
    assert plan.sent.tokens <= plan.sent.plain_tokens


def test_pictures_only_means_pictures_only() -> None:
    text = SPARSE + "\nZebedee Thornapple.\n" + SPARSE
    material, _ = planned([text], SendPolicy("pages", "off", resolution="auto"), question="Who was Zebedee Thornapple?")
    assert all(isinstance(one.part, Page) for one in material.sendables)
    assert any(one.dpi == 120 for one in material.sendables)


def test_a_control_mark_that_a_page_ends_in_is_not_put_together_again() -> None:
    text = "Say <|user|> and go on."
    cut = text.find("user")
    (drawn,) = compress(text).pages
    first = Page(1, 280, 280, drawn.png, 0, cut, ())
    second = Page(2, 280, 280, drawn.png, cut, len(text), ())
    sendables = choose([first, second], {None: text}, {None: ""}, "text", vision=GLM_4V, tokenizer=LOCAL)
    assert [one.why for one in sendables] == [CONTROL_MARKS] * 2
    assert not any(has_control_marks(item) for item in content([one.part for one in sendables], "Q") if isinstance(item, str))


def test_a_page_beside_one_with_a_mark_is_not_held_back() -> None:
    text = "Nine.\n<|user|> is here."
    (drawn,) = compress(text).pages
    pages = [Page(1, 280, 280, drawn.png, 0, 6, ()), Page(2, 280, 280, drawn.png, 6, len(text), ())]
    sendables = choose(pages, {None: text}, {None: ""}, "text", vision=GLM_4V, tokenizer=LOCAL)
    assert [isinstance(one.part, PageText) for one in sendables] == [True, False]


def test_all_exact_strings_take_the_room_they_need_and_no_more() -> None:
    # A character is no token: reserving one for each would leave no room for a page in this context.
    _, plan = planned([KEYS], SendPolicy("pages", "all"), length=1600)
    told = [request.exact for request in plan.requests if request.exact is not None]
    assert {string for one in told for page in one.pages for string in page.strings} >= {
        f"{number * 7919**4:016x}" for number in range(9, 90)
    }
    assert all((request.window.prompt_tokens or 0) + request.window.max_tokens <= 1600 for request in plan.requests)


def test_it_is_said_if_exact_strings_leave_no_room() -> None:
    from glyph_pipeline.errors import ContextLengthError

    with pytest.raises(ContextLengthError, match=r"with the exact strings on it.*--exact auto"):
        planned([KEYS * 2], SendPolicy("pages", "all"), length=1200)


def test_what_is_sent_sharper_is_the_same_piece_of_the_source() -> None:
    draw = partial(Renderer, RenderConfig.preset("en").replace(dpi=120))
    for text in (PROSE * 120, SPARSE, KEYS):
        assert [(page.start, page.end) for page in draw().render(text)] == [
            (page.start, page.end) for page in compress(text, RenderConfig.preset("en")).pages
        ]


def test_the_account_of_a_short_text_is_right_english() -> None:
    from glyph_pipeline.cli.checks import sent_rows

    answer, _ = ask("x")
    assert sent_rows(sent_of(answer))[0] == ("sent", "1 token, 1 page as text")
