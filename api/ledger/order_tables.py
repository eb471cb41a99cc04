"""Orders, fills and positions in SQL, as the journal's order events change them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger.authority import authority_of
from api.ledger.records import NO_ORDER, OrderContext
from api.ledger.statements import insert, json_list, json_text, upsert, utc
from core.portfolio.book import fill_of
from core.portfolio.positions import Position, apply_fill
from core.types.authority import ApprovalAuthority, Authority, MandateAuthority, SessionAuthority
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    JournalEntry,
    MarketInputs,
    OrderAccepted,
    OrderAdopted,
    OrderAmended,
    OrderAmendRefused,
    OrderAmendRequested,
    OrderArmed,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderIntended,
    OrderRefused,
    OrderRejected,
    OrderTrailed,
    OrderTriggered,
    RiskCheckRecord,
    TriggerReached,
    caused_order_id,
    checks_by_name,
)
from core.types.money import from_scaled
from core.types.orders import OrderIntent, OrderStatus

ExistingOrderEvent = (
    OrderTriggered
    | TriggerReached
    | OrderTrailed
    | OrderArmed
    | OrderAmendRequested
    | OrderAmended
    | OrderAmendRefused
    | OrderAccepted
    | OrderRejected
    | OrderBecameUnknown
    | OrderFilled
    | OrderClosed
    | CancelRequested
)
"""What happens to an order that is known already."""

_FIND_ORDER = text(
    """
    SELECT o.account_id, o.suggestion_id, o.trace_id, o.strategy_id, o.authority, o.authority_id, o.price_scale,
           o.quantity_scale, s.run_id
    FROM orders o LEFT JOIN suggestions s ON s.client_order_id = o.client_order_id
    WHERE o.client_order_id = :client_order_id ORDER BY s.version DESC LIMIT 1
    """
)
_INSERT_ORDER = insert(
    "orders",
    """
    client_order_id account_id suggestion_id trace_id venue symbol side order_type time_in_force quantity price status
    venue_order_id engine_id created_sequence updated_sequence created_at updated_at strategy_id post_only reduce_only
    stop_price activation_price trailing_offset_bps expires_at price_scale quantity_scale group_id role parent_id
    replaces authority authority_id notional_quote rules_version armed_quantity
    """,
    "authority_record checks market",
    "(client_order_id) DO NOTHING",
)
_INSERT_REFUSAL = insert(
    "order_refusals",
    "engine_id sequence account_id venue symbol request authority authority_id code rules_version refused_at",
    "authority_record refusal checks market",
)
_INSERT_CONSUMED = insert(
    "consumed_approvals",
    "engine_id suggestion_id version digest account_id asker_id client_order_id sequence consumed_at",
    "refusal checks signatures",
)
# only_from: the status moves only from these; empty for all. A fill that was projected already adds nothing. An order
# that is amended to what it has filled is filled.
_UPDATE_ORDER = text(
    """
    UPDATE orders SET
        status = CASE WHEN CAST(:status AS text) IS NOT NULL
                       AND (:only_from = '' OR status = ANY (string_to_array(:only_from, ','))) THEN :status
                      WHEN CAST(:quantity AS numeric) = filled_quantity THEN 'FILLED'
                      ELSE status END,
        venue_order_id = coalesce(:venue_order_id, venue_order_id),
        refusal = coalesce(CAST(:refusal AS jsonb), refusal),
        filled_quantity = filled_quantity + :filled_quantity,
        filled_notional = filled_notional + :filled_notional,
        quantity = CASE WHEN :is_triggered THEN coalesce(armed_quantity, quantity)
                        ELSE coalesce(CAST(:quantity AS numeric), quantity) END,
        armed_quantity = coalesce(CAST(:armed_quantity AS numeric), armed_quantity),
        price = coalesce(CAST(:price AS numeric), price),
        extreme_price = coalesce(CAST(:extreme_price AS numeric), extreme_price),
        trigger_price = coalesce(CAST(:trigger_price AS numeric), trigger_price),
        amendment = CASE WHEN :ends_amendment THEN NULL ELSE coalesce(CAST(:amendment AS jsonb), amendment) END,
        checks = coalesce(CAST(:checks AS jsonb), checks),
        market = coalesce(CAST(:market AS jsonb), market),
        detail = coalesce(:detail, detail),
        cancel_requested_by = coalesce(:cancel_requested_by, cancel_requested_by),
        updated_sequence = :sequence, updated_at = :at
    WHERE client_order_id = :client_order_id AND updated_sequence < :sequence
    """
)
_NO_CHANGE: dict[str, Any] = {
    "status": None,
    "only_from": "",
    "venue_order_id": None,
    "refusal": None,
    "filled_quantity": Decimal(0),
    "filled_notional": Decimal(0),
    "quantity": None,
    "is_triggered": False,
    "armed_quantity": None,
    "price": None,
    "extreme_price": None,
    "trigger_price": None,
    "ends_amendment": False,
    "amendment": None,
    "checks": None,
    "market": None,
    "detail": None,
    "cancel_requested_by": None,
}
_COUNT_IN_SESSION = text(
    "UPDATE trading_sessions SET orders = orders + 1, notional_quote = notional_quote + :notional_quote "
    "WHERE session_id = :id"
)
_COUNT_IN_MANDATE = text(
    "UPDATE mandates SET orders = orders + 1, notional_quote = notional_quote + :notional_quote WHERE mandate_id = :id"
)
_INSERT_FILL = insert(
    "fills",
    """
    venue symbol trade_id account_id client_order_id trace_id side price quantity fee fee_asset is_maker inferred
    engine_id sequence traded_at strategy_id fee_quote realised_pnl strategy_realised_pnl
    """,
)
_POSITION_COLUMNS = "quantity average_price realised_pnl fees engine_id sequence updated_at"
_UPSERT_POSITION = upsert("positions", "account_id venue symbol", _POSITION_COLUMNS)
_UPSERT_STRATEGY_POSITION = upsert(
    "strategy_positions", "account_id venue symbol strategy_id", f"{_POSITION_COLUMNS} state"
)
_READ_REALISED = text(
    "SELECT realised_pnl FROM positions WHERE account_id = :account_id AND venue = :venue AND symbol = :symbol"
)
_READ_STRATEGY_POSITION = text(
    """
    SELECT state FROM strategy_positions
    WHERE account_id = :account_id AND venue = :venue AND symbol = :symbol AND strategy_id = :strategy_id
    """
)


class OrderScales(msgspec.Struct, frozen=True):
    """What an order event needs of its order: whom it belongs to, and its decimal scales."""

    context: OrderContext
    strategy_id: str
    price_scale: int
    quantity_scale: int


async def find_order(connection: AsyncConnection, client_order_id: str) -> OrderScales | None:
    row = (await connection.execute(_FIND_ORDER, {"client_order_id": client_order_id})).one_or_none()
    if row is None:
        return None
    context = OrderContext(row.account_id, row.suggestion_id, row.run_id, row.trace_id, row.authority, row.authority_id)
    return OrderScales(context, row.strategy_id, row.price_scale, row.quantity_scale)


async def project_approval(connection: AsyncConnection, entry: JournalEntry, event: ApprovalDecided) -> None:
    """The approval's consumption, and the order that it sent to the venue at once."""
    await connection.execute(
        _INSERT_CONSUMED,
        {
            **_stamp(entry),
            "suggestion_id": event.suggestion_id,
            "version": event.version,
            "digest": event.digest_hex,
            "account_id": event.account_id,
            "asker_id": event.asker_id,
            "client_order_id": caused_order_id(event),
            "refusal": json_text(event.refusal),
            "checks": json_list(checks_by_name(event.checks)),
            "signatures": json_list(event.signatures),
            "consumed_at": utc(event.ts_ns),
        },
    )
    if event.intent is not None:
        authority = ApprovalAuthority(event.suggestion_id, event.version, event.digest_hex, event.signatures)
        await _insert_order(
            connection,
            entry,
            event,
            event.intent,
            authority,
            suggestion_id=event.suggestion_id,
            rules_version=event.rules_version,
            checks=event.checks,
            market=event.market,
        )


async def project_intended(connection: AsyncConnection, entry: JournalEntry, event: OrderIntended) -> None:
    """A new order, and what it takes of its session's or its mandate's allowance."""
    inserted = await _insert_order(
        connection,
        entry,
        event,
        event.intent,
        event.authority,
        suggestion_id=event.authority.suggestion_id if isinstance(event.authority, ApprovalAuthority) else None,
        status=OrderStatus.HELD if event.is_held else OrderStatus.INTENDED,
        notional_quote=Decimal(event.notional_quote),
        rules_version=event.rules_version,
        checks=event.checks,
        market=event.market,
        group_id=event.group_id,
        role=event.role,
        parent_id=event.parent_id,
        replaces=event.replaces,
        # A child waits for what its parent fills.
        armed_quantity=0 if event.is_held and event.parent_id and not event.replaces else None,
    )
    if not inserted:
        return
    match event.authority:
        case SessionAuthority(session_id=session_id):
            await connection.execute(
                _COUNT_IN_SESSION, {"id": session_id, "notional_quote": Decimal(event.notional_quote)}
            )
        case MandateAuthority(mandate_id=mandate_id):
            await connection.execute(
                _COUNT_IN_MANDATE, {"id": mandate_id, "notional_quote": Decimal(event.notional_quote)}
            )


async def project_adopted(connection: AsyncConnection, entry: JournalEntry, event: OrderAdopted) -> None:
    await _insert_order(
        connection,
        entry,
        event,
        event.intent,
        event.authority,
        status=OrderStatus.ACCEPTED,
        venue_order_id=event.venue_order_id,
        notional_quote=Decimal(event.notional_quote),
    )


async def project_refused(connection: AsyncConnection, entry: JournalEntry, event: OrderRefused) -> None:
    kind, authority_id = authority_of(event.authority)
    await connection.execute(
        _INSERT_REFUSAL,
        {
            **_stamp(entry),
            "account_id": event.account_id,
            "venue": event.venue,
            "symbol": event.symbol,
            "request": event.request,
            "authority": kind,
            "authority_id": authority_id,
            "code": event.refusal.code.value,
            "rules_version": event.rules_version,
            "refused_at": utc(event.ts_ns),
            "authority_record": json_text(event.authority),
            "refusal": json_text(event.refusal),
            "checks": json_list(checks_by_name(event.checks)),
            "market": json_text(event.market),
        },
    )


async def project_order_event(
    connection: AsyncConnection, entry: JournalEntry, event: ExistingOrderEvent
) -> OrderContext:
    """What the event changes of its order; whom that order belongs to."""
    order = await find_order(connection, event.client_order_id)
    if isinstance(event, OrderFilled):
        await _project_fill(connection, entry, event, order)
    elif order is not None:
        await _update_order(connection, entry, event, _changes(event, order))
    return NO_ORDER if order is None else order.context


def _while_held(event: TriggerReached | OrderTrailed | OrderArmed, order: OrderScales) -> dict[str, Any]:
    match event:
        case TriggerReached():
            return {"trigger_price": from_scaled(event.trigger_price, order.price_scale)}
        case OrderTrailed():
            return {"extreme_price": from_scaled(event.extreme_price, order.price_scale)}
        case OrderArmed():
            return {"armed_quantity": from_scaled(event.quantity, order.quantity_scale)}


def _changes(event: ExistingOrderEvent, order: OrderScales) -> dict[str, Any]:
    """Columns that an event changes, of those in _NO_CHANGE."""
    match event:
        case OrderAccepted():
            only_from = f"{OrderStatus.INTENDED},{OrderStatus.UNKNOWN},{OrderStatus.REJECTED}"
            return {"status": OrderStatus.ACCEPTED, "only_from": only_from, "venue_order_id": event.venue_order_id}
        case OrderRejected():
            return {"status": OrderStatus.REJECTED, "refusal": json_text(event.refusal)}
        case OrderBecameUnknown():
            return {"status": OrderStatus.UNKNOWN, "detail": event.detail}
        case OrderClosed():
            return {"status": event.status, "detail": event.reason}
        case OrderTriggered():
            return {
                "status": OrderStatus.INTENDED,
                "only_from": OrderStatus.HELD.value,
                "is_triggered": True,
                "trigger_price": from_scaled(event.trigger_price, order.price_scale),
                "checks": json_list(checks_by_name(event.checks)),
                "market": json_text(event.market),
            }
        case TriggerReached() | OrderTrailed() | OrderArmed():
            return _while_held(event, order)
        case OrderAmendRequested():
            kind, authority_id = authority_of(event.authority)
            asked = _amendment(event, order) | {"authority": kind, "authority_id": authority_id}
            return {"amendment": json_text(asked)}
        case OrderAmended():
            price = None if event.price is None else from_scaled(event.price, order.price_scale)
            quantity = from_scaled(event.quantity, order.quantity_scale)
            return {"quantity": quantity, "price": price, "ends_amendment": True}
        case OrderAmendRefused():
            return {"ends_amendment": True, "detail": f"amendment refused: {event.refusal.code}"}
        case CancelRequested():
            return {"cancel_requested_by": event.requested_by}
        case _:
            raise AssertionError(f"{type(event).__name__} is projected elsewhere")


def _amendment(event: OrderAmendRequested, order: OrderScales) -> dict[str, Any]:
    return {
        "quantity": str(from_scaled(event.quantity, order.quantity_scale)),
        "price": None if event.price is None else str(from_scaled(event.price, order.price_scale)),
    }


async def _insert_order(
    connection: AsyncConnection,
    entry: JournalEntry,
    event: ApprovalDecided | OrderIntended | OrderAdopted,
    intent: OrderIntent,
    authority: Authority,
    *,
    status: OrderStatus = OrderStatus.INTENDED,
    checks: tuple[RiskCheckRecord, ...] = (),
    market: MarketInputs | None = None,
    **columns: Any,
) -> bool:
    """Whether it wasn't there yet."""
    kind, authority_id = authority_of(authority)
    optional = (
        "suggestion_id",
        "venue_order_id",
        "group_id",
        "role",
        "parent_id",
        "replaces",
        "notional_quote",
        "armed_quantity",
    )
    inserted = await connection.execute(
        _INSERT_ORDER,
        {
            **dict.fromkeys((*optional, "rules_version")),
            **columns,
            "client_order_id": intent.client_order_id,
            "account_id": intent.account_id,
            "trace_id": event.trace_id,
            "venue": intent.venue,
            "symbol": intent.symbol,
            "side": intent.side.value,
            "order_type": intent.order_type.value,
            "time_in_force": intent.time_in_force.value,
            "quantity": from_scaled(intent.quantity, intent.quantity_scale),
            "price": _price(intent.price, intent),
            "status": status.value,
            "engine_id": entry.engine_id,
            "created_sequence": entry.sequence,
            "updated_sequence": entry.sequence,
            "created_at": utc(event.ts_ns),
            "updated_at": utc(event.ts_ns),
            "strategy_id": intent.strategy_id,
            "post_only": intent.post_only,
            "reduce_only": intent.reduce_only,
            "stop_price": _price(intent.stop_price, intent),
            "activation_price": _price(intent.activation_price, intent),
            "trailing_offset_bps": intent.trailing_offset_bps,
            "expires_at": None if intent.expires_ns is None else utc(intent.expires_ns),
            "price_scale": intent.price_scale,
            "quantity_scale": intent.quantity_scale,
            "authority": kind,
            "authority_id": authority_id,
            "authority_record": json_text(authority),
            "checks": json_list(checks_by_name(checks)),
            "market": json_text(market),
        },
    )
    return bool(inserted.rowcount)


async def _project_fill(
    connection: AsyncConnection, entry: JournalEntry, event: OrderFilled, order: OrderScales | None
) -> None:
    price = from_scaled(event.price, event.price_scale)
    quantity = from_scaled(event.quantity, event.quantity_scale)
    strategy_id = order.strategy_id if order else ""
    owner = {"account_id": event.account_id, "venue": event.venue, "symbol": event.symbol}
    strategy = owner | {"strategy_id": strategy_id}
    notional_scale = event.price_scale + event.quantity_scale
    realised_before = await connection.scalar(_READ_REALISED, owner) or Decimal(0)
    before, after = await _strategy_position(connection, event, strategy)
    fee, fee_quote = Decimal(event.fee), from_scaled(event.fee_quote, notional_scale)
    inserted = await connection.execute(
        _INSERT_FILL,
        {
            **owner,
            **_stamp(entry),
            "trade_id": event.trade_id,
            "client_order_id": event.client_order_id,
            "trace_id": event.trace_id or (order.context.trace_id if order else None),
            "side": event.side.value,
            "price": price,
            "quantity": quantity,
            "fee": fee,
            "fee_asset": event.fee_asset,
            # The journal has 0 for a fee in an asset without a value in the quote asset.
            "fee_quote": None if fee and not fee_quote else fee_quote,
            "is_maker": event.is_maker,
            "inferred": event.inferred,
            "traded_at": utc(event.venue_ts_ns),
            "strategy_id": strategy_id,
            "realised_pnl": from_scaled(event.position.realised_pnl, notional_scale) - realised_before,
            "strategy_realised_pnl": from_scaled(after.realised_pnl - before.realised_pnl, notional_scale),
        },
    )
    if inserted.rowcount:
        changes = {
            "status": event.status,
            "venue_order_id": event.venue_order_id,
            "filled_quantity": quantity,
            "filled_notional": price * quantity,
        }
        await _update_order(connection, entry, event, changes)
        await connection.execute(
            _UPSERT_STRATEGY_POSITION,
            strategy
            | _stamp(entry)
            | _position(event, after.quantity, after.average_price, after.realised_pnl, after.fees)
            | {"state": json_text(after)},
        )
    snapshot = event.position
    await connection.execute(
        _UPSERT_POSITION,
        owner
        | _stamp(entry)
        | _position(event, snapshot.quantity, snapshot.average_price, snapshot.realised_pnl, snapshot.fees),
    )


async def _strategy_position(
    connection: AsyncConnection, event: OrderFilled, key: dict[str, str]
) -> tuple[Position, Position]:
    """Before and after the fill, by the same arithmetic as the kernel's: the journal holds only the account's."""
    state = await connection.scalar(_READ_STRATEGY_POSITION, key)
    before = Position() if state is None else msgspec.json.decode(state, type=Position)
    after, _ = apply_fill(before, fill_of(event), "/".join(key.values()))
    return before, after


def _position(event: OrderFilled, quantity: int, average_price: int, realised_pnl: int, fees: int) -> dict[str, Any]:
    notional_scale = event.price_scale + event.quantity_scale
    return {
        "quantity": from_scaled(quantity, event.quantity_scale),
        "average_price": from_scaled(average_price, event.price_scale),
        "realised_pnl": from_scaled(realised_pnl, notional_scale),
        "fees": from_scaled(fees, notional_scale),
        "updated_at": utc(event.ts_ns),
    }


async def _update_order(
    connection: AsyncConnection, entry: JournalEntry, event: ExistingOrderEvent, changes: dict[str, Any]
) -> None:
    await connection.execute(
        _UPDATE_ORDER,
        {
            **_NO_CHANGE,
            **changes,
            "client_order_id": event.client_order_id,
            "sequence": entry.sequence,
            "at": utc(event.ts_ns),
        },
    )


def _stamp(entry: JournalEntry) -> dict[str, Any]:
    return {"engine_id": entry.engine_id, "sequence": entry.sequence}


def _price(value: int | None, intent: OrderIntent) -> Decimal | None:
    return None if value is None else from_scaled(value, intent.price_scale)
