"""SentImages: which images each server has been sent, by name, so that they can be referred to. Knows no HTTP and sends nothing."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from glyph_pipeline.errors import OutputError
from glyph_pipeline.files import write_whole

# Names remembered of one server. vLLM's cache of 4 GiB (its default) holds about 1,360 pages of A4 at 72 DPI (3 MB each, as pixels).
CAPACITY = 8192
_NAME = re.compile(r"[0-9a-f]{64}")


class SentImages:
    """The names of the images that each server was sent last, the oldest forgotten first. Safe to use from several threads.

    With ``folder`` they outlive the process, in a file for each server, named by a hash of its URL. Two processes that write the same
    file may lose each other's names, and a server may have been restarted since: what is remembered is a guess that costs one small
    request where it is wrong. A file that can't be read or written is none.
    """

    def __init__(self, folder: Path | None = None, capacity: int = CAPACITY) -> None:
        self._folder = folder
        self._capacity = capacity
        self._servers: dict[str, OrderedDict[str, None]] = {}
        self._takes: dict[str, bool] = {}
        self._lock = threading.Lock()

    def takes_names(self, url: str) -> bool | None:
        """Whether that server takes names for images; None if it isn't known yet."""
        return self._takes.get(url)

    def learnt(self, url: str, takes_names: bool) -> None:
        """Whether that server takes names for images; of one that doesn't, nothing is remembered."""
        self._takes[url] = takes_names
        if not takes_names:
            with self._lock:
                self._of(url).clear()
                self._save(url)

    def known(self, url: str, names: Iterable[str]) -> frozenset[str]:
        """Those of ``names`` that the server should have."""
        with self._lock:
            sent = self._of(url)
            return frozenset(name for name in names if name in sent)

    def sent(self, url: str, names: Iterable[str]) -> None:
        """The server has these now."""
        with self._lock:
            sent = self._of(url)
            before = len(sent)
            added = False
            for name in names:
                added = added or name not in sent
                sent[name] = None
                sent.move_to_end(name)
            while len(sent) > self._capacity:
                sent.popitem(last=False)
            if added or len(sent) != before:
                self._save(url)

    def lost(self, url: str, names: Sequence[str], missing: int | None = None) -> None:
        """The server no longer has ``names[missing]``; not told which, any of them may be gone.

        A cache drops first what was used longest ago, so all that was sent before that image is forgotten with it.
        """
        with self._lock:
            sent = self._of(url)
            gone = {names[missing]} if missing is not None and missing < len(names) else set(names)
            places = [place for place, name in enumerate(sent) if name in gone]
            for _ in range(places[-1] + 1 if places else 0):
                sent.popitem(last=False)
            if places:
                self._save(url)

    def _of(self, url: str) -> OrderedDict[str, None]:
        if url not in self._servers:
            names: list[str] = []
            if self._folder is not None:
                with suppress(OSError, UnicodeDecodeError):
                    names = self._file(url).read_text("ascii").split()
            self._servers[url] = OrderedDict.fromkeys([name for name in names if _NAME.fullmatch(name)][-self._capacity :])
        return self._servers[url]

    def _save(self, url: str) -> None:
        if self._folder is not None:
            with suppress(OutputError):
                write_whole(self._file(url), "".join(f"{name}\n" for name in self._servers[url]).encode("ascii"))

    def _file(self, url: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(url.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.txt"
