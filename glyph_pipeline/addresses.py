"""Addresses: which hosts are this machine. Opens no connection."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a host name or IP address means this machine itself; a name other than localhost is never looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def uses_environment_proxies(url: str) -> bool:
    """Whether an HTTP client for ``url`` may follow the environment's proxies: never between us and this machine."""
    return not is_loopback(urlsplit(url).hostname or "")
