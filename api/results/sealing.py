"""Tool results as they lie in SQL: AES-256-GCM, bound to their own row."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Row

from api.moments import to_ns
from audit.store import SealedResult
from core.config import ConfigurationError, Settings
from tools.pipeline import result_digest
from tools.ports import StoredResult

KEY_NAME = "results.key"
KEY_SIZE_BYTES = 32
NONCE_SIZE_BYTES = 12
DOMAIN_TAG = b"veloz/tool-result/v1"
ARGUMENTS_TAG = b"veloz/tool-arguments/v1"
SELECT = (
    "SELECT call_id, run_id, trace_id, user_id, account_id, tool, digest, nonce, ciphertext, arguments, created_at "
    "FROM tool_results"
)


class ResultUnreadableError(Exception):
    """A stored result doesn't open: it was changed, moved to another row, or sealed under another key."""


class ResultSeal:
    """Seals and opens under the results key of 32 bytes. Raises ConfigurationError for another size."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE_BYTES:
            raise ConfigurationError(f"secret {KEY_NAME}: must be {KEY_SIZE_BYTES} bytes in hex, is {len(key)} bytes")
        self._cipher = AESGCM(key)

    def seal(self, result: StoredResult) -> SealedResult:
        """created_at and expires_at are the database's to say."""
        digest = bytes.fromhex(result.digest_hex)
        both = os.urandom(2 * NONCE_SIZE_BYTES)
        nonce, arguments_nonce = both[:NONCE_SIZE_BYTES], both[NONCE_SIZE_BYTES:]
        row = _row(result.call_id, result.tool, result.account_id, digest)
        return SealedResult(
            call_id=result.call_id,
            run_id=result.run_id,
            trace_id=result.trace_id,
            user_id=result.user_id,
            account_id=result.account_id,
            tool=result.tool,
            digest=digest,
            nonce=nonce,
            ciphertext=self._cipher.encrypt(nonce, result.canonical, DOMAIN_TAG + row),
            arguments=arguments_nonce + self._cipher.encrypt(arguments_nonce, result.arguments, ARGUMENTS_TAG + row),
        )

    def open(self, row: Row[Any]) -> StoredResult:
        """The result of a row of SELECT. arguments is empty where the row holds none.

        Raises ResultUnreadableError.
        """
        digest = bytes(row.digest)
        bound = _row(row.call_id, row.tool, row.account_id, digest)
        arguments = bytes(row.arguments or b"")
        try:
            canonical = self._cipher.decrypt(bytes(row.nonce), bytes(row.ciphertext), DOMAIN_TAG + bound)
            if arguments:
                nonce, sealed = arguments[:NONCE_SIZE_BYTES], arguments[NONCE_SIZE_BYTES:]
                arguments = self._cipher.decrypt(nonce, sealed, ARGUMENTS_TAG + bound)
        except (InvalidTag, ValueError) as error:
            raise ResultUnreadableError(f"the result of call {row.call_id} doesn't open under {KEY_NAME}") from error
        if result_digest(msgspec.json.decode(canonical)) != digest.hex():
            raise ResultUnreadableError(f"the result of call {row.call_id} doesn't have the digest it was stored under")
        return StoredResult(
            call_id=row.call_id,
            run_id=row.run_id,
            trace_id=row.trace_id,
            user_id=row.user_id,
            account_id=row.account_id,
            tool=row.tool,
            digest_hex=digest.hex(),
            canonical=canonical,
            created_at_ns=to_ns(row.created_at),
            arguments=arguments,
        )


def results_key(settings: Settings) -> bytes:
    """The sealing key from secrets/results.key. Raises ConfigurationError."""
    try:
        return bytes.fromhex(settings.read_secret(KEY_NAME))
    except ValueError as error:
        raise ConfigurationError(f"secret {settings.paths.secret(KEY_NAME)}: must be hex") from error


def _row(call_id: str, tool: str, account_id: str | None, digest: bytes) -> bytes:
    """What a sealed result is tied to after its tag, so that no row can stand in for another."""
    return b"\x00%b\x00%b\x00%b\x00%b" % (call_id.encode(), tool.encode(), (account_id or "").encode(), digest)
