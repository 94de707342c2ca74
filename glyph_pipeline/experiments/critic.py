"""Critic: a language model that is shown what a search has found and says what to try next. Knows no optimiser and no document.

It is told configurations and numbers, nothing of the text that is drawn. What it says is only a proposal: the search checks it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glyph_pipeline.background import run
from glyph_pipeline.errors import ReadError
from glyph_pipeline.experiments.space import Space
from glyph_pipeline.reading.reader import ReadResult
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.serving import GlyphServer, normalize_base_url

PROPOSALS = 4
_READ_TIMEOUT_S = 600.0
# A search that waits is a search that does nothing: what does not answer soon is done without.
_RETRY_BUDGET_S = 20.0

# Brackets in brackets that are no proposal any more.
_TOO_DEEP = 100

_INSTRUCTIONS = """\
A text is drawn as page images with the configuration keys under "space"; a reader then reads the pages. "ratio" is the number of text \
tokens for each image token and should rise; "error" is the share that is read wrong and should fall. "preset" holds the values in use \
without any change, "front" the trials that no other trial beats in both numbers, "recent" the last trials.

Propose up to {count} new configurations that may lie beyond the front. Write only a JSON list of objects; each object holds the keys \
that differ from the preset, with values from "space". Do not repeat a trial.

{data}
"""


class _Plain(Sampling):
    """What every OpenAI-compatible server takes: none of vLLM's own fields, none of Glyph's token ids."""

    def extra_body(self) -> dict[str, Any]:
        """Nothing."""
        return {}


@dataclass(frozen=True, slots=True)
class Said:
    """A critic's reply: the objects it proposed, as they came, and all its words."""

    proposals: tuple[Mapping[str, Any], ...]
    text: str
    reasoning: str


class Critic:
    """A model at an OpenAI-compatible URL that ends in ``/v1``; ``model`` None: the one served there.

    Requests are those of VLLMReader: to that URL only, no redirects, no header about this machine, no key but ``api_key``.
    Raises ConfigError for a URL or a key that can't be used.
    """

    def __init__(self, url: str, model: str | None = None, *, api_key: str | None = None, max_tokens: int = 8192) -> None:
        self.url = normalize_base_url(url)
        self._model = model
        self._api_key = api_key
        self._max_tokens = max_tokens
        self._reader: VLLMReader | None = None
        self._made("any")  # what is wrong with URL or key is known before the search begins

    @property
    def model(self) -> str | None:
        """The model's name; None if it was not given and nobody was asked yet."""
        return self._reader.model if self._reader else self._model

    def ask(self, prompt: str) -> Said:
        """Have the model propose. Blocks. Raises ServerError, ReadError, ContextLengthError if it can't be had."""
        if self._reader is None:
            self._reader = self._made(self._model or GlyphServer.adopt(self.url, api_key=self._api_key).model)
        reader = self._reader

        async def reply() -> ReadResult:
            try:
                async for event in reader.read([], prompt):
                    if isinstance(event, ReadResult):
                        return event
            finally:
                await reader.aclose()
            raise ReadError("The critic ended without a reply.")  # pragma: no cover - readers end with one

        said = run(reply)
        # A reply that was cut off, or that a server took for reasoning as a whole, may still hold its list.
        found = proposals(said.text) or proposals(said.reasoning)
        return Said(tuple(found), said.text, said.reasoning)

    def _made(self, model: str) -> VLLMReader:
        return VLLMReader(
            self.url,
            model,
            api_key=self._api_key,
            sampling=_Plain(max_tokens=self._max_tokens),
            read_timeout=_READ_TIMEOUT_S,
            retry=RetryPolicy(budget=_RETRY_BUDGET_S),
        )


def prompt(space: Space, front: Sequence[Mapping[str, Any]], recent: Sequence[Mapping[str, Any]]) -> str:
    """The words to a critic: the space, the trials of the front and the last ones, each with ``changes``, ``ratio`` and ``error``."""
    own = space.own()
    data = {
        "space": {key: _values(space, key) for key in space.axes},
        "preset": {key: own[key] for key in space.axes},
        "front": [_shown(trial) for trial in front],
        "recent": [_shown(trial) for trial in recent],
    }
    return _INSTRUCTIONS.format(count=PROPOSALS, data=json.dumps(data, ensure_ascii=False))


def proposals(text: str) -> list[dict[str, Any]]:
    """The objects of the last JSON list of objects in a text, whatever stands around it; else its last object; [] without either."""
    decoder = json.JSONDecoder()
    lists: list[list[dict[str, Any]]] = []
    alone: list[dict[str, Any]] = []
    place = 0
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place) if text[place] in "[{" else (None, place + 1)
        except ValueError:
            place += 1
            continue
        except RecursionError:  # brackets without end: trying each of them would take minutes
            place += _TOO_DEEP
            continue
        inner = [_objects(each) for each in value.values()] if isinstance(value, dict) else [_objects(value)]
        found = [objects for objects in inner if objects]
        lists += found
        alone += [value] if isinstance(value, dict) and value and not found else []
    return lists[-1] if lists else alone[-1:]


def _objects(value: Any) -> list[dict[str, Any]]:
    """What a list holds of objects with something in them."""
    return [each for each in value if isinstance(each, dict) and each] if isinstance(value, list) else []


def _values(space: Space, key: str) -> Any:
    values, step = space.axes[key], space.step(key)
    return list(values) if step is None else {"from": values[0], "to": values[-1], "step": step}


def _shown(trial: Mapping[str, Any]) -> dict[str, Any]:
    return {key: trial[key] for key in ("changes", "ratio", "error")}
