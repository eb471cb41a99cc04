"""Which orders are open, held, in a group or of a parent: kept up with each change of an order, and its undoing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heappop, heappush

from core.kernel.records import InstrumentKey, PositionKey
from core.orders.machine import Order
from core.types.orders import FINAL_STATUSES, OrderStatus

_WORKING = frozenset(OrderStatus) - FINAL_STATUSES - {OrderStatus.HELD}


class Expiring:
    """Which keys of a table are over, without a look at the others. Kept up with each change, undone ones too."""

    def __init__(self) -> None:
        self._moments: list[tuple[int, str]] = []

    def expires(self, key: str, at_ns: int) -> None:
        heappush(self._moments, (at_ns, key))

    def due(self, now_ns: int, expires_ns_of: Callable[[str], int | None]) -> list[str]:
        """Each once; what was changed or removed since is passed over. Whoever asks removes them."""
        found: dict[str, None] = {}
        while self._moments and self._moments[0][0] <= now_ns:
            at_ns, key = heappop(self._moments)
            if expires_ns_of(key) == at_ns:
                found[key] = None
        return list(found)


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
        self._ended: dict[int, list[str]] = {}
        """Every order that became final, by its updated_ns; what isn't so any more is passed over."""
        self._moments: list[int] = []
        """The heap of those times: far fewer than orders, where those of one batch end at one time."""
        self.open_by_market: dict[PositionKey, dict[str, None]] = {}
        self._held_by_market: dict[InstrumentKey, dict[str, None]] = {}

    def open_in(self, market: PositionKey) -> tuple[str, ...]:
        return tuple(self.open_by_market.get(market, ()))

    def held_in(self, instrument: InstrumentKey) -> tuple[str, ...]:
        return tuple(self._held_by_market.get(instrument, ()))

    def oldest_final(self, count: int, orders: Mapping[str, Order], until_ns: int) -> list[str]:
        """The final orders that were touched longest ago and until then; of those of one time the first by id. Each is
        given once, unless keep_final says."""
        found: list[str] = []
        while self._moments and len(found) < count and self._moments[0] <= until_ns:
            updated_ns, final = self._moments[0], self.final
            ended = self._ended[updated_ns]
            left = count - len(found)
            if len(ended) > left:
                ended.sort()
            # An order may stand here twice, when its end was undone meanwhile.
            so = {name: None for name in ended if name in final and orders[name].updated_ns == updated_ns}
            names = list(so)
            found += names[:left]
            if len(names) > left:
                self._ended[updated_ns] = names[left:]
            else:
                del self._ended[updated_ns]
                heappop(self._moments)
        return found

    def keep_final(self, order: Order) -> None:
        """Give it again the next time."""
        ended = self._ended.get(order.updated_ns)
        if ended is None:
            ended = self._ended[order.updated_ns] = []
            heappush(self._moments, order.updated_ns)
        ended.append(order.intent.client_order_id)

    def order_changed(self, order_id: str, old: Order | None, new: Order | None) -> None:
        if old is not None and new is not None and old.status in _WORKING and new.status in _WORKING:
            # Most changes: nothing that is asked for here.
            return
        if old is None and new is not None and new.status in _WORKING and _stands_alone(new):
            # Most orders begin so.
            intent = new.intent
            self.open[order_id] = None
            self.open_by_market.setdefault((intent.account_id, intent.venue, intent.symbol), {})[order_id] = None
            return
        if new is not None and new.status.is_final:
            self.keep_final(new)
        known = new or old
        assert known is not None
        intent = known.intent
        is_open = new is not None and not new.status.is_final
        if (old is not None and not old.status.is_final) != is_open:
            market = self.open_by_market.setdefault((intent.account_id, intent.venue, intent.symbol), {})
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


def _stands_alone(order: Order) -> bool:
    return order.group_id is None and order.parent_id is None and order.replaces is None


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
