"""Turns: whoever is alone is alone, nobody waits for ever, and the others overlap."""

from __future__ import annotations

import asyncio

from glyph_pipeline.cluster.turns import Turns


def test_alone_is_alone_and_beside_is_not() -> None:
    async def run() -> list[tuple[str, int, int]]:
        turns, beside, alone, seen = Turns(), 0, 0, list[tuple[str, int, int]]()

        async def one(number: int) -> None:
            nonlocal beside, alone
            if number % 5 == 0:
                async with turns.alone():
                    alone += 1
                    seen.append(("alone", beside, alone))
                    await asyncio.sleep(0)
                    seen.append(("alone", beside, alone))
                    alone -= 1
                return
            async with turns.beside():
                beside += 1
                await asyncio.sleep(0)
                seen.append(("beside", beside, alone))
                await asyncio.sleep(0)
                beside -= 1

        await asyncio.wait_for(asyncio.gather(*map(one, range(60))), 30)
        return seen

    seen = asyncio.run(run())
    assert {(beside, alone) for kind, beside, alone in seen if kind == "alone"} == {(0, 1)}
    assert {alone for kind, _, alone in seen if kind == "beside"} == {0}
    assert max(beside for kind, beside, _ in seen if kind == "beside") > 5
    assert sum(kind == "alone" for kind, _, _ in seen) == 2 * 12


def test_who_gives_up_waiting_holds_nobody_up() -> None:
    async def run() -> None:
        turns = Turns()
        async with turns.beside():
            waiting = asyncio.ensure_future(turns.alone().__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            async with turns.beside():
                pass

    asyncio.run(asyncio.wait_for(run(), 30))
