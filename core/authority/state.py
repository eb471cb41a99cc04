"""What the kernel remembers of sessions and mandates: the document, and how much of its allowance is used."""

from __future__ import annotations

from decimal import Context, Decimal

import msgspec

from core.types.authority import Mandate, SessionGrant, SignatureRecord
from core.types.events import MandateInstalled, MandateTightened, SessionOpened
from core.types.money import decimal_text

EXACT = Context(prec=80)


class SessionState(msgspec.Struct, frozen=True):
    """notional_used_quote is decimal text: what all orders under the session were valued at. key_id is whose key signed
    it in."""

    grant: SessionGrant
    opened_ns: int
    orders_used: int = 0
    notional_used_quote: str = "0"
    closed: bool = False
    key_id: str = ""

    @classmethod
    def opened(cls, event: SessionOpened) -> SessionState:
        return cls(event.grant, event.ts_ns, key_id=event.signature.key_id)

    @property
    def user_id(self) -> str:
        return self.grant.user_id

    @property
    def expires_ns(self) -> int:
        return int(self.grant.expires_at_ns)

    def with_order(self, notional_quote: Decimal) -> SessionState:
        return msgspec.structs.replace(
            self,
            orders_used=self.orders_used + 1,
            notional_used_quote=_sum(self.notional_used_quote, notional_quote),
        )

    def with_amendment(self, added_quote: Decimal) -> SessionState:
        return msgspec.structs.replace(self, notional_used_quote=_sum(self.notional_used_quote, added_quote))

    def close(self) -> SessionState:
        return msgspec.structs.replace(self, closed=True)


class MandateState(msgspec.Struct, frozen=True):
    """notional_used_quote is decimal text: what all orders under the mandate were valued at."""

    mandate: Mandate
    digest_hex: str
    installed_ns: int
    orders_used: int = 0
    notional_used_quote: str = "0"
    revoked: bool = False
    signatures: tuple[SignatureRecord, ...] = ()

    @classmethod
    def installed(cls, event: MandateInstalled) -> MandateState:
        return cls(event.mandate, event.digest_hex, event.ts_ns, signatures=event.signatures)

    @property
    def expires_ns(self) -> int:
        return int(self.mandate.expires_at_ns)

    def with_order(self, notional_quote: Decimal) -> MandateState:
        return msgspec.structs.replace(
            self,
            orders_used=self.orders_used + 1,
            notional_used_quote=_sum(self.notional_used_quote, notional_quote),
        )

    def with_amendment(self, added_quote: Decimal) -> MandateState:
        return msgspec.structs.replace(self, notional_used_quote=_sum(self.notional_used_quote, added_quote))

    def tighten(self, event: MandateTightened) -> MandateState:
        limits = {
            name: getattr(event, name)
            for name in (
                "max_order_notional_quote",
                "max_position_notional_quote",
                "max_total_notional_quote",
                "max_open_orders",
            )
        }
        return msgspec.structs.replace(self, mandate=msgspec.structs.replace(self.mandate, **limits))

    def revoke(self) -> MandateState:
        return msgspec.structs.replace(self, revoked=True)


def _sum(text: str, amount: Decimal) -> str:
    return decimal_text(EXACT.add(Decimal(text), amount))
