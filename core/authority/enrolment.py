"""A key that somebody made and asks to have enrolled. It is no authority: the root key's holder compares it with its
owner by another way (the fingerprint), and signs a roster that has it."""

from __future__ import annotations

import hashlib

import msgspec

from core.authority.reading import UNREADABLE
from core.authority.roster import RosterError, check_roster
from core.types.events import Roster, RosterEntry

ENROLMENT_SCHEMA = "veloz.enrolment-request/1"
FINGERPRINT_GROUP = 4
FINGERPRINT_LENGTH = 32


class EnrolmentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entry: RosterEntry
    schema: str = ENROLMENT_SCHEMA


def fingerprint(public_key_hex: str) -> str:
    """What two people read to each other: 128 bits, in groups of four."""
    digest = hashlib.sha256(bytes.fromhex(public_key_hex)).hexdigest()[:FINGERPRINT_LENGTH]
    return " ".join(digest[at : at + FINGERPRINT_GROUP] for at in range(0, len(digest), FINGERPRINT_GROUP))


def parse_enrolment(content: bytes, name: str) -> RosterEntry:
    """Raises RosterError, which names the file."""
    try:
        request = msgspec.json.decode(content, type=EnrolmentRequest)
    except UNREADABLE as error:
        raise RosterError(f"{name}: no enrolment request ({ENROLMENT_SCHEMA}): {error}. Make it again.") from error
    if request.schema != ENROLMENT_SCHEMA:
        raise RosterError(f"{name}: schema is {request.schema[:64]!r}, this release reads {ENROLMENT_SCHEMA!r}")
    check_roster(Roster(version=1, entries=(request.entry,), two_approvals_above_quote="0"), name)
    return request.entry
