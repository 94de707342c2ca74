"""Sampling: how the model is asked to generate. Values only."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Sampling(BaseModel):
    """The reference sampling of Glyph's own inference script; greedy in all but name.

    ``max_tokens`` bounds reasoning and answer together. ``top_k``, ``repetition_penalty``, ``skip_special_tokens`` and
    ``stop_token_ids`` are vLLM's extensions of the OpenAI API.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0001
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 1
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = 1.1
    max_tokens: Annotated[int, Field(ge=1)] = 8192
    skip_special_tokens: bool = False
    # As the script has them; 151329 is <|endoftext|>, 151336 <|user|> in GLM-4's vocabulary.
    stop_token_ids: tuple[int, ...] = (151329, 151348, 151336)

    def extra_body(self) -> dict[str, Any]:
        """The fields that only vLLM knows, for the OpenAI SDK's ``extra_body``."""
        return {
            "top_k": self.top_k,
            "repetition_penalty": self.repetition_penalty,
            "skip_special_tokens": self.skip_special_tokens,
            "stop_token_ids": list(self.stop_token_ids),
        }
