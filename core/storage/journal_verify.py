"""The whole journal verified from its files, archive included, without an engine and beside a running one."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from core.storage.journal_errors import JournalDamagedError
from core.storage.journal_files import JournalFolder
from core.storage.journal_format import SCHEMA_VERSIONS, BadRecordError, decode_header, decode_record
from core.storage.journal_segments import damaged
from core.storage.journal_tail import is_free, is_torn_header, is_torn_tail


class VerifiedSegment(msgspec.Struct, frozen=True):
    """A segment whose every record is what was written. torn_bytes: behind the last record of the newest one lies a
    write that isn't over: an engine is at it, or the next start cuts it off."""

    place: str
    name: str
    engine_id: str
    first_sequence: int
    last_sequence: int
    previous_hash: bytes
    hash: bytes
    torn_bytes: int = 0


class Verification(msgspec.Struct, frozen=True):
    """problems name the file, the offset and the cure; without any, every record from first_sequence on is whole."""

    segments: tuple[VerifiedSegment, ...]
    problems: tuple[str, ...]

    @property
    def first_sequence(self) -> int:
        return min((segment.first_sequence for segment in self.segments), default=0)

    @property
    def last_sequence(self) -> int:
        return max((segment.last_sequence for segment in self.segments), default=0)


def verify_journal(folder: JournalFolder, archive: JournalFolder | None) -> Verification:
    """Every checksum and every link, in the journal's folder and in the archive. Raises OSError."""
    places = [("archive", archive)] if archive is not None else []
    segments: list[VerifiedSegment] = []
    problems: list[str] = []
    for place, where in (*places, ("journal", folder)):
        before: VerifiedSegment | None = None
        for found in _verified(place, where):
            if isinstance(found, str):
                problems.append(found)
                before = None
                continue
            if before is not None and not _continues(before, found):
                problems.append(str(_gap(where, found)))
            segments.append(found)
            before = found
    problems += _handover(segments, folder)
    return Verification(tuple(segments), tuple(problems))


def _verified(place: str, folder: JournalFolder) -> Iterator[VerifiedSegment | str]:
    names = folder.names()
    for name in names:
        try:
            segment = _verify(place, folder, name, is_newest=place == "journal" and name == names[-1])
        except JournalDamagedError as error:
            yield str(error)
        else:
            if segment is not None:
                yield segment


def _verify(place: str, folder: JournalFolder, name: str, *, is_newest: bool) -> VerifiedSegment | None:
    file = folder.open(name)
    try:
        data = file.read(0, file.size())
    finally:
        file.close()
    offset = 0
    try:
        header, offset = decode_header(data)
        if header.schema not in SCHEMA_VERSIONS:
            raise BadRecordError(f"its schema is {header.schema!r}", incomplete=False)
    except BadRecordError as error:
        if is_torn_header(data):
            return None
        raise damaged(folder, name, offset, str(error)) from error
    version, digest, sequence = SCHEMA_VERSIONS[header.schema], bytes.fromhex(header.previous_hash_hex), 0
    torn = 0
    while offset < len(data):
        try:
            record = decode_record(data, offset, digest, version)
        except BadRecordError as error:
            if version > 1 and is_free(data, offset):
                break
            if is_newest and is_torn_tail(data, offset):
                torn = len(data.rstrip(b"\0")) - offset
                break
            raise damaged(folder, name, offset, str(error)) from error
        digest, offset, sequence = record.hash, record.end, sequence + 1
    return VerifiedSegment(
        place,
        name,
        header.engine_id,
        header.first_sequence,
        header.first_sequence + sequence - 1,
        bytes.fromhex(header.previous_hash_hex),
        digest,
        torn,
    )


def _continues(before: VerifiedSegment, after: VerifiedSegment) -> bool:
    return (after.first_sequence, after.previous_hash) == (before.last_sequence + 1, before.hash)


def _gap(folder: JournalFolder, found: VerifiedSegment) -> JournalDamagedError:
    return damaged(folder, found.name, 0, "it doesn't continue the segment before it; one may be missing")


def _handover(segments: list[VerifiedSegment], folder: JournalFolder) -> list[str]:
    """Where the journal begins here, the archive must have what was before, and copies be the originals."""
    here = [segment for segment in segments if segment.place == "journal"]
    archived = {segment.name: segment for segment in segments if segment.place == "archive"}
    problems = [
        f"{segment.name}: its copy in the archive holds other records. Archive it again: `veloz journal archive`"
        for segment in here
        if segment.name in archived and archived[segment.name].hash != segment.hash
    ]
    if here and here[0].first_sequence > 1:
        before = [segment for segment in archived.values() if segment.last_sequence < here[0].first_sequence]
        newest = max(before, key=lambda segment: segment.last_sequence, default=None)
        if newest is None or not _continues(newest, here[0]):
            problems.append(
                f"{folder.path(here[0].name)}: the journal begins at record {here[0].first_sequence} here, and the "
                "archive doesn't end where that begins. Put the missing segments back into the archive."
            )
    return problems
