"""Control marks: whether a text holds marks that chat templates are made of, which a server may take for its own. Knows no template."""

from __future__ import annotations

import re

# GLM-4.1V's added tokens (<|user|>, [gMASK], <sop>, <think>, <answer> ...), and those of the other families that readers may serve.
_MARK = re.compile(
    r"<\|[^|<>\n]{1,64}\|>|<[|｜][^|｜<>\n]{1,64}[|｜]>"
    r"|\[(?:g|s)?MASK\]|\[/?INST\]|<</?SYS>>"
    r"|</?s>|<(?:sop|eop|bos|eos|pad|unk|image|video|start_of_turn|end_of_turn|start_of_image|end_of_image)>|</?(?:think|answer|tool_call)>"
)


def harmless(name: str) -> str:
    """A name with nothing in it that a server takes for a token of its own."""
    return re.sub(r"[<>|｜\[\]]", "_", name) if has_control_marks(name) else name


def has_control_marks(text: str) -> bool:
    """Whether a text holds a mark such as ``<|user|>``, ``[gMASK]``, ``<sop>`` or ``</s>``: sent as text, it might end a message."""
    return _MARK.search(text) is not None
