"""Turns: things that may be done beside others, and things that must be done alone. Knows nothing of what is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """For one event loop: blocks of :meth:`beside` overlap, a block of :meth:`alone` overlaps with none. Who wants to be alone comes first."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._beside = 0
        self._alone = 0

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Do the block beside others, when nobody is alone or waits to be."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)
            self._beside += 1
        try:
            yield
        finally:
            async with self._changed:
                self._beside -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Do the block when all others are through, one at a time."""
        async with self._changed:
            self._alone += 1
            try:
                await self._changed.wait_for(lambda: not self._beside)
            except BaseException:
                self._alone -= 1
                self._changed.notify_all()
                raise
            self._beside = 1  # for those that wait to be alone as well
        try:
            yield
        finally:
            async with self._changed:
                self._beside = 0
                self._alone -= 1
                self._changed.notify_all()
