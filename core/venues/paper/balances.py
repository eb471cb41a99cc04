"""What the account owns, free and locked, as ints at scale 8."""

from __future__ import annotations

import msgspec


class Balance(msgspec.Struct):
    free: int = 0
    locked: int = 0


class Balances:
    """Balances by asset. No operation can make one negative; `changed` collects the assets touched."""

    def __init__(self, free: dict[str, int] | None = None) -> None:
        self._by_asset: dict[str, Balance] = {asset: Balance(amount) for asset, amount in (free or {}).items()}
        self.changed: set[str] = set()

    def restore(self, asset: str, free: int, locked: int) -> None:
        self._by_asset[asset] = Balance(free, locked)

    def of(self, asset: str) -> Balance:
        return self._by_asset.setdefault(asset, Balance())

    def all(self) -> dict[str, Balance]:
        return self._by_asset

    def can_lock(self, asset: str, amount: int) -> bool:
        return self.of(asset).free >= amount

    def lock(self, asset: str, amount: int) -> None:
        balance = self.of(asset)
        assert 0 <= amount <= balance.free, f"locking {amount} of {balance.free} {asset}"
        balance.free -= amount
        balance.locked += amount
        self.changed.add(asset)

    def unlock(self, asset: str, amount: int) -> None:
        balance = self.of(asset)
        assert 0 <= amount <= balance.locked, f"unlocking {amount} of {balance.locked} {asset}"
        balance.locked -= amount
        balance.free += amount
        self.changed.add(asset)

    def spend_locked(self, asset: str, amount: int) -> None:
        balance = self.of(asset)
        assert 0 <= amount <= balance.locked, f"spending {amount} of {balance.locked} locked {asset}"
        balance.locked -= amount
        self.changed.add(asset)

    def credit(self, asset: str, amount: int) -> None:
        assert amount >= 0
        self.of(asset).free += amount
        self.changed.add(asset)
