"""Runs a file with the network sealed: what would reach out is logged and refused. Arguments: LOG, FILE, ITS ARGUMENTS."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

_REACHING_OUT = frozenset(
    {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto", "socket.sendmsg"}
)


def seal(log: Path) -> None:
    """From now on. An audit hook can't be removed again, and sees what any library does from Python."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _REACHING_OUT:
            with log.open("a") as lines:
                lines.write(f"{event} {arguments}\n")
            raise PermissionError(f"{event} is sealed")

    sys.addaudithook(hook)


if __name__ == "__main__":
    seal(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
