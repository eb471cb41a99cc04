"""Orders, fills and positions by strategy in SQL, inside the asker's account scope (row-level security)."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text

from api.moments import to_ns
from api.transactions import Transactions
from core.types.clock import format_utc_us
from core.types.money import decimal_text

ORDERS_SHOWN_LIMIT = 200
FILLS_SHOWN_LIMIT = 1_000

_COLUMNS = """
    client_order_id, account_id, suggestion_id, trace_id, venue, symbol, side, order_type, time_in_force, quantity,
    price, filled_quantity, filled_notional, status, venue_order_id, CAST(refusal AS text) AS refusal, strategy_id,
    post_only, reduce_only, stop_price, activation_price, trailing_offset_bps, trigger_price, expires_at, group_id,
    role, parent_id, replaces, authority, authority_id, notional_quote, rules_version, detail, cancel_requested_by,
    created_at, updated_at
"""
_LIST = text(
    f"""
    SELECT {_COLUMNS} FROM orders
    WHERE (CAST(:account_id AS text) IS NULL OR account_id = :account_id)
      AND (CAST(:symbol AS text) IS NULL OR symbol = :symbol)
      AND (NOT :only_open OR status NOT IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED'))
    ORDER BY created_at DESC, created_sequence DESC LIMIT :limit
    """  # noqa: S608 constants only
)
_GET = text(
    f"""
    SELECT {_COLUMNS}, CAST(checks AS text) AS checks, CAST(market AS text) AS market,
           CAST(authority_record AS text) AS authority_record, CAST(amendment AS text) AS amendment
    FROM orders WHERE client_order_id = :client_order_id
    """  # noqa: S608 constants only
)
_FILLS = text(
    """
    SELECT trade_id, price, quantity, fee, fee_asset, is_maker, inferred, traded_at FROM fills
    WHERE client_order_id = :client_order_id ORDER BY sequence LIMIT :limit
    """
)
_STRATEGY_POSITIONS = text(
    """
    SELECT account_id, venue, symbol, strategy_id, quantity, average_price, realised_pnl, fees, updated_at
    FROM strategy_positions ORDER BY account_id, venue, symbol, strategy_id
    """
)


class OrdersRepository:
    """What the ledger has projected; rows as plain JSON values, decimals as text."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def listed(
        self,
        account_ids: tuple[str, ...],
        *,
        account_id: str | None = None,
        symbol: str | None = None,
        only_open: bool = False,
        limit: int = ORDERS_SHOWN_LIMIT,
    ) -> list[dict[str, Any]]:
        """Newest first."""
        parameters = {
            "account_id": account_id,
            "symbol": symbol,
            "only_open": only_open,
            "limit": limit,
        }
        async with self._transactions(account_ids) as connection:
            return [_plain(row) for row in await connection.execute(_LIST, parameters)]

    async def get(self, account_ids: tuple[str, ...], client_order_id: str) -> dict[str, Any] | None:
        """One order with its checks, the market they were made on, its authority's record and its fills."""
        async with self._transactions(account_ids) as connection:
            row = (await connection.execute(_GET, {"client_order_id": client_order_id})).one_or_none()
            if row is None:
                return None
            parameters = {"client_order_id": client_order_id, "limit": FILLS_SHOWN_LIMIT}
            fills = [_plain(fill) for fill in await connection.execute(_FILLS, parameters)]
        return _plain(row) | {"fills": fills}

    async def strategy_positions(self, account_ids: tuple[str, ...]) -> list[dict[str, Any]]:
        async with self._transactions(account_ids) as connection:
            return [_plain(row) for row in await connection.execute(_STRATEGY_POSITIONS)]


_JSON_COLUMNS = frozenset({"refusal", "checks", "market", "authority_record", "amendment"})


def _plain(row: Row[Any]) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in row._mapping.items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return format_utc_us(to_ns(value))
    if name in _JSON_COLUMNS and value is not None:
        return json.loads(value)
    return value
