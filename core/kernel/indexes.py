"""Which orders are open, held, in a group or of a parent: kept up with each change of an order, and its undoing."""

from __future__ import annotations

from core.kernel.records import InstrumentKey, PositionKey
from core.orders.machine import Order
from core.types.orders import OrderStatus


class OrderIndexes:
    """Order ids by what is asked of them; a dict with None values is an ordered set."""

    def __init__(self) -> None:
        self.open: dict[str, None] = {}
        self.final: dict[str, None] = {}
        self.groups: dict[str, tuple[str, ...]] = {}
        self.children: dict[str, tuple[str, ...]] = {}
        self.replacements: dict[str, tuple[str, ...]] = {}
        self.dependent: dict[str, None] = {}
        """Open orders that others have a bearing on: held ones, and those in a group."""
        self._open_by_market: dict[PositionKey, dict[str, None]] = {}
        self._held_by_market: dict[InstrumentKey, dict[str, None]] = {}

    def open_in(self, market: PositionKey) -> tuple[str, ...]:
        return tuple(self._open_by_market.get(market, ()))

    def held_in(self, instrument: InstrumentKey) -> tuple[str, ...]:
        return tuple(self._held_by_market.get(instrument, ()))

    def order_changed(self, order_id: str, old: Order | None, new: Order | None) -> None:
        known = new or old
        assert known is not None
        intent = known.intent
        is_open = new is not None and not new.status.is_final
        if (old is not None and not old.status.is_final) != is_open:
            market = self._open_by_market.setdefault((intent.account_id, intent.venue, intent.symbol), {})
            _put(self.open, order_id, is_in=is_open)
            _put(market, order_id, is_in=is_open)
        is_held = new is not None and new.status is OrderStatus.HELD
        if (old is not None and old.status is OrderStatus.HELD) != is_held:
            _put(self._held_by_market.setdefault((intent.venue, intent.symbol), {}), order_id, is_in=is_held)
        _put(self.dependent, order_id, is_in=is_held or (is_open and known.group_id is not None))
        _put(self.final, order_id, is_in=new is not None and not is_open)
        if old is None or new is None:
            for index, name in (
                (self.groups, known.group_id),
                (self.children, known.parent_id),
                (self.replacements, known.replaces),
            ):
                if name is not None:
                    _list(index, name, order_id, add=new is not None)


def _put(ids: dict[str, None], order_id: str, *, is_in: bool) -> None:
    if is_in:
        ids[order_id] = None
    else:
        ids.pop(order_id, None)


def _list(index: dict[str, tuple[str, ...]], name: str, order_id: str, *, add: bool) -> None:
    rest = tuple(other for other in index.get(name, ()) if other != order_id)
    members = (*rest, order_id) if add else rest
    if members:
        index[name] = members
    else:
        index.pop(name, None)
