"""Names of places: local paths and URLs that fsspec can open, joined and taken apart. Opens none of them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePath
from typing import TypeAlias

Place: TypeAlias = "str | Path"
"""A path, or a URL as ``str``."""
WEB = ("http://", "https://")
"""What the address of a web server begins with."""

# A drive of Windows has one letter. Of a chain ('zip://a.txt::s3://b/c.zip') the first link decides.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[A-Za-z][A-Za-z0-9+.-]+::[A-Za-z0-9+.:-]+://")


def is_url(place: Place) -> bool:
    """Whether fsspec is to open the place. A ``Path`` never is one: it joins the two strokes."""
    return isinstance(place, str) and _URL.match(place) is not None


def shown(place: Place) -> str:
    """The place as messages show it: without a password, and without the signature of a web address."""
    text = str(place)
    if not is_url(place):
        return text
    text = re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", text)
    return text.partition("?")[0] if text.startswith(WEB) else text


def join(base: Place, name: str) -> str:
    """The place that ``name`` means in the folder ``base``; a name that is a URL or an absolute path stands alone."""
    if is_url(name) or PurePath(name).is_absolute():
        return name
    if is_url(base) and "::" not in str(base) and any(part in {".", ".."} for part in name.split("/")):
        # Object stores don't know what '..' is.
        scheme, _, path = str(base).partition("://")
        root, _, rest = path.partition("/")
        folder = f"/{rest.strip('/')}" if rest.strip("/") else ""
        return f"{scheme}://{root}{posixpath.normpath(f'{folder}/{name}')}"
    return below(base, name)


def below(folder: Place, name: str) -> str:
    """The place of a file whose path below the folder is ``name``, as :func:`list_files` gives it."""
    if not is_url(folder):
        return str(Path(folder) / name)
    link, mark, chain = str(folder).partition("::")
    if mark and "://" not in link:  # 'simplecache::s3://bucket': the path is that of the next link
        return f"{link}::{below(chain, name)}"
    scheme, _, path = link.partition("://")
    return f"{scheme}://{path.rstrip('/')}/{name}{mark}{chain}"


def parent(place: Place) -> str:
    """The folder that a place lies in."""
    if not is_url(place):
        return str(Path(place).parent)
    link, mark, chain = str(place).partition("::")
    if mark and "://" not in link:
        return f"{link}::{parent(chain)}"
    scheme, _, path = (link.partition("?")[0] if link.startswith(WEB) else link).partition("://")
    return f"{scheme}://{path.rstrip('/').rpartition('/')[0]}{mark}{chain}"


def suffix(place: Place) -> str:
    """The end of the name with its dot, in small letters: ``.jsonl``; empty if there is none."""
    return PurePath(_named(place)).suffix.lower()


def basename(place: Place) -> str:
    """The last part of a place's name; in a chain of URLs (``zip://a.jsonl::s3://b/c.zip``) that of what is meant in the end."""
    return PurePath(_named(place)).name


def _named(place: Place) -> str:
    text = shown(place)
    if is_url(place):
        links = text.split("::")
        text = next((link for link in links if "://" in link), text)
    return text.rstrip("/")
