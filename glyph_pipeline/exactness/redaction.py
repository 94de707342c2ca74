"""Redactor: which exact strings of a text are secrets, or lie in one. Knows no list and asks nobody.

The detector is bc-detect-secrets (extra ``redact``): detect-secrets itself has had no release since 1.5.0 of May 2024, this fork of it has
one nearly every month and keeps its plugins. They are called one by one on single lines, so what verifies a secret by asking its
service is never reached. Its two detectors of high entropy are left out: they take every checksum and every commit for a secret; keys
and tokens that only look random are told by the finder (kind ``key``).
"""

from __future__ import annotations

import importlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from glyph_pipeline.errors import MissingExtraError
from glyph_pipeline.exactness.finder import ExactString

# module: its detectors.
_PLUGINS = {
    "artifactory": ("ArtifactoryDetector",),
    "aws": ("AWSKeyDetector",),
    "azure_storage_key": ("AzureStorageKeyDetector",),
    "basic_auth": ("BasicAuthDetector",),
    "cloudant": ("CloudantDetector",),
    "discord": ("DiscordBotTokenDetector",),
    "github_token": ("GitHubTokenDetector",),
    "ibm_cloud_iam": ("IbmCloudIamDetector",),
    "jwt": ("JwtTokenDetector",),
    "keyword": ("KeywordDetector",),
    "mailchimp": ("MailchimpDetector",),
    "npm": ("NpmDetector",),
    "sendgrid": ("SendGridDetector",),
    "slack": ("SlackDetector",),
    "softlayer": ("SoftlayerDetector",),
    "square_oauth": ("SquareOAuthDetector",),
    "stripe": ("StripeDetector",),
    "twilio": ("TwilioKeyDetector",),
}
_BLOCK = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.DOTALL)
_PASSWORD_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,19}://[^\s/@:]{0,255}:[^\s/@]{1,255}@")
# A name that says what the string behind it is: "client_secret: ...", "PASSWORD=...", "Bearer ...".
_NAMED = re.compile(
    r"(?:passwor[dt]|passwd|passphrase|\bpwd|secret|credential|api[_ -]?key|access[_ -]?key|private[_ -]?key|auth[_ -]?key|\bbearer|token)"
    r"(?:[\w.]{0,24}|[_.-]\w{1,24})[\"'`]?\s{0,3}(?:[:=]{1,2}>?|\bis\b)?\s{0,3}[\"'`]?$",
    re.IGNORECASE,
)
# No line is looked at in one piece that is longer: data without line breaks.
_LONGEST_LINE = 4000
_NAME_REACH = 60


class Redactor:
    """Tells secrets from other exact strings. Raises MissingExtraError without the extra ``redact``."""

    def __init__(self) -> None:
        self._detectors: list[Any] = []
        for module, names in _PLUGINS.items():
            try:
                plugin: Any = importlib.import_module(f"detect_secrets.plugins.{module}")
            except ImportError as error:
                if module == next(iter(_PLUGINS)):
                    raise MissingExtraError(
                        "Keeping secrets out of the list of exact strings", "redact", package="bc-detect-secrets"
                    ) from error
                continue  # A release without this detector.
            self._detectors += [getattr(plugin, name)() for name in names if hasattr(plugin, name)]

    def secrets(self, text: str, strings: Iterable[ExactString]) -> frozenset[ExactString]:
        """Those of the strings of a text that are secrets, hold one, or lie in one.

        Secrets are: all of kind ``key``; addresses with a password; what lies in a block of a private key; what stands behind a name such as
        ``client_secret:``; and what the detectors know.
        """
        strings = sorted(strings, key=lambda string: string.start)
        blocks = [match.span() for match in _BLOCK.finditer(text)]
        found = {string for string in strings if string.kind == "key" or _in_block(string, blocks) or _open(text, string)}
        lines: dict[tuple[int, int], list[ExactString]] = {}
        for string in strings:
            if string not in found:
                lines.setdefault(_line(text, string), []).append(string)
        for (start, end), on_line in lines.items():
            for first, last in self._spans(text[start:end]):
                found.update(string for string in on_line if string.start < start + last and start + first < string.end)
        return frozenset(found)

    def _spans(self, line: str) -> list[tuple[int, int]]:
        """Where the detectors see secrets in a line."""
        spans: list[tuple[int, int]] = []
        for detector in self._detectors:
            for secret in detector.analyze_string(line):
                at = line.find(secret) if secret else -1
                while at >= 0:
                    spans.append((at, at + len(secret)))
                    at = line.find(secret, at + len(secret))
        return spans


def _open(text: str, string: ExactString) -> bool:
    """Whether the string itself, or what stands before it, says that it is secret."""
    if string.kind == "url" and _PASSWORD_IN_URL.match(string.text):
        return True
    return bool(_NAMED.search(text[max(0, string.start - _NAME_REACH) : string.start]))


def _in_block(string: ExactString, blocks: Sequence[tuple[int, int]]) -> bool:
    place = bisect_left(blocks, (string.end, 0)) - 1
    return place >= 0 and string.start < blocks[place][1]


def _line(text: str, string: ExactString) -> tuple[int, int]:
    start = max(text.rfind("\n", 0, string.start) + 1, string.start - _LONGEST_LINE // 2)
    end = text.find("\n", string.end)
    return start, min(end if end >= 0 else len(text), string.end + _LONGEST_LINE // 2)
