"""Installed fonts: their faces, families and characters, looked at once and kept in the user's cache folder. Draws nothing."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from glyph_pipeline.rendering.faces import SUFFIXES, Face

_FORMAT = 1  # of the cache file


@lru_cache(maxsize=1)
def font_files() -> tuple[Path, ...]:
    """Font files installed on this machine, in path order."""
    home = Path.home()
    if sys.platform == "darwin":
        roots = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    elif sys.platform == "win32":
        roots = [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts", home / "AppData/Local/Microsoft/Windows/Fonts"]
    else:
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        roots = [home / ".fonts", home / ".local/share/fonts", *(Path(folder) / "fonts" for folder in shared.split(":") if folder)]
    return tuple(sorted(path for root in roots for path in _files_in(root) if path.suffix.lower() in SUFFIXES))


def _files_in(root: Path) -> Iterator[Path]:
    """Every file of a folder and its subfolders; none of what may not be looked at, such as the home of another user."""
    for parent, _, names in os.walk(root):
        for name in names:
            yield Path(parent, name)


@lru_cache(maxsize=1)
def faces() -> tuple[Face, ...]:
    """All faces with outlines, regular ones first and of these those without serifs, in an order that depends on nothing but the files.

    What a run finds is kept in the user's cache folder; a file is looked at again when its size or time changes.
    """
    kept = cache_file()
    known = _load(kept)
    current: dict[str, Any] = {}
    changed = False
    for path in font_files():
        try:
            stat = path.stat()
        except OSError:
            continue
        stamp = [stat.st_size, stat.st_mtime_ns]
        entry = known.get(str(path))
        if entry is None or entry["stamp"] != stamp:
            entry = {"stamp": stamp, "faces": list(_read(path))}
            changed = True
        current[str(path)] = entry
    if changed or current.keys() != known.keys():
        _save(kept, current)
    found = [
        Face(Path(path), face["index"], face["family"], face["style"], tuple(face["ranges"]))
        for path, entry in current.items()
        for face in entry["faces"]
    ]
    return tuple(sorted(found, key=lambda face: (not face.regular, "serif" in face.family.lower(), face.path.name, face.index)))


def faces_with(codepoint: int) -> Iterator[Face]:
    """The faces that have a code point, best first."""
    return (face for face in faces() if face.has(codepoint))


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """What is kept of each face of a file; nothing of a broken one, which is no reason to fail."""
    import freetype
    import uharfbuzz

    count, index = 1, 0
    while index < count:
        with contextlib.suppress(freetype.FT_Exception, OSError, ValueError, uharfbuzz.HarfBuzzError):
            face = freetype.Face(str(path), index)
            count = int(face.num_faces)
            if face.is_scalable:
                codepoints = sorted(uharfbuzz.Face(uharfbuzz.Blob.from_file_path(str(path)), index).unicodes)
                yield {
                    "index": index,
                    "family": (face.family_name or b"").decode("utf-8", "replace"),
                    "style": (face.style_name or b"").decode("utf-8", "replace"),
                    "ranges": _ranges(codepoints),
                }
        index += 1


def _ranges(codepoints: list[int]) -> list[int]:
    flat: list[int] = []
    for codepoint in codepoints:
        if flat and flat[-1] + 1 == codepoint:
            flat[-1] = codepoint
        else:
            flat += [codepoint, codepoint]
    return flat


def cache_file() -> Path:
    """Where what was found is kept."""
    from platformdirs import user_cache_path

    return user_cache_path("glyph-pipeline", appauthor=False) / f"system-fonts-{_FORMAT}.json"


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: entry for name, entry in data.items() if _is_entry(entry)} if isinstance(data, dict) else {}


def _is_entry(entry: Any) -> bool:
    """Whether this is what :func:`faces` keeps of a file, not something that another program or a broken disk left."""
    if not isinstance(entry, dict) or not isinstance(entry.get("faces"), list) or "stamp" not in entry:
        return False
    kinds = {"index": int, "family": str, "style": str, "ranges": list}
    return all(isinstance(face, dict) and all(isinstance(face.get(key), kind) for key, kind in kinds.items()) for face in entry["faces"])


def _save(path: Path, entries: dict[str, Any]) -> None:
    """Written whole or not at all; without a writable cache folder the fonts are looked at again next time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(entries, file)
        Path(name).replace(path)
