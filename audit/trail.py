"""The easy way to write to the audit trail: says who, what and how it ended; the rest is filled in."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

from audit._inserts import SealedResult
from audit.keys import KeyUnusableError, PersonErasedError, PersonKeys
from audit.ports import AuditSink
from audit.record import Action, AuditRecord, PersonField
from core.storage.database import DatabaseUnavailableError
from core.text.canonical import is_text_only
from core.types.clock import Clock, format_utc_us
from core.types.codes import ReasonCode, refuse
from core.types.ids import IdSource
from core.types.money import decimal_text

SYSTEM_CLOCK_SOURCE = "system"


class AuditTrail:
    """Builds records and appends them."""

    def __init__(
        self,
        sink: AuditSink,
        person_keys: PersonKeys,
        clock: Clock,
        ids: IdSource,
        clock_source: str = SYSTEM_CLOCK_SOURCE,
    ) -> None:
        self._sink = sink
        self._person_keys = person_keys
        self._clock = clock
        self._ids = ids
        self._clock_source = clock_source

    async def record(
        self,
        *,
        action: Action,
        actor: str,
        resource: str,
        outcome: str,
        trace_id: str,
        actor_identity: str | None = None,
        on_behalf_of: str | None = None,
        account_id: str | None = None,
        run_id: str | None = None,
        suggestion_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
        payload_digest: str | None = None,
        result: SealedResult | None = None,
    ) -> str:
        """Append one record and return its id once it is durable.

        actor is a stable pseudonym (a user id); actor_identity is the name behind it, which is sealed under the
        actor's own key. outcome is ``ok`` or a ReasonCode. payload may hold ints, Decimals, enums and structs, which
        become text; a float raises TypeError. A tool's sealed result becomes durable in the same commit.
        Raises RefusalError: SERVICE_AUDIT_UNAVAILABLE (refuse the action then), and REQUEST_INVALID when the result's
        call id was used before.
        """
        occurred_ns = self._clock.now_ns()
        record = AuditRecord(
            record_id=self._ids.new_ulid(),
            occurred_at=format_utc_us(occurred_ns),
            occurred_at_ns=str(occurred_ns),
            clock_source=self._clock_source,
            actor=actor,
            actor_identity=await self._seal(actor, actor_identity),
            on_behalf_of=on_behalf_of,
            action=action,
            resource=resource,
            outcome=outcome,
            trace_id=trace_id,
            account_id=account_id,
            run_id=run_id,
            suggestion_id=suggestion_id,
            payload=_text_payload(dict(payload or {})),
            payload_digest=payload_digest,
        )
        await self._sink.append(record, result)
        return record.record_id

    async def _seal(self, person: str, identity: str | None) -> PersonField | None:
        if identity is None:
            return None
        try:
            return self._person_keys.seal_at_once(person, identity) or await self._person_keys.seal(person, identity)
        except PersonErasedError:
            return None  # the record stands under the pseudonym alone
        except (DatabaseUnavailableError, KeyUnusableError, ValueError) as error:
            raise refuse(
                ReasonCode.SERVICE_AUDIT_UNAVAILABLE,
                f"The audit record could not be sealed ({error}), so the action is refused.",
            ) from error


def _text_payload(payload: dict[str, Any]) -> dict[str, Any]:
    if is_text_only(payload):
        return payload
    out: dict[str, Any] = as_text(payload)
    return out


def as_text(value: Any) -> Any:
    """value with every number as text, for a payload. Raises TypeError for a float and for what JSON can't hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return as_text(value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, Mapping):
        return {str(name): as_text(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_text(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {name: as_text(getattr(value, name)) for name in value.__struct_fields__}
    raise TypeError(f"an audit payload can't hold {type(value).__name__}: {value!r}")
