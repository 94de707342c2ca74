"""PNG encoding of pixel arrays, by ISA-L's fast deflate. Knows no pages."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Text pages are mostly background: level 1 costs a third of zlib's time at about the same size.
_LEVEL = 1


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of ``pixels``: shape (height, width) is grey, (height, width, 3) is RGB; 8 bits a channel.

    The same pixels give the same bytes with one build of isal on one kind of processor; the pixels themselves never differ.
    """
    height, width = pixels.shape[:2]
    colour_type = 0 if pixels.ndim == 2 else 2
    rows = np.empty((height, 1 + width * (1 if pixels.ndim == 2 else 3)), np.uint8)
    rows[:, 0] = 0  # filter type 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    # Not isal_zlib.compress(): in one process of a few thousand it finds other matches than in all others, since part of its state is
    # what happens to lie on the stack (isal 1.9.1: 2 of 5,000 processes, in which this gave the usual bytes).
    deflate = isal_zlib.compressobj(_LEVEL)
    body = deflate.compress(rows) + deflate.flush()
    return b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", body), _chunk(b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(kind)))
