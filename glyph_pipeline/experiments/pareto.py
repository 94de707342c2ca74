"""Pareto front: what nothing else beats in both respects. Knows no configuration."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the (ratio, error) points of which none other has at least the ratio and at most the error, and one of them better.

    Highest ratio first. Of points that are alike, all are in it.
    """
    order = sorted(range(len(points)), key=lambda place: (-points[place][0], points[place][1]))
    found: list[int] = []
    for place in order:
        if not found or points[place][1] < points[found[-1]][1] or points[place] == points[found[-1]]:
            found.append(place)
    return found
