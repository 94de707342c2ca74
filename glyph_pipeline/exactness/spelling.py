"""Spelling: what of an exact string's writing means something, by kind: case, hyphens, blanks, separators of thousands. Searches nothing."""

from __future__ import annotations

import re

from glyph_pipeline.exactness.kinds import Kind

CASELESS: frozenset[Kind] = frozenset({"uuid", "hash", "iban", "address", "isbn"})
"""Kinds in which upper and lower case mean the same."""

_HYPHENS = re.compile("[\\s\\-\u2010-\u2015\u2212]+")
_BLANKS = re.compile(r"\s+")


def same(text: str, kind: Kind) -> str:
    """What two strings have in common that mean the same: blanks, hyphens, and case where it means nothing, are dropped.

    A number keeps its digits and its decimal point; thousands are told by groups of three. An e-mail address keeps the case of what is
    before the @, as RFC 5321 has it.
    """
    if kind == "number":
        return _number(text)
    if kind == "phone":
        return re.sub(r"[^0-9+]", "", text)
    if kind == "email":
        local, _, domain = text.rpartition("@")
        return f"{local}@{domain.lower()}"
    if kind == "url":
        return text.rstrip("/")
    plain = _HYPHENS.sub("", text)
    if kind == "address":
        plain = _BLANKS.sub("", text)
    return plain.lower() if kind in CASELESS else plain


def folded(text: str, kind: Kind) -> str:
    """What is compared in search of near spellings: without blanks, and in lower case where case means nothing."""
    plain = _BLANKS.sub("", text)
    return plain.lower() if kind in CASELESS else plain


def _number(text: str) -> str:
    plain = re.sub(r"(?<=[0-9])[\s'’](?=[0-9])", "", text)
    mark = max(plain.rfind("."), plain.rfind(","))
    whole, fraction = plain, ""
    if mark >= 0:
        tail, kinds = plain[mark + 1 :], {one for one in plain if one in ".,"}
        alone = plain.count(".") + plain.count(",") == 1
        if len(kinds) == 2 or (alone and not (len(tail) == 3 and 1 <= mark <= 3 and plain[0] != "0")):
            whole, fraction = plain[:mark], tail
    whole = re.sub("[.,]", "", whole)
    if fraction.isdecimal():
        fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole
