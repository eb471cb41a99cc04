"""The ledger's projections for the gateway's tools, inside one account. Implements tools.ports.TradingHistory."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Row, text

from api.moments import to_ns
from api.transactions import Transactions
from core.risk.checks import share_used_percent
from core.types.codes import Refusal
from core.types.events import RiskCheckRecord
from core.types.orders import OrderStatus, OrderType, Side, TimeInForce
from core.types.views import OrderView, RiskCheckView
from tools.ports import FeeRow, FillRow, FundingRow, RefusalRow, ResultRow

DEFAULT_TIME_ZONE = "UTC"

# An account_id goes into every statement beside row-level security: one caller may see several accounts.
_TIME_ZONE = text("SELECT time_zone FROM accounts WHERE id = :account_id")
_ORDER = text(
    """
    SELECT account_id, symbol, client_order_id, venue_order_id, side, order_type, time_in_force, quantity, price,
           filled_quantity, filled_notional, status, suggestion_id, created_at, updated_at, venue, stop_price,
           activation_price, trailing_offset_bps, expires_at, post_only, reduce_only, strategy_id, authority,
           authority_id, group_id, role, parent_id, replaces, cancel_requested_by, notional_quote, price_scale,
           CAST(refusal AS text) AS refusal
    FROM orders WHERE client_order_id = :client_order_id AND account_id = :account_id
    """
)
_FILLS = text(
    """
    SELECT sequence, venue, symbol, trade_id, client_order_id, strategy_id, side, price, quantity, fee, fee_asset,
           fee_quote, realised_pnl, is_maker, inferred, traded_at
    FROM fills
    WHERE account_id = :account_id
      AND (CAST(:symbol AS text) IS NULL OR symbol = :symbol)
      AND (CAST(:strategy_id AS text) IS NULL OR strategy_id = :strategy_id)
      AND (CAST(:client_order_id AS text) IS NULL OR client_order_id = :client_order_id)
      AND (CAST(:before AS bigint) IS NULL OR sequence < :before)
    ORDER BY sequence DESC LIMIT :limit
    """
)
_DAYS = """
    FROM {table} JOIN accounts a ON a.id = {table}.account_id
    WHERE {table}.account_id = :account_id
      AND {at} >= CAST(:from_day AS timestamp) AT TIME ZONE a.time_zone
      AND {at} < (CAST(:to_day AS timestamp) + interval '1 day') AT TIME ZONE a.time_zone
"""
_IN_FILLS = _DAYS.format(table="fills", at="traded_at")
_IN_FUNDING = _DAYS.format(table="funding", at="settled_at")
_RESULTS = text(
    f"""
    SELECT CAST((traded_at AT TIME ZONE a.time_zone)::date AS text) AS day, symbol, strategy_id, count(*) AS fills,
           count(*) FILTER (WHERE realised_pnl IS NULL) AS unmeasured, sum(price * quantity) AS turnover,
           coalesce(sum(realised_pnl), 0) AS realised_pnl,
           coalesce(sum(strategy_realised_pnl), 0) AS strategy_realised_pnl, coalesce(sum(fee_quote), 0) AS fees
    {_IN_FILLS} GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 3 LIMIT :limit
    """
)
_FEES = text(
    f"""
    SELECT CAST((traded_at AT TIME ZONE a.time_zone)::date AS text) AS day, symbol, fee_asset AS asset,
           count(*) AS fills, coalesce(sum(fee) FILTER (WHERE is_maker), 0) AS maker,
           coalesce(sum(fee) FILTER (WHERE NOT is_maker), 0) AS taker,
           CASE WHEN count(*) = count(fee_quote) THEN sum(fee_quote) END AS fee_quote
    {_IN_FILLS} GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 3 LIMIT :limit
    """
)
_FUNDING = text(
    f"""
    SELECT CAST((settled_at AT TIME ZONE a.time_zone)::date AS text) AS day, symbol, asset, sum(amount) AS amount
    {_IN_FUNDING} GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 3 LIMIT :limit
    """
)
# Newest first over what the engine refused at once, what it refused at sending, and what the venue refused.
_REFUSALS = text(
    """
    SELECT * FROM (
        SELECT CASE WHEN r.request::jsonb ->> 'client_order_id' <> '' THEN 'amendment' ELSE 'order' END AS kind,
               coalesce(nullif(r.request::jsonb ->> 'request_id', ''), CAST(r.sequence AS text)) AS reference,
               r.symbol, CAST(r.refusal AS text) AS refusal, CAST(r.checks AS text) AS checks, r.rules_version,
               r.refused_at AS decided_at
        FROM order_refusals r
        WHERE r.account_id = :account_id
          AND (CAST(:reference AS text) IS NULL
               OR :reference IN (CAST(r.sequence AS text), r.request::jsonb ->> 'request_id',
                                 r.request::jsonb ->> 'client_order_id'))
        UNION ALL
        SELECT 'approval', c.suggestion_id, '', CAST(c.refusal AS text), CAST(c.checks AS text), NULL, c.consumed_at
        FROM consumed_approvals c
        WHERE c.account_id = :account_id AND c.refusal IS NOT NULL
          AND (CAST(:reference AS text) IS NULL OR :reference IN (c.suggestion_id, CAST(c.sequence AS text)))
        UNION ALL
        SELECT 'venue', o.client_order_id, o.symbol, CAST(o.refusal AS text), CAST(o.checks AS text), o.rules_version,
               o.updated_at
        FROM orders o
        WHERE o.account_id = :account_id AND o.refusal IS NOT NULL
          AND (CAST(:reference AS text) IS NULL OR :reference IN (o.client_order_id, o.suggestion_id, o.authority_id))
    ) refusals ORDER BY decided_at DESC LIMIT 1
    """
)


class SqlTradingHistory:
    """Every read names its account, and its transaction sees no other."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def time_zone(self, account_id: str) -> str:
        async with self._transactions((account_id,)) as connection:
            zone: str | None = await connection.scalar(_TIME_ZONE, {"account_id": account_id})
        return zone or DEFAULT_TIME_ZONE

    async def order(self, account_id: str, client_order_id: str) -> OrderView | None:
        keys = {"account_id": account_id, "client_order_id": client_order_id}
        async with self._transactions((account_id,)) as connection:
            row = (await connection.execute(_ORDER, keys)).one_or_none()
        return None if row is None else _order(row)

    async def fills(
        self,
        account_id: str,
        *,
        symbol: str | None = None,
        strategy_id: str | None = None,
        client_order_id: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[FillRow]:
        parameters = {
            "account_id": account_id,
            "symbol": symbol,
            "strategy_id": strategy_id,
            "client_order_id": client_order_id,
            "before": before,
            "limit": limit,
        }
        async with self._transactions((account_id,)) as connection:
            rows = (await connection.execute(_FILLS, parameters)).all()
        return [_fill(row) for row in rows]

    async def results(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[ResultRow]:
        return [ResultRow(**row._mapping) for row in await self._by_day(_RESULTS, account_id, from_day, to_day, limit)]

    async def fees(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[FeeRow]:
        return [FeeRow(**row._mapping) for row in await self._by_day(_FEES, account_id, from_day, to_day, limit)]

    async def funding(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[FundingRow]:
        return [FundingRow(**row._mapping) for row in await self._by_day(_FUNDING, account_id, from_day, to_day, limit)]

    async def refusal(self, account_id: str, reference: str | None) -> RefusalRow | None:
        keys = {"account_id": account_id, "reference": reference}
        async with self._transactions((account_id,)) as connection:
            row = (await connection.execute(_REFUSALS, keys)).one_or_none()
        return None if row is None else _refusal(row)

    async def _by_day(self, statement: Any, account_id: str, from_day: str, to_day: str, limit: int) -> list[Row[Any]]:
        parameters = {
            "account_id": account_id,
            "from_day": date.fromisoformat(from_day),
            "to_day": date.fromisoformat(to_day),
            "limit": limit + 1,
        }
        async with self._transactions((account_id,)) as connection:
            return list((await connection.execute(statement, parameters)).all())


def _fill(row: Row[Any]) -> FillRow:
    values = dict(row._mapping)
    return FillRow(traded_ns=to_ns(values.pop("traded_at")), **values)


def _order(row: Row[Any]) -> OrderView:
    average = None
    if row.filled_quantity:
        average = (row.filled_notional / row.filled_quantity).quantize(Decimal(1).scaleb(-row.price_scale))
    return OrderView(
        account_id=row.account_id,
        symbol=row.symbol,
        client_order_id=row.client_order_id,
        venue_order_id=row.venue_order_id,
        side=Side(row.side),
        order_type=OrderType(row.order_type),
        time_in_force=TimeInForce(row.time_in_force),
        quantity=row.quantity,
        price=row.price,
        filled_quantity=row.filled_quantity,
        average_fill_price=average,
        status=OrderStatus(row.status),
        suggestion_id=row.suggestion_id,
        created_ns=to_ns(row.created_at),
        as_of_ns=to_ns(row.updated_at),
        venue=row.venue,
        stop_price=row.stop_price,
        activation_price=row.activation_price,
        trailing_offset_bps=row.trailing_offset_bps,
        expires_ns=None if row.expires_at is None else to_ns(row.expires_at),
        post_only=row.post_only,
        reduce_only=row.reduce_only,
        strategy_id=row.strategy_id,
        authority=row.authority,
        authority_id=row.authority_id,
        group_id=row.group_id,
        role=row.role,
        parent_id=row.parent_id,
        replaces=row.replaces,
        cancel_requested=row.cancel_requested_by is not None,
        notional_quote=row.notional_quote,
        refusal=None if row.refusal is None else msgspec.json.decode(row.refusal, type=Refusal),
    )


def _refusal(row: Row[Any]) -> RefusalRow:
    refusal = msgspec.json.decode(row.refusal, type=Refusal)
    records = [RiskCheckRecord(**check) for check in msgspec.json.decode(row.checks or "[]")]
    return RefusalRow(
        kind=row.kind,
        reference=row.reference,
        symbol=row.symbol,
        code=refusal.code.value,
        refusal=refusal,
        checks=tuple(
            RiskCheckView(r.name, r.passed, r.limit, r.actual, r.unit, r.source, share_used_percent(r)) for r in records
        ),
        rules_version=row.rules_version,
        decided_ns=to_ns(row.decided_at),
    )
