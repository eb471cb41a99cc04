"""Documents that an administrator signs on this machine, shown by their digest."""

from __future__ import annotations

from core.authority.administration import AdministrationDocument, administration_bytes, sign_administration
from core.types.clock import NS_PER_S
from core.types.ids import SystemIdSource
from core.types.views import EngineStatusView


def signed_administration(
    status: EngineStatusView, kind: str, body: dict[str, str], seed_hex: str, requested_by: str, valid_s: int
) -> tuple[bytes, bytes]:
    """The document's canonical bytes and the signature over them. It holds for valid_s by the engine's clock."""
    document = AdministrationDocument(
        document_id=SystemIdSource().new_ulid(),
        engine_id=status.engine_id,
        kind=kind,
        body=body,
        issued_at_ns=str(status.now_ns),
        expires_at_ns=str(status.now_ns + valid_s * NS_PER_S),
        requested_by=requested_by,
    )
    canonical = administration_bytes(document)
    return canonical, sign_administration(seed_hex, canonical)
