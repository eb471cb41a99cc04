"""Just enough of Arrow's file format to read a truth file of plain, LZ4-compressed columns without pyarrow.

Each buffer of a compressed record batch is an int64 of its uncompressed size and one LZ4 frame
(https://arrow.apache.org/docs/format/Columnar.html, https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md).
"""

from __future__ import annotations

import struct
from pathlib import Path

FRAME_MAGIC = b"\x04\x22\x4d\x18"


def columns(path: Path) -> list[bytes]:
    """The uncompressed buffers of a file with one record batch, in order."""
    content = path.read_bytes()
    found, position = [], 0
    while (start := content.find(FRAME_MAGIC, position)) != -1:
        (size,) = struct.unpack_from("<q", content, start - 8)
        column, position = _frame(content, start)
        assert len(column) == size, f"{path}: a column of {len(column)} bytes should have {size}"
        found.append(column)
    return found


def _frame(content: bytes, start: int) -> tuple[bytes, int]:
    flags = content[start + 4]
    # magic, flags, block descriptor, content size when flagged, header checksum
    position = start + 6 + (8 if flags & 0x08 else 0) + 1
    out = bytearray()
    while True:
        (size,) = struct.unpack_from("<I", content, position)
        position += 4
        if size == 0:
            return bytes(out), position + (4 if flags & 0x04 else 0)
        block = content[position : position + (size & 0x7FFF_FFFF)]
        position += len(block) + (4 if flags & 0x10 else 0)
        if size & 0x8000_0000:
            out += block
        else:
            _block(block, out)


def _block(block: bytes, out: bytearray) -> None:
    position = 0
    while position < len(block):
        token = block[position]
        literals, position = _length(block, position + 1, token >> 4)
        out += block[position : position + literals]
        position += literals
        if position >= len(block):
            return
        (offset,) = struct.unpack_from("<H", block, position)
        match, position = _length(block, position + 2, token & 0x0F)
        for _ in range(match + 4):
            out.append(out[-offset])


def _length(block: bytes, position: int, nibble: int) -> tuple[int, int]:
    length = nibble
    if nibble == 0x0F:
        while True:
            length += block[position]
            position += 1
            if block[position - 1] != 0xFF:
                break
    return length, position
