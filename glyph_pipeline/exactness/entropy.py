"""How much of a token can't be guessed, in bits: words count nothing, digits and single letters do. Knows no kinds of strings."""

from __future__ import annotations

import re

DIGIT_BITS = 3.32
"""log2 of 10."""

LETTER_BITS = 4.7
"""log2 of 26."""

YEAR_BITS = 7.0
"""Of a year: one of about 130."""

# Of a piece of letters and digits that nobody makes a name of: two and two.
_MIXED_BITS = 16.0

_PIECE = re.compile(r"[^\W_]+")
_RUN = re.compile(r"[0-9]+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]|[^\W\d_]")
_VERSION = re.compile(r"[vV][0-9]{1,2}")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_VOWEL = re.compile(r"[aeiouyAEIOUY]")
_CROWD = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}", re.IGNORECASE)
# A measure: digits with their unit behind them, as in 12px, 100MB and 3x.
_QUANTITY = re.compile(
    r"[0-9]+(?:[kKMGT]?(?:[bB]|iB|bit|Hz|W|V|A|m|g|s|l|L|J|N|Pa|bps)|[munpcdkM](?:s|m|g|l|L|A|V|W|M)|km|mm|cm|kg|px|em|rem|pt|dpi|fps|min|h|d|x|k|K|M"
    r"|st|nd|rd|th|am|pm|er|bp|C|F|N|E|S|D|G|p|nm|ml|rpm|ppm|kB|Mbps|Gbps|years?|days?|hours?|ax|ac)"
)
# Names of techniques that nobody misreads for another: their letters and digits are one word.
_NAMES = frozenset(
    [
        "x86",
        "amd64",
        "arm64",
        "arm64v8",
        "v8a",
        "utf8mb4",
        "h264",
        "h265",
        "base64",
        "base32",
        "sha1",
        "sha256",
        "sha512",
        "md5",
        "sha256sum",
        "sha512sum",
        "sha1sum",
        "md5sum",
        "ipv4",
        "ipv6",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "bfloat16",
        "http2",
        "http3",
        "oauth2",
        "log4j",
        "log4j2",
        "win32",
        "win64",
        "es2015",
        "es2020",
        "rfc4648",
        "k8s",
        "i18n",
        "l10n",
        "a11y",
        "p2p",
        "b2b",
        "b2c",
        "e2e",
        "h2o",
        "co2",
    ]
)
_STANDARDS = frozenset(
    [
        "RFC",
        "ISO",
        "IEC",
        "IEEE",
        "DIN",
        "EN",
        "PEP",
        "BS",
        "ANSI",
        "UTF",
        "HTTP",
        "SHA",
        "AES",
        "RSA",
        "WINDOWS",
        "FIPS",
        "GB",
        "FY",
        "CAS",
        "IP",
        "RJ",
        "CP",
        "EC",
    ]
)


def unguessable(token: str) -> float:
    """The bits of a token that a reader can't guess from what words and common abbreviations look like."""
    pieces: list[str] = _PIECE.findall(token)
    bits = 0.0
    standard = False
    capitals = 0
    mixed = False
    for piece in pieces:
        own = _piece_bits(piece, standard)
        bits += own
        standard = piece.upper() in _STANDARDS
        if piece.isalpha() and piece.isupper() and 2 < len(piece) <= 5:
            capitals += len(piece)
        mixed = mixed or (own > _MIXED_BITS and not piece.isdecimal())
    # Beside a piece drawn by lot, capitals are no abbreviation: X6EQ-ITUAH.
    return bits + LETTER_BITS * capitals if mixed else bits


def is_word(letters: str) -> bool:
    """Whether a run of letters may be a word: three or more, with a vowel, without a crowd of consonants."""
    return len(letters) >= 3 and _VOWEL.search(letters) is not None and _CROWD.search(letters) is None


def _piece_bits(piece: str, after_standard: bool) -> float:
    if piece.lower() in _NAMES or _QUANTITY.fullmatch(piece) or _VERSION.fullmatch(piece):
        return 0.0
    if piece.isdecimal():
        if after_standard and len(piece) <= 5:
            return 0.0
        return YEAR_BITS if _YEAR.fullmatch(piece) else DIGIT_BITS * len(piece)
    runs: list[str] = _RUN.findall(piece)
    letters = [run for run in runs if not run[0].isdigit()]
    digits = sum(len(run) for run in runs if run[0].isdigit())
    if not digits:
        return _letter_bits(piece, letters)
    if letters and letters[0].upper() in _STANDARDS and len(runs) == 2 and digits <= 5:
        return 0.0
    worded = sum(len(run) for run in letters if _in_name(run))
    count = sum(map(len, letters))
    if worded * 2 >= count:
        # Words with numbers in them, as names in programs are made: convertV1ToV2.
        return DIGIT_BITS * digits
    if len(runs) == 2 and (
        (is_word(letters[0]) and (piece[0].isalpha() or not letters[0].isupper()))
        or (piece[0].isalpha() and (digits == 1 or (digits == 2 and count >= 3)) and count <= 6)
    ):
        return DIGIT_BITS * digits
    return DIGIT_BITS * digits + LETTER_BITS * count


def _in_name(run: str) -> bool:
    """Whether a run of letters beside digits is a word of a name: chance seldom makes five letters like this, or a capital and two."""
    return not run.isupper() and is_word(run) and (len(run) >= 5 or run[0].isupper())


def _letter_bits(piece: str, runs: list[str]) -> float:
    if len(piece) <= 2:
        return LETTER_BITS * len(piece) if piece.isupper() else 0.0
    # A prefix in capitals is an abbreviation; so is anything as short.
    if piece.isupper() and len(piece) <= 5:
        return 0.0
    if len(piece) < 8 or (all(is_word(run) or len(run) <= 3 for run in runs) and len(runs) <= 1 + len(piece) // 4):
        return 0.0
    return LETTER_BITS * sum(len(run) for run in runs if not (len(run) >= 4 and is_word(run)))
