"""Addresses: which hosts are this machine. Opens no connection."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

# inet_aton() itself would also take "127.0.0.1 " with anything behind the space.
_MAYBE_IPV4 = re.compile(r"[0-9a-fx.]+")


def is_loopback(host: str) -> bool:
    """Whether connecting to a host name or IP address reaches this machine itself; a name other than localhost is never looked up.

    That holds for 0.0.0.0 and ::, too. To *listen* there is another matter: it means all networks.
    """
    host = host.lower()
    if host in ("localhost", "localhost."):
        return True
    address = _ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and (address.is_loopback or address.is_unspecified)


def uses_environment_proxies(url: str) -> bool:
    """Whether an HTTP client for ``url`` may follow the environment's proxies: never between us and this machine."""
    return not is_loopback(urlsplit(url).hostname or "")


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    try:  # what the system takes for an address as well: 127.1, 0x7f000001
        return ipaddress.IPv4Address(socket.inet_aton(host)) if _MAYBE_IPV4.fullmatch(host) else None
    except OSError:
        return None
