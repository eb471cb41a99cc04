"""Passkeys in the browser: what it is asked to make and to sign. None of it is authority: a passkey counts once the
root key has signed it into the engine's roster, and the engine verifies each assertion itself."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from core.authority.enrolment import EnrolmentRequest
from core.authority.webauthn import EDDSA, ES256, WEBAUTHN, approval_challenge, encode_assertion
from core.config.settings import ApprovalSettings
from core.runtime.client import EngineClient
from core.types.clock import NS_PER_S, Clock
from core.types.codes import ReasonCode, refuse
from core.types.events import RosterEntry
from core.types.ids import IdSource
from core.types.views import RosterEntryView
from tools.contracts import Principal
from tools.suggestions import Suggestion

RP_NAME = "VeloZ"
REGISTRATION_VALID_S = 300
CEREMONY_TIMEOUT_MS = 120_000
CHALLENGE_TAG = b"veloz/webauthn-registration/v1\x00"
KEY_ID_HEX_DIGITS = 16
_NONCE_BYTES, _EXPIRY_BYTES = 16, 8


class Passkeys:
    """secret makes challenges of this service recognisable, on whichever of its processes they come back."""

    def __init__(
        self, engine: EngineClient, settings: ApprovalSettings, secret: bytes, clock: Clock, ids: IdSource
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._secret = secret
        self._clock = clock
        self._ids = ids

    async def registration_options(self, principal: Principal) -> dict[str, Any]:
        """PublicKeyCredentialCreationOptions, as JSON. Raises RefusalError(SERVICE_ENGINE_UNAVAILABLE)."""
        import webauthn
        from webauthn.helpers import structs

        own = await self._passkeys_of(principal)
        options = webauthn.generate_registration_options(
            rp_id=self._settings.passkey_rp_id,
            rp_name=RP_NAME,
            user_id=hashlib.sha256(principal.user_id.encode()).digest(),
            user_name=principal.username,
            challenge=self._challenge(principal),
            timeout=CEREMONY_TIMEOUT_MS,
            authenticator_selection=structs.AuthenticatorSelectionCriteria(
                user_verification=structs.UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[
                structs.PublicKeyCredentialDescriptor(id=bytes.fromhex(entry.credential_id_hex)) for entry in own
            ],
            supported_pub_key_algs=_algorithms(),
        )
        return _as_json(options)

    def enrolment_request(self, principal: Principal, credential: dict[str, Any]) -> EnrolmentRequest:
        """What the root key's holder is asked to sign for a passkey that was made. Raises REQUEST_INVALID."""
        import webauthn
        from webauthn.helpers import exceptions, parse_client_data_json, parse_registration_credential_json

        try:
            parsed = parse_registration_credential_json(credential)
            challenge = parse_client_data_json(parsed.response.client_data_json).challenge
            if not self._is_ours(principal, challenge):
                raise refuse(
                    ReasonCode.REQUEST_INVALID,
                    f"The challenge isn't one of yours, or is older than {REGISTRATION_VALID_S} s. Begin again.",
                )
            verified = webauthn.verify_registration_response(
                credential=parsed,
                expected_challenge=challenge,
                expected_rp_id=self._settings.passkey_rp_id,
                expected_origin=list(self._settings.passkey_origins),
                require_user_verification=True,
                supported_pub_key_algs=_algorithms(),
            )
        except exceptions.WebAuthnException as error:
            raise refuse(ReasonCode.REQUEST_INVALID, f"This isn't a passkey for here: {error}") from error
        algorithm, public_key = _public_key(verified.credential_public_key)
        return EnrolmentRequest(
            entry=RosterEntry(
                key_id=f"passkey-{hashlib.sha256(verified.credential_id).hexdigest()[:KEY_ID_HEX_DIGITS]}",
                user_id=principal.user_id,
                public_key_hex=public_key.hex(),
                account_ids=principal.account_ids,
                paper_only=True,
                kind=WEBAUTHN,
                algorithm=algorithm,
                rp_id=self._settings.passkey_rp_id,
                origins=self._settings.passkey_origins,
                credential_id_hex=verified.credential_id.hex(),
            )
        )

    async def approval_options(self, principal: Principal, suggestion: Suggestion) -> dict[str, Any]:
        """PublicKeyCredentialRequestOptions for one version of one suggestion: its digest makes the challenge."""
        import webauthn
        from webauthn.helpers import structs

        own = await self._passkeys_of(principal)
        if not own:
            raise refuse(
                ReasonCode.AUTHORITY_SIGNER_UNKNOWN,
                "No passkey of yours is in the engine's roster. Register one and have it enrolled, or use "
                "`veloz approve`.",
            )
        options = webauthn.generate_authentication_options(
            rp_id=self._settings.passkey_rp_id,
            challenge=approval_challenge(suggestion.digest_hex),
            timeout=CEREMONY_TIMEOUT_MS,
            allow_credentials=[
                structs.PublicKeyCredentialDescriptor(id=bytes.fromhex(entry.credential_id_hex)) for entry in own
            ],
            user_verification=structs.UserVerificationRequirement.REQUIRED,
        )
        return _as_json(options)

    async def signature(self, principal: Principal, credential: dict[str, Any]) -> tuple[str, bytes]:
        """The key id and the signature of an approval by passkey, from what the browser gave. Raises RefusalError."""
        from webauthn.helpers import exceptions, parse_authentication_credential_json

        try:
            parsed = parse_authentication_credential_json(credential)
        except exceptions.WebAuthnException as error:
            raise refuse(ReasonCode.REQUEST_INVALID, f"This isn't an assertion of a passkey: {error}") from error
        response = parsed.response
        encoded = encode_assertion(response.authenticator_data, response.client_data_json, response.signature)
        for entry in await self._passkeys_of(principal):
            if hmac.compare_digest(entry.credential_id_hex, parsed.raw_id.hex()):
                return entry.key_id, encoded
        raise refuse(
            ReasonCode.AUTHORITY_SIGNER_UNKNOWN,
            "This passkey isn't one of yours in the engine's roster. Have it enrolled there.",
        )

    async def _passkeys_of(self, principal: Principal) -> list[RosterEntryView]:
        roster = await self._engine.roster()
        return [entry for entry in roster.entries if entry.kind == WEBAUTHN and entry.user_id == principal.user_id]

    def _challenge(self, principal: Principal) -> bytes:
        expires_s = self._clock.now_ns() // NS_PER_S + REGISTRATION_VALID_S
        nonce = hashlib.sha256(self._ids.new_ulid().encode()).digest()[:_NONCE_BYTES]
        head = nonce + expires_s.to_bytes(_EXPIRY_BYTES, "big")
        return head + self._mac(principal, head)

    def _is_ours(self, principal: Principal, challenge: bytes) -> bool:
        head, mac = challenge[: _NONCE_BYTES + _EXPIRY_BYTES], challenge[_NONCE_BYTES + _EXPIRY_BYTES :]
        expires_s = int.from_bytes(head[_NONCE_BYTES:], "big")
        return hmac.compare_digest(mac, self._mac(principal, head)) and self._clock.now_ns() < expires_s * NS_PER_S

    def _mac(self, principal: Principal, head: bytes) -> bytes:
        return hmac.new(self._secret, CHALLENGE_TAG + principal.user_id.encode() + b"\x00" + head, "sha256").digest()


def _algorithms() -> list[Any]:
    from webauthn.helpers.cose import COSEAlgorithmIdentifier

    return [COSEAlgorithmIdentifier.ECDSA_SHA_256, COSEAlgorithmIdentifier.EDDSA]


def _public_key(cose_key: bytes) -> tuple[str, bytes]:
    """The algorithm and the key as the roster has them. Raises RefusalError."""
    from webauthn.helpers import decode_credential_public_key
    from webauthn.helpers.decode_credential_public_key import DecodedEC2PublicKey, DecodedOKPPublicKey

    match decode_credential_public_key(cose_key):
        case DecodedEC2PublicKey(x=x, y=y):
            return ES256, b"\x04" + x + y
        case DecodedOKPPublicKey(x=x):
            return EDDSA, x
        case _:
            raise refuse(ReasonCode.REQUEST_INVALID, "A passkey is ES256 or EdDSA here. Use another authenticator.")


def _as_json(options: Any) -> dict[str, Any]:
    import webauthn

    content: dict[str, Any] = json.loads(webauthn.options_to_json(options))
    return content
