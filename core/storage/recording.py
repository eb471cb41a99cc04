"""Recorded raw frames: one frame a line, the receive time in nanoseconds, a space, and the venue's JSON as it came.

The REST snapshot stands inline, unwrapped (`lastUpdateId`), where it arrived. Files are plain or gzip. A writer that
died leaves a torn tail: what stands before it is read, and the tear is reported.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW_BITS = 31
READ_BYTES = 1 << 18
MAX_LINE_BYTES = 1 << 24
"""A 5,000-level snapshot takes about 0.4 MB."""
MAX_BAD_START_LINES = 3
"""So many unreadable lines before the first readable one, and it is no recording."""
MAX_PROBLEMS_KEPT = 50
FORMAT = "each line is `<receive time in ns> <JSON of a Binance stream frame or depth snapshot>`, plain or gzip"


class RecordingError(Exception):
    """A recording that can't be used. The message names the file, the line where there is one, and the cure."""


class EmptyRecordingError(RecordingError):
    """The file can be read, and holds no frame."""


class Problem(msgspec.Struct, frozen=True):
    """Something in a file that reading could go on after. line 0: the file as a whole."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{where}: {self.what}"


class Problems:
    """What was met while reading: all are counted, the first are kept."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: list[Problem] = []

    def add(self, file: Path, line: int, what: str) -> None:
        self.count += 1
        if len(self.kept) < MAX_PROBLEMS_KEPT:
            self.kept.append(Problem(str(file), line, what))


class Line(NamedTuple):
    """One frame. file is the index of its file among those that are read together."""

    recv_ns: int
    file: int
    number: int
    payload: bytes


def read_lines(path: Path, problems: Problems, file: int = 0) -> Iterator[Line]:
    """Every frame of one file in order. Unreadable lines and a torn tail are reported and left out; empty lines are
    nothing.

    Raises RecordingError: no such file, no recording, compressed data damaged before its end.
    """
    number = read = 0
    torn: str | None = None
    for raw, is_whole in _split(path):
        if isinstance(raw, str):
            torn = raw
            break
        number += 1
        received, _, payload = raw.partition(b" ")
        if payload[:1] != b"{" or payload[-1:] != b"}" or not received:
            received, _, payload = raw.strip().partition(b" ")
            payload = payload.lstrip()
            if not received:
                continue
        if received.isdigit() and len(received) <= 19 and payload[:1] == b"{" and payload[-1:] == b"}":
            read += 1
            yield Line(int(received), file, number, payload)
        elif not is_whole:
            torn = f"its last line ({number}) is cut off"
        else:
            if not read and number >= MAX_BAD_START_LINES:
                raise RecordingError(f"{path}, line {number}: is no recording of frames; {FORMAT}")
            problems.add(path, number, "not a frame; left out")
    if torn is not None:
        problems.add(path, number, f"torn tail: {torn}; read up to there")
    if not read:
        what = "is empty" if not number else "holds no frame"
        raise EmptyRecordingError(f"{path}: {what}; {FORMAT}")


def _split(path: Path) -> Iterator[tuple[bytes | str, bool]]:
    """Lines, and whether each ended with a newline. A str is the last: why the rest can't be read."""
    rest = b""
    number = 0
    for chunk in _chunks(path):
        if isinstance(chunk, str):
            yield chunk, False
            return
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            number += 1
            yield line, True
        if len(rest) > MAX_LINE_BYTES:
            raise RecordingError(f"{path}, line {number + 1}: is longer than {MAX_LINE_BYTES} bytes; {FORMAT}")
    if rest:
        yield rest, False


def _chunks(path: Path) -> Iterator[bytes | str]:
    try:
        with path.open("rb") as source:
            first = source.read(READ_BYTES)
            if not first.startswith(GZIP_MAGIC):
                while first:
                    yield first
                    first = source.read(READ_BYTES)
                return
            stream = zlib.decompressobj(GZIP_WINDOW_BITS)
            data = first
            while data:
                yield stream.decompress(data)
                while stream.eof and (data := stream.unused_data):
                    # Members follow each other when a file was appended to.
                    stream = zlib.decompressobj(GZIP_WINDOW_BITS)
                    yield stream.decompress(data)
                data = source.read(READ_BYTES)
                if stream.eof and data:
                    stream = zlib.decompressobj(GZIP_WINDOW_BITS)
            if not stream.eof:
                yield "the compressed data ends in the middle"
    except FileNotFoundError as error:
        raise RecordingError(f"{path}: no such file; name a recording") from error
    except IsADirectoryError as error:
        raise RecordingError(f"{path}: is a folder; name the files in it, in order of time") from error
    except OSError as error:
        raise RecordingError(f"{path}: can't be read: {error.strerror or error}") from error
    except zlib.error as error:
        raise RecordingError(
            f"{path}: its compressed data is damaged ({error}); restore the file from a copy"
        ) from error
