"""Each person's own key: what identifies them is sealed under it, and erasing the key erases them."""

from __future__ import annotations

import os
import time
from collections import OrderedDict

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.record import PersonField
from core.storage.database import transaction

KEY_BYTES = 32
NONCE_BYTES = 12
CACHE_LIMIT_PERSONS = 1_000
CACHE_AGE_LIMIT_S = 60.0  # how long after an erasure another process may still hold the key
IDENTITY_LIMIT_CHARS = 4_096
WRAP_CONTEXT = b"veloz/person-key/v1\x00"
FIELD_CONTEXT = b"veloz/person-field/v1\x00"

_SELECT = text("SELECT wrapped, nonce FROM audit.person_keys WHERE person = :person")
_INSERT = text(
    "INSERT INTO audit.person_keys (person, wrapped, nonce) VALUES (:person, :wrapped, :nonce) "
    "ON CONFLICT (person) DO NOTHING"
)


class PersonErasedError(Exception):
    """The person was erased: nothing can be sealed for them any more."""


class KeyUnusableError(Exception):
    """A person's key can't be unwrapped: another key-encryption key made it, or it was altered."""


class PersonKeys:
    """Seals and opens identifying fields. Raises DatabaseUnavailableError when a key isn't cached and can't be read.

    engine is of a role that may SELECT and INSERT audit.person_keys (api, ledger); kek is 32 bytes.
    """

    def __init__(self, engine: AsyncEngine, kek: bytes) -> None:
        if len(kek) != KEY_BYTES:
            raise ValueError(f"the key-encryption key has {len(kek)} bytes, not {KEY_BYTES}")
        self._engine = engine
        self._kek = AESGCM(kek)
        self._cache: OrderedDict[str, tuple[AESGCM, float]] = OrderedDict()

    async def seal(self, person: str, value: str) -> PersonField:
        """Encrypt value under the key of person (a stable pseudonym), which is made on first use.

        Raises PersonErasedError, KeyUnusableError, ValueError for a value beyond IDENTITY_LIMIT_CHARS.
        """
        if len(value) > IDENTITY_LIMIT_CHARS:
            raise ValueError(f"an identifying value of {len(value)} characters exceeds {IDENTITY_LIMIT_CHARS}")
        key = await self._key(person, create=True)
        if key is None:
            raise PersonErasedError(f"person {person} was erased; no new record can identify them")
        return _sealed(key, person, value)

    def seal_at_once(self, person: str, value: str) -> PersonField | None:
        """The same where the person's key is at hand; else None: seal() it."""
        key = self._at_hand(person)
        return None if key is None or len(value) > IDENTITY_LIMIT_CHARS else _sealed(key, person, value)

    async def open(self, field: PersonField) -> str | None:
        """The value, or None when the person was erased. Raises KeyUnusableError when the field was altered."""
        key = await self._key(field.person, create=False)
        if key is None:
            return None
        try:
            opened = key.decrypt(
                bytes.fromhex(field.nonce), bytes.fromhex(field.ciphertext), FIELD_CONTEXT + field.person.encode()
            )
        except InvalidTag as error:
            raise KeyUnusableError(f"a sealed field of {field.person} was altered or isn't theirs") from error
        return opened.decode()

    async def _key(self, person: str, *, create: bool) -> AESGCM | None:
        key = self._at_hand(person)
        if key is not None:
            return key
        self._cache.pop(person, None)
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_SELECT, {"person": person})).one_or_none()
            if row is None and create:
                fresh = self._wrap(person, AESGCM.generate_key(bit_length=KEY_BYTES * 8))
                await connection.execute(_INSERT, fresh)
                # Another process may have been first: what is stored counts.
                row = (await connection.execute(_SELECT, {"person": person})).one()
        if row is None or row.wrapped is None:
            return None
        key = self._unwrap(person, bytes(row.wrapped), bytes(row.nonce))
        self._cache[person] = (key, time.monotonic())
        while len(self._cache) > CACHE_LIMIT_PERSONS:
            self._cache.popitem(last=False)
        return key

    def _at_hand(self, person: str) -> AESGCM | None:
        cached = self._cache.get(person)
        if cached is None or time.monotonic() - cached[1] >= CACHE_AGE_LIMIT_S:
            return None
        self._cache.move_to_end(person)
        return cached[0]

    def _wrap(self, person: str, key: bytes) -> dict[str, object]:
        nonce = os.urandom(NONCE_BYTES)
        wrapped = self._kek.encrypt(nonce, key, WRAP_CONTEXT + person.encode())
        return {"person": person, "wrapped": wrapped, "nonce": nonce}

    def _unwrap(self, person: str, wrapped: bytes, nonce: bytes) -> AESGCM:
        try:
            return AESGCM(self._kek.decrypt(nonce, wrapped, WRAP_CONTEXT + person.encode()))
        except InvalidTag as error:
            raise KeyUnusableError(
                f"the key of person {person} can't be unwrapped: secrets/audit-kek.key is not the one that made it, "
                "or the stored key was altered. Restore the key-encryption key that belongs to this database."
            ) from error


def _sealed(key: AESGCM, person: str, value: str) -> PersonField:
    nonce = os.urandom(NONCE_BYTES)
    sealed = key.encrypt(nonce, value.encode(), FIELD_CONTEXT + person.encode())
    return PersonField(person, nonce.hex(), sealed.hex())
