"""The roster: who may approve, with which keys. Changed only under the root key that the engine's host pins.

Its canonical bytes are a domain tag and RFC 8785 JSON with every number as text. `roster.json` holds
`{"roster": {...}, "signature_hex": "..."}`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

import msgspec
import rfc8785

from core.authority.reading import UNREADABLE
from core.authority.signatures import PUBLIC_KEY_LENGTH_BYTES, sign_bytes, verify_bytes
from core.authority.webauthn import ALGORITHMS, ED25519, KEY_KINDS, PUBLIC_KEY_LENGTHS_BYTES, WEBAUTHN
from core.types.events import Roster, RosterEntry
from core.types.money import decimal_text
from core.types.orders import Mode

ROSTER_DOMAIN_TAG = b"veloz/roster/v1\x00"
ROSTER_ENTRIES_LIMIT = 1_000
ADMINISTRATION_KINDS = ("mandate.revoke", "rules.install", "rules.rollback", "thaw", "unfreeze")
"""What an entry can administer; rosters are the root key's alone."""
PASSKEY_FIELDS = ("algorithm", "rp_id", "origins", "credential_id_hex")
CREDENTIAL_ID = re.compile(r"(?:[0-9a-f]{2}){1,1023}")
ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]{1,253})(?::[0-9]{1,5})?")
ORIGINS_LIMIT = 8


class RosterError(Exception):
    """A roster that can't be installed: the message names the file, what is wrong and the cure."""


class SignedRoster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A roster with the root key's signature over roster_bytes(roster)."""

    roster: Roster
    signature_hex: str


def roster_bytes(roster: Roster) -> bytes:
    """What the root key signs."""
    plain = msgspec.to_builtins(roster)
    plain["version"] = str(roster.version)
    for entry in plain["entries"]:
        # Rosters signed before these fields were there stay what they were. An entry of a key has no passkey's fields.
        if not entry["administers"]:
            del entry["administers"]
        if entry["approves"]:
            del entry["approves"]
        if entry["kind"] == ED25519:
            for name in ("kind", *PASSKEY_FIELDS):
                del entry[name]
    if not plain["cli_only_above_quote"]:
        del plain["cli_only_above_quote"]
    return ROSTER_DOMAIN_TAG + bytes(rfc8785.dumps(plain))


def roster_digest(roster: Roster) -> str:
    """Hex SHA-256 of the canonical bytes: two rosters are the same one when their digests are."""
    return hashlib.sha256(roster_bytes(roster)).hexdigest()


def sign_roster(root_seed_hex: str, roster: Roster) -> SignedRoster:
    """Sign with the root key. Raises ValueError when the seed isn't 32 bytes in hex."""
    return SignedRoster(roster, sign_bytes(root_seed_hex, roster_bytes(roster)).hex())


def render_signed_roster(signed: SignedRoster) -> bytes:
    """The content of roster.json."""
    return msgspec.json.format(msgspec.json.encode(signed), indent=2) + b"\n"


def parse_signed_roster(content: bytes, file_name: str, root_public_key_hex: str) -> SignedRoster:
    """Read roster.json and verify it against the pinned root key.

    Raises RosterError.
    """
    try:
        signed = msgspec.json.decode(content, type=SignedRoster)
    except UNREADABLE as error:
        raise RosterError(f"{file_name}: not a signed roster: {error}. Restore the file from its signer.") from error
    check_roster(signed.roster, file_name)
    try:
        signature = bytes.fromhex(signed.signature_hex)
    except ValueError as error:
        raise RosterError(f"{file_name}: key 'signature_hex' is not hex. Have the roster signed again.") from error
    if not verify_bytes(root_public_key_hex, roster_bytes(signed.roster), signature):
        raise RosterError(
            f"{file_name}: the signature is not the root key's over this roster. Someone changed the file, or another "
            "key signed it: restore it, or have the root key's holder sign it again."
        )
    return signed


def check_roster(roster: Roster, file_name: str) -> None:
    """Raises RosterError when a roster could be read in two ways: one key must be one user's."""
    if roster.version < 1:
        raise RosterError(f"{file_name}: key 'roster.version' must be at least 1, is {roster.version}")
    if len(roster.entries) > ROSTER_ENTRIES_LIMIT:
        raise RosterError(f"{file_name}: {len(roster.entries)} entries, the limit is {ROSTER_ENTRIES_LIMIT}")
    for name in ("key_id", "public_key_hex"):
        repeated = [value for value, n in Counter(getattr(entry, name) for entry in roster.entries).items() if n > 1]
        if repeated:
            raise RosterError(f"{file_name}: {name} {repeated[0]!r} stands in two entries; give each key one entry")
    for entry in roster.entries:
        _check_entry(entry, file_name)
    threshold_quote(roster, file_name)
    cli_only_above(roster, file_name)


def stands(before: Roster, after: Roster, key_id: str, account_ids: Iterable[str], mode: str) -> bool:
    """Whether what a key signed under one roster could still be signed under the next: by the same key and person, for
    these accounts, in this mode."""
    known = {entry.key_id: entry for entry in before.entries}.get(key_id)
    entry = {entry.key_id: entry for entry in after.entries}.get(key_id)
    return (
        known is not None
        and entry is not None
        and (entry.public_key_hex, entry.user_id) == (known.public_key_hex, known.user_id)
        and set(account_ids) <= set(entry.account_ids)
        and (mode == Mode.PAPER or not entry.paper_only)
    )


def threshold_quote(roster: Roster, file_name: str = "roster") -> Decimal:
    """The notional above which two approvals are due. Raises RosterError when it isn't a plain decimal."""
    return _amount(roster.two_approvals_above_quote, "two_approvals_above_quote", file_name)


def cli_only_above(roster: Roster, file_name: str = "roster") -> Decimal | None:
    """The notional above which passkeys don't count; None where they never do. Raises RosterError."""
    text = roster.cli_only_above_quote
    return _amount(text, "cli_only_above_quote", file_name) if text else None


def _amount(text: str, name: str, file_name: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0 or decimal_text(value) != text:
        raise RosterError(
            f"{file_name}: key 'roster.{name}' must be a decimal of zero or more as plain text, is {text!r}"
        )
    return value


def _check_entry(entry: RosterEntry, file_name: str) -> None:
    if not entry.key_id or not entry.user_id:
        raise RosterError(f"{file_name}: an entry lacks its key_id or user_id")
    if unknown := [kind for kind in entry.administers if kind not in ADMINISTRATION_KINDS]:
        raise RosterError(
            f"{file_name}: key {entry.key_id!r} administers {unknown[0]!r}; known are {', '.join(ADMINISTRATION_KINDS)}"
        )
    _check_kind(entry, file_name)
    expected = PUBLIC_KEY_LENGTHS_BYTES.get(entry.algorithm, PUBLIC_KEY_LENGTH_BYTES)
    try:
        length = len(bytes.fromhex(entry.public_key_hex))
    except ValueError:
        length = 0
    if length != expected or entry.public_key_hex != entry.public_key_hex.lower():
        raise RosterError(
            f"{file_name}: public_key_hex of key {entry.key_id!r} must be {expected} bytes in lower-case hex"
        )


def _check_kind(entry: RosterEntry, file_name: str) -> None:
    """A passkey says all of itself, and approves only; a key has nothing of a passkey's."""
    given = [name for name in PASSKEY_FIELDS if getattr(entry, name)]
    if entry.kind == ED25519:
        if given:
            raise RosterError(f"{file_name}: key {entry.key_id!r} isn't a passkey, so {given[0]} has no place there")
        return
    if entry.kind != WEBAUTHN:
        raise RosterError(
            f"{file_name}: key {entry.key_id!r} is of kind {entry.kind!r}; known are {', '.join(KEY_KINDS)}"
        )
    if missing := [name for name in PASSKEY_FIELDS if not getattr(entry, name)]:
        raise RosterError(f"{file_name}: passkey {entry.key_id!r} lacks {missing[0]}; enrol it anew")
    if entry.algorithm not in ALGORITHMS:
        raise RosterError(
            f"{file_name}: passkey {entry.key_id!r} is of {entry.algorithm!r}; known are {', '.join(ALGORITHMS)}"
        )
    if not entry.approves or entry.administers:
        raise RosterError(f"{file_name}: passkey {entry.key_id!r} can only approve suggestions, and nothing else")
    if len(entry.origins) > ORIGINS_LIMIT or not all(_is_secure(origin, entry.rp_id) for origin in entry.origins):
        raise RosterError(
            f"{file_name}: origins of passkey {entry.key_id!r} must be up to {ORIGINS_LIMIT} of https://{entry.rp_id} "
            "or its subdomains, or of http://localhost"
        )
    if not CREDENTIAL_ID.fullmatch(entry.credential_id_hex):
        raise RosterError(f"{file_name}: credential_id_hex of passkey {entry.key_id!r} isn't an id in lower-case hex")


def _is_secure(origin: str, rp_id: str) -> bool:
    found = ORIGIN.fullmatch(origin)
    if found is None:
        return False
    scheme, host = found.group("scheme"), found.group("host")
    if scheme == "http" and host != "localhost":
        return False
    return host == rp_id or host.endswith(f".{rp_id}")
