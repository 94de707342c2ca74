"""ProxySettings: where the proxy listens, whom it forwards to, what it draws and what it refuses. Opens nothing."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glyph_pipeline.errors import ConfigError, UsageError
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.serving import normalize_base_url
from glyph_pipeline.tokens.vision import FAMILIES

DEFAULT_PORT = 8100
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class DrawPolicy:
    """Which texts become pages.

    ``roles``: only texts of messages with one of these. A text is drawn if it has ``min_tokens`` text tokens or more, at most
    ``max_chars`` characters, and at least ``min_ratio`` times as many text tokens as its pages cost vision tokens, the two markers of
    each page among them; never if the pages cost as much as the text or more.

    Raises ConfigError for a number that makes no sense.
    """

    roles: frozenset[str] = frozenset({"user"})
    min_tokens: int = 1000
    min_ratio: float = 1.5
    max_chars: int = 2_000_000

    def __post_init__(self) -> None:
        if self.min_tokens < 1:
            raise ConfigError(f"min_tokens is {self.min_tokens}.", hint="Give 1 or more.")
        if not (math.isfinite(self.min_ratio) and self.min_ratio >= 0):
            raise ConfigError(f"min_ratio is {self.min_ratio!r}.", hint="Give a number of 0 or more, such as 1.5.")
        if self.max_chars < 0:
            raise ConfigError(f"max_chars is {self.max_chars}.", hint="Give 0 or more.")


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Everything the proxy is told when it starts.

    ``upstream`` is the base URL of an OpenAI-compatible server, with or without ``/v1``. ``api_key`` is what clients have to send,
    ``upstream_api_key`` what the upstream gets in its place. ``drawing`` is a configuration, or changes to the preset that a text gets.
    ``family`` names the image arithmetic (None: the upstream's own where that can be read, else GLM-4.1V's). ``max_body_bytes`` bounds
    a request's body, ``max_concurrency`` the requests under way, ``workers`` the processes that draw (0: threads of this one),
    ``cache_bytes`` the drawn pages that are kept. Seconds: ``read_timeout`` of the upstream's silence, ``connect_timeout``,
    ``client_timeout`` for a client to send a request's head, to send its body, or to take a piece of an answer, ``draw_timeout`` for
    one text, ``grace`` for requests under way when the proxy is told to end.

    Raises ConfigError for values that can't be used, UsageError for an address other machines can reach without a key.
    """

    upstream: str
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    api_key: str | None = field(default=None, repr=False)
    upstream_api_key: str | None = field(default=None, repr=False)
    policy: DrawPolicy = field(default_factory=DrawPolicy)
    drawing: RenderConfig | Mapping[str, Any] = field(default_factory=dict)
    family: str | None = None
    workers: int = 1
    max_body_bytes: int = 32 * MEGABYTE
    max_concurrency: int = 256
    cache_bytes: int = 256 * MEGABYTE
    read_timeout: float = 1800.0
    connect_timeout: float = 10.0
    client_timeout: float = 60.0
    draw_timeout: float = 60.0
    grace: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "upstream", normalize_base_url(self.upstream))
        for name, least in (("max_body_bytes", 1), ("max_concurrency", 1), ("workers", 0), ("cache_bytes", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}.", hint=f"Give {least} or more.")
        for name in ("read_timeout", "connect_timeout", "client_timeout", "draw_timeout", "grace"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f"{name} is {getattr(self, name)!r}.", hint="Give a number of seconds above 0.")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}.", hint="Give 0 (any free port) to 65535.")
        if self.family is not None and self.family not in FAMILIES:
            raise ConfigError(f"family is {self.family!r}.", hint=f"Known are {', '.join(FAMILIES)}.")
        for name, key in (("api key", self.api_key), ("upstream api key", self.upstream_api_key)):
            # The key itself stays out of the message.
            if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
                raise ConfigError(
                    f"The {name} can't be sent in an HTTP header.", hint="Is it empty, or is there a space or a line end in it?"
                )
        if not self.is_local and self.api_key is None:
            raise UsageError(
                f"Other machines can reach {self.host!r}, and there is no key.",
                hint="Give one (--api-key or GLYPH_PROXY_API_KEY), or listen on 127.0.0.1.",
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach what listens on ``host``. A name other than localhost is not looked up: it is not."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def root(self) -> str:
        """The upstream's URL without ``/v1``, where vLLM's own endpoints are."""
        return self.upstream.removesuffix("/v1")
