"""Released tool results: redacted, sealed with AES-256-GCM, kept for RETENTION_DAYS. Figures resolve here."""

from __future__ import annotations

import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from api.moments import to_ns
from api.transactions import Transactions
from core.config import ConfigurationError, Settings
from core.types.codes import ReasonCode, refuse
from tools.pipeline import result_digest
from tools.ports import StoredResult

KEY_NAME = "results.key"
KEY_SIZE_BYTES = 32
NONCE_SIZE_BYTES = 12
RETENTION_DAYS = 90
DOMAIN_TAG = b"veloz/tool-result/v1"

_INSERT = text(
    """
    INSERT INTO tool_results (call_id, run_id, trace_id, user_id, account_id, tool, digest, nonce, ciphertext,
                              expires_at)
    VALUES (:call_id, :run_id, :trace_id, :user_id, :account_id, :tool, :digest, :nonce, :ciphertext,
            clock_timestamp() + make_interval(days => :days))
    """
)
_GET = text(
    """
    SELECT call_id, run_id, trace_id, user_id, account_id, tool, digest, nonce, ciphertext, created_at
    FROM tool_results WHERE call_id = :call_id AND expires_at > clock_timestamp()
    """
)


class ResultUnreadableError(Exception):
    """A stored result doesn't open: it was changed, moved to another row, or sealed under another key."""


class SqlResultStore:
    """Implements tools.ports.ResultStore."""

    def __init__(self, transactions: Transactions, key: bytes) -> None:
        if len(key) != KEY_SIZE_BYTES:
            raise ConfigurationError(f"secret {KEY_NAME}: must be {KEY_SIZE_BYTES} bytes in hex, is {len(key)} bytes")
        self._transactions = transactions
        self._cipher = AESGCM(key)

    async def put(self, result: StoredResult) -> None:
        nonce = os.urandom(NONCE_SIZE_BYTES)
        digest = bytes.fromhex(result.digest_hex)
        values = {
            "call_id": result.call_id,
            "run_id": result.run_id,
            "trace_id": result.trace_id,
            "user_id": result.user_id,
            "account_id": result.account_id,
            "tool": result.tool,
            "digest": digest,
            "nonce": nonce,
            "ciphertext": self._cipher.encrypt(
                nonce, result.canonical, _binding(result.call_id, result.tool, result.account_id, digest)
            ),
            "days": RETENTION_DAYS,
        }
        try:
            async with self._transactions((result.account_id,) if result.account_id else ()) as connection:
                await connection.execute(_INSERT, values)
        except IntegrityError as error:
            raise refuse(
                ReasonCode.REQUEST_INVALID, "This call id was used before. Give every call an id of its own."
            ) from error

    async def get(self, account_ids: tuple[str, ...], call_id: str) -> StoredResult | None:
        """Raises ResultUnreadableError, RefusalError(SERVICE_DATABASE_UNAVAILABLE)."""
        async with self._transactions(account_ids) as connection:
            row = (await connection.execute(_GET, {"call_id": call_id})).one_or_none()
        if row is None:
            return None
        digest = bytes(row.digest)
        try:
            canonical = self._cipher.decrypt(
                bytes(row.nonce), bytes(row.ciphertext), _binding(row.call_id, row.tool, row.account_id, digest)
            )
        except InvalidTag as error:
            raise ResultUnreadableError(f"the result of call {call_id} doesn't open under {KEY_NAME}") from error
        if result_digest(msgspec.json.decode(canonical)) != digest.hex():
            raise ResultUnreadableError(f"the result of call {call_id} doesn't have the digest it was stored under")
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
        )


def results_key(settings: Settings) -> bytes:
    """The sealing key from secrets/results.key. Raises ConfigurationError."""
    try:
        return bytes.fromhex(settings.read_secret(KEY_NAME))
    except ValueError as error:
        raise ConfigurationError(f"secret {settings.paths.secret(KEY_NAME)}: must be hex") from error


def _binding(call_id: str, tool: str, account_id: str | None, digest: bytes) -> bytes:
    """What a sealed result is tied to, so that no row can stand in for another."""
    return b"\x00".join([DOMAIN_TAG, call_id.encode(), tool.encode(), (account_id or "").encode(), digest])
