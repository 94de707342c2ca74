"""The kinds of strings that have to be read to the letter: what each looks like and how it is told from words. Searches no text.

Patterns are matched where a token begins. All repetitions are bounded or can't fail behind themselves, so that no text takes long.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from glyph_pipeline.exactness.entropy import is_word, unguessable

Kind: TypeAlias = Literal["url", "email", "uuid", "hash", "key", "iban", "address", "version", "phone", "number", "isbn", "code"]
"""What a string is. ``address``: IP and MAC addresses. ``code``: letters and digits mixed, such as INV-2024-00931.

Paths of files are none: they are made of words, which are read right, and what else is in them is found by itself. Dates and times are
none: they stand in every line of a log, and are told in other forms than the source's, so a check of them would cry wolf.
"""

LATIN = "0-9A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u052f"
"""Letters and digits that hold a token together; Chinese characters stand between tokens, as spaces do."""

LONGEST = 2048
"""Characters: what is longer is data, which nobody asks for by name."""

CODE_BITS = 17.5
"""What a mixed token must have that can't be guessed: about five random digits or four random characters. See entropy.py."""

_END = rf"(?![{LATIN}])"
_ALONE = rf"(?![{LATIN}_]|[-.@/:][{LATIN}])"
_HEX = "0-9A-Fa-f"


@dataclass(frozen=True, slots=True)
class Look:
    """How one kind looks: the pattern of a token, and a test of what matched: its string without what is not part of it, or None."""

    kind: Kind | None
    pattern: re.Pattern[str]
    holds: Callable[[str], str | None]


# Characters of an IBAN by country, as the registry of ISO 13616 has them.
_IBAN_LENGTHS = {
    entry[:2]: int(entry[2:])
    for entry in [
        "AD24",
        "AE23",
        "AL28",
        "AT20",
        "AZ28",
        "BA20",
        "BE16",
        "BG22",
        "BH22",
        "BR29",
        "BY28",
        "CH21",
        "CR22",
        "CY28",
        "CZ24",
        "DE22",
        "DK18",
        "DO28",
        "EE20",
        "EG29",
        "ES24",
        "FI18",
        "FO18",
        "FR27",
        "GB22",
        "GE22",
        "GI23",
        "GL18",
        "GR27",
        "GT28",
        "HR21",
        "HU28",
        "IE22",
        "IL23",
        "IQ23",
        "IS26",
        "IT27",
        "JO30",
        "KW30",
        "KZ20",
        "LB28",
        "LC32",
        "LI21",
        "LT20",
        "LU20",
        "LV21",
        "LY25",
        "MC27",
        "MD24",
        "ME22",
        "MK19",
        "MR27",
        "MT31",
        "MU30",
        "NL18",
        "NO15",
        "PK24",
        "PL28",
        "PS29",
        "PT25",
        "QA29",
        "RO24",
        "RS22",
        "SA24",
        "SC31",
        "SD18",
        "SE24",
        "SI19",
        "SK24",
        "SM27",
        "ST25",
        "SV28",
        "TL23",
        "TN24",
        "TR26",
        "UA29",
        "VA22",
        "VG24",
        "XK20",
    ]
}


def _as_is(token: str) -> str | None:
    return token


def _url(token: str) -> str | None:
    token = token.rstrip(".,;:!?'*_~|\\")
    for left, right in ("()", "[]", "{}"):
        while token.endswith(right) and token.count(right) > token.count(left):
            token = token[:-1].rstrip(".,;:!?'*_")
        if token.count(left) < token.count(right):
            token = token[: token.index(right)]
    return token if len(token) > 8 else None


def _email(token: str) -> str | None:
    domain = token.rpartition("@")[2]
    if re.match(r"[0-9]x\.", domain):
        # A picture for a dense screen: logo@2x.png.
        return None
    return token if ".." not in token and not domain.replace(".", "").isdecimal() else None


def _ip4(token: str) -> str | None:
    octets = re.split(r"[:/]", token)[0].split(".")
    return token if all(int(octet) <= 255 and (octet == "0" or octet[0] != "0") for octet in octets) else None


def _ip6(token: str) -> str | None:
    plain = token.partition("/")[0]
    if not any(one.isdigit() for one in plain) or plain.count(":") < 3:
        return None
    try:
        ipaddress.IPv6Address(plain)
    except ValueError:
        return None
    return token


def _iban(token: str) -> str | None:
    """The head of the token that is as long as its country's numbers are and has the check digits of ISO 13616 right (mod 97)."""
    length = _IBAN_LENGTHS.get(token[:2])
    places = [place for place, one in enumerate(token) if one != " "]
    if length is None or len(places) < length:
        return None
    token = token[: places[length - 1] + 1]
    plain = token.replace(" ", "")
    whole = len(places) == length or places[length] > places[length - 1] + 1
    return token if whole and int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1 else None


def _isbn(token: str) -> str | None:
    plain = re.sub(r"[- ]", "", token).upper()
    if len(plain) == 13 and plain.isdecimal() and plain.startswith(("978", "979")):
        return token if sum(int(one) * (3 if place % 2 else 1) for place, one in enumerate(plain)) % 10 == 0 else None
    if len(plain) == 10 and plain[:9].isdecimal() and token.count("-") == 3:
        total = sum((10 - place) * (10 if one == "X" else int(one)) for place, one in enumerate(plain))
        return token if total % 11 == 0 else None
    return None


def _hash(token: str) -> str | None:
    digits = sum(one.isdigit() for one in token)
    if len(token) >= 16:
        return token if 0 < digits < len(token) else None
    changes = sum(one.isdigit() != other.isdigit() for one, other in pairwise(token))
    return token if 0 < digits < len(token) and (digits >= 2 or changes >= 2) and not re.fullmatch(r"[0-9]+[eE][0-9]+", token) else None


def _random(token: str) -> str | None:
    """Base64 and its likes: of all cases, far from words, and as many different characters as chance gives."""
    body = token.rstrip("=")
    kinds = sum(bool(re.search(one, body)) for one in ("[a-z]", "[A-Z]", "[0-9]"))
    if kinds < 3 and not (kinds == 2 and len(token) > len(body) and len(token) % 4 == 0):
        return None
    # Names made of words change between capitals, small letters and digits twice a word; chance does at three of five characters.
    classes = [one.isdigit() + 2 * one.isupper() for one in body if one.isalnum()]
    changes = sum(one != other for one, other in pairwise(classes))
    if unguessable(body) < 2.4 * len(body) and changes < 0.4 * len(body):
        return None
    counts = Counter(body)
    entropy = -sum(n / len(body) * math.log2(n / len(body)) for n in counts.values())
    return token if entropy >= min(3.5, 0.8 * math.log2(len(body))) else None


def _phone(token: str) -> str | None:
    token = token.rstrip(" -/.(")
    if token.count(")") != token.count("("):
        token = token.rstrip(")")
    digits = sum(one.isdigit() for one in token)
    return token if 7 <= digits <= 15 else None


def _number(token: str) -> str | None:
    mantissa = re.split("[eE]", token)[0]
    digits = [one for one in mantissa if one.isdigit()]
    return token if len(digits) >= 5 and set(digits) != {"0"} else None


def _groups(token: str) -> str | None:
    """Groups of digits with hyphens between them, as orders have them; a range of years is none."""
    if re.fullmatch(r"(?:1[5-9]|20)[0-9]{2}-(?:1[5-9]|20)?[0-9]{2}", token):
        return None
    return token if sum(one.isdigit() for one in token) >= 7 else None


def _code(token: str) -> str | None:
    if len(token) > LONGEST or not any(one.isdigit() for one in token):
        return None
    if token.count(".") > 2 or not any(one.isalpha() for one in token):
        return None
    stem = re.sub(r"\.[A-Za-z]{1,5}[0-9]?$", "", token)
    if re.fullmatch(r"[0-9]{1,5}x[0-9]{1,5}(?:x[0-9]{1,5})?", stem):
        return None
    bits = unguessable(stem)
    if re.fullmatch(r"[A-Z]{2,10}-[0-9]{4,}", stem) and bits > 0:
        return token
    if _SERIAL.fullmatch(stem) and any(not is_word(run) for run in re.findall("[A-Z]{4,}", stem)):
        return token
    pieces = [piece for piece in re.split(r"[-_.]", stem) if piece]
    words = sum(piece.isalpha() and len(piece) >= 3 for piece in pieces)
    # In a name of many words, a number or two mark a variant.
    return token if bits >= CODE_BITS + (0 if words < 3 else 4 * (words - 2)) else None


def _look(kind: Kind | None, pattern: str, holds: Callable[[str], str | None] = _as_is) -> Look:
    return Look(kind, re.compile(pattern), holds)


# Groups of capitals and digits, as licence keys and part numbers have them: told by a group of letters that is no word.
_SERIAL = re.compile(r"[A-Z0-9]{4,8}(?:-[A-Z0-9]{4,8}){1,7}")

_URL_CHARACTER = r"[^\s<>\"`^\\“”„‘’«»\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]"

_DATE = (
    r"(?:[12][0-9]{3}(?P<dash>[-/.])[01]?[0-9](?P=dash)[0-3]?[0-9]"
    r"|[0-3]?[0-9](?P<dot>[./])[01]?[0-9](?P=dot)[0-9]{4}|[0-3][0-9]\.[01][0-9]\.[0-9]{2}|[01]?[0-9]/[0-3]?[0-9]/(?:[0-9]{4}|[0-9]{2}))"
)
_TIME = r"[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"

LOOKS: tuple[Look, ...] = (
    _look("url", rf"(?:[A-Za-z][A-Za-z0-9+.-]{{1,19}}://|www\.){_URL_CHARACTER}{{3,{LONGEST}}}", _url),
    _look(
        "email",
        rf"[{LATIN}._%+-]{{1,64}}@(?:[{LATIN}](?:[{LATIN}-]{{0,62}}[{LATIN}])?\.){{1,8}}[A-Za-z\u00c0-\u024f]{{2,24}}{_END}",
        _email,
    ),
    _look("uuid", rf"[{_HEX}]{{8}}-[{_HEX}]{{4}}-[{_HEX}]{{4}}-[{_HEX}]{{4}}-[{_HEX}]{{12}}{_END}"),
    _look("hash", rf"(?:[sS][hH][aA]-?[0-9]{{1,3}}|[mM][dD]5|blake2[bs]|blake3)[:=-][{_HEX}]{{32,128}}{_END}"),
    _look("hash", rf"(?:SHA256|MD5):[A-Za-z0-9+/:]{{32,64}}={{0,2}}{_END}"),
    _look("hash", rf"[{_HEX}]{{2}}(?::[{_HEX}]{{2}}){{7,63}}{_END}"),
    _look("address", rf"[{_HEX}]{{2}}(?P<colon>[:-])[{_HEX}]{{2}}(?:(?P=colon)[{_HEX}]{{2}}){{4}}{_ALONE}"),
    _look("address", rf"[{_HEX}]{{4}}\.[{_HEX}]{{4}}\.[{_HEX}]{{4}}{_ALONE}"),
    _look(None, rf"{_DATE}(?:[T ]{_TIME})?(?![{LATIN}]|[-_][{LATIN}])"),
    _look(None, rf"{_TIME}(?![{LATIN}:]|-[{LATIN}])"),
    _look(None, rf"(?:19|20)[0-9]{{6}}T[0-9]{{6}}Z?{_END}"),
    _look("address", rf"[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}(?::[0-9]{{1,5}}|/[0-9]{{1,2}})?(?![{LATIN}]|[-.][{LATIN}])", _ip4),
    _look("address", rf"[{_HEX}]{{0,4}}(?::[{_HEX}]{{0,4}}){{2,7}}(?:/[0-9]{{1,3}})?(?![{LATIN}:])", _ip6),
    _look("iban", rf"[A-Z]{{2}}[0-9]{{2}}(?:[0-9A-Z]{{11,30}}|(?: [0-9A-Z]{{4}}){{2,7}}(?: [0-9A-Z]{{1,3}})?){_END}", _iban),
    _look("isbn", rf"97[89](?:[- ]?[0-9]){{10}}{_ALONE}|(?=[0-9-]{{12}}[0-9Xx])[0-9]{{1,5}}(?:-[0-9]{{1,7}}){{2}}-[0-9Xx]{_ALONE}", _isbn),
    _look("key", rf"eyJ[A-Za-z0-9_-]{{8,{LONGEST}}}\.[A-Za-z0-9_-]{{4,{LONGEST}}}(?:\.[A-Za-z0-9_-]{{4,{LONGEST}}})?{_END}"),
    _look(
        "key",
        rf"(?:sk|pk|rk|whsec|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abeoprs]|npm|pypi|hf|AIza|ya29|dop_v1|shp[a-z]{{2}}|SG)[-_.]?[A-Za-z0-9_.-]{{16,255}}{_END}",
        lambda token: token.rstrip("._-") if unguessable(token) >= 40 else None,
    ),
    _look("key", rf"(?:AKIA|ASIA|AROA|AIDA)[A-Z2-7]{{16}}{_END}"),
    _look(None, rf"(?<=#)(?:[{_HEX}]{{3}}|[{_HEX}]{{6}}|[{_HEX}]{{8}}){_ALONE}"),
    _look(None, rf"0(?:[bB][01]{{1,8}}|[oO]?[0-7]{{3,4}}|[xX][{_HEX}]{{1,4}}){_ALONE}"),
    _look("hash", rf"0x[{_HEX}]{{5,128}}{_END}"),
    _look("hash", rf"(?:[0-9a-f]{{7,128}}|[0-9A-F]{{7,128}})(?![{LATIN}_]|[-@:][{LATIN}])", _hash),
    _look(
        "version",
        rf"[vV][0-9]{{1,5}}(?:\.[0-9]{{1,6}}){{1,4}}(?:-?[A-Za-z]{{1,10}}(?:[.-]?[0-9]{{1,6}})?)?(?:\+[0-9A-Za-z.-]{{1,40}}(?<![.-]))?{_END}",
    ),
    _look(
        "version",
        r"[0-9]{1,5}(?:\.[0-9]{1,6}){2,4}"
        rf"(?:[-.]?(?:a|b|c|rc|alpha|beta|dev|post|pre|SNAPSHOT|RC|M|p|r|next|canary|nightly|el|ubuntu|deb)(?:[.-]?[0-9]{{1,8}})*)?(?:\+[0-9A-Za-z.-]{{1,40}}(?<![.-]))?{_END}(?![.,][0-9])",
    ),
    _look("phone", rf"\+(?=[^0-9]{{0,3}}(?:[0-9][^0-9]{{0,3}}){{7}})[1-9][0-9]{{0,3}}(?:[ ./-]?\(?[0-9]{{1,12}}\)?){{1,7}}{_END}", _phone),
    _look(
        "phone",
        rf"(?:\([0-9]{{2,5}}\)[ ]?[0-9]{{3,8}}(?:[ -][0-9]{{2,8}}){{0,3}}|[2-9][0-9]{{2}}[-.][0-9]{{3}}[-.][0-9]{{4}}|0[0-9]{{2,5}}[/-][0-9]{{3,9}}){_ALONE}",
        _phone,
    ),
    _look("number", rf"[0-9]{{1,3}}(?:[\u00a0\u202f\u2009 ][0-9]{{3}}){{1,6}}(?:[.,][0-9]{{1,6}})?{_ALONE}(?![ ][0-9])", _number),
    _look("number", rf"[0-9]{{1,3}}(?P<thousand>[,.'’])[0-9]{{3}}(?:(?P=thousand)[0-9]{{3}}){{0,8}}(?:[.,][0-9]{{1,8}})?{_ALONE}", _number),
    _look(
        "number",
        rf"(?=[0-9.,]{{5}})[0-9]{{1,255}}(?:[.,][0-9]{{1,40}})?(?:[eE][+-]?[0-9]{{1,3}})?(?=(?:ms|us|ns|s|px|kg|g|km|m|mm|[kKMGT]?i?B|kW|W|Hz|EUR|USD|u|U?L{{0,2}})?(?:{_ALONE}))",
        _number,
    ),
    _look("code", rf"[0-9]{{2,16}}(?:-[0-9]{{2,16}}){{1,6}}{_ALONE}", _groups),
    _look("key", rf"[A-Za-z0-9+/_-]{{20,{LONGEST}}}={{0,2}}(?![{LATIN}])", _random),
    _look("code", rf"(?=[A-Za-z0-9_.-]{{5}})[A-Za-z0-9]{{1,{LONGEST}}}(?:[-_.]{{1,2}}[A-Za-z0-9]{{1,255}}){{0,40}}{_END}", _code),
)
"""Every kind's looks, the more telling ones first; those of no kind are dates, times, colours and small numbers of programs."""

ANY = re.compile("|".join(f"(?:{look.pattern.pattern})" for look in LOOKS))
"""Where this does not match, no look does."""
