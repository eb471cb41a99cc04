"""Loosening the kill switch: administration, under the root key that the engine's host pins."""

from __future__ import annotations

import msgspec
import rfc8785

from core.authority.signatures import sign_bytes, verify_bytes
from core.risk.kill_switch import KillSwitch
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal

THAW_DOMAIN_TAG = b"veloz/thaw/v1\x00"
THAW_VALID_NS = 300 * NS_PER_S


class Thaw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """issued_at_ns is text. It has to be later than the last change of the switch, so that no thaw works twice."""

    engine_id: str
    state: str
    requested_by: str
    reason: str
    issued_at_ns: str


class SignedThaw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    thaw: Thaw
    signature_hex: str


def thaw_bytes(thaw: Thaw) -> bytes:
    """What the root key signs."""
    return THAW_DOMAIN_TAG + bytes(rfc8785.dumps(msgspec.to_builtins(thaw)))


def sign_thaw(root_seed_hex: str, thaw: Thaw) -> SignedThaw:
    return SignedThaw(thaw, sign_bytes(root_seed_hex, thaw_bytes(thaw)).hex())


def verify_thaw(
    signed: SignedThaw, root_public_key_hex: str, *, engine_id: str, kill_switch_changed_ns: int, now_ns: int
) -> Refusal | None:
    """None when the root key loosens this engine's switch now."""
    thaw = signed.thaw
    try:
        signature = bytes.fromhex(signed.signature_hex)
        issued_ns = int(thaw.issued_at_ns)
        KillSwitch(thaw.state)
    except ValueError as error:
        return Refusal(ReasonCode.REQUEST_INVALID, f"The thaw can't be read: {error}. Make it again.")
    if not verify_bytes(root_public_key_hex, thaw_bytes(thaw), signature):
        return Refusal(ReasonCode.AUTHORITY_SIGNATURE_INVALID, "The thaw isn't signed by the root key. Use that key.")
    if thaw.engine_id != engine_id:
        return Refusal(
            ReasonCode.AUTHORITY_WRONG_ENGINE, "The thaw is for another engine.", limit=engine_id, actual=thaw.engine_id
        )
    if issued_ns <= kill_switch_changed_ns:
        return Refusal(
            ReasonCode.APPROVAL_ALREADY_CONSUMED, "The kill switch changed after this thaw was signed. Make a new one."
        )
    # From the future, not by a moment: it would loosen once more what is tightened until then.
    if not now_ns - THAW_VALID_NS <= issued_ns <= now_ns:
        return Refusal(ReasonCode.APPROVAL_EXPIRED, "The thaw is too old, or from the future. Make a new one.")
    return None
