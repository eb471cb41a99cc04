"""Tables that can be undone, digested and loaded again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.kernel import state
from core.kernel.state import State, Table

CHANGES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.none() | st.text(max_size=3)), max_size=30)


class Fixture:
    """Two tables, and an index that only hears of changes."""

    def __init__(self) -> None:
        self.index: dict[tuple[str, int], str] = {}
        self.tables: dict[str, Table[int, str]] = {name: self._table(name) for name in "ab"}
        self.state = State(tuple(self.tables.values()))

    def put(self, changes: list[tuple[str, int, str | None]]) -> None:
        for name, key, value in changes:
            self.state.put(self.tables[name], key, value)
            self.state.sequence += 1

    def content(self) -> dict[str, Any]:
        return {name: dict(table) for name, table in self.tables.items()}

    def _table(self, name: str) -> Table[int, str]:
        def changed(key: int, old: str | None, new: str | None) -> None:
            assert self.index.pop((name, key), None) == old
            if new is not None:
                self.index[name, key] = new

        return Table(name, int, str, changed)


@given(CHANGES, CHANGES, CHANGES)
def test_a_rollback_restores_rows_indexes_and_the_digest(before: list[Any], kept: list[Any], undone: list[Any]) -> None:
    fixture = Fixture()
    fixture.put(before)
    fixture.state.begin()
    fixture.put(kept)
    digest, content, index = fixture.state.digest(), fixture.content(), dict(fixture.index)
    there = fixture.state.savepoint()
    fixture.put(undone)
    fixture.state.digest()
    fixture.state.rollback(there)
    assert (fixture.content(), fixture.index, fixture.state.digest()) == (content, index, digest)
    fixture.state.commit()
    assert fixture.state.digest() == digest


@given(CHANGES, st.integers(0, 30))
def test_the_digest_kept_up_to_date_is_that_of_the_same_rows_from_nothing(changes: list[Any], asked_at: int) -> None:
    fixture, other = Fixture(), Fixture()
    fixture.put(changes[:asked_at])
    fixture.state.digest()
    fixture.put(changes[asked_at:])
    other.put([(name, key, value) for name, rows in fixture.content().items() for key, value in reversed(rows.items())])
    other.state.sequence = fixture.state.sequence
    assert fixture.state.digest() == other.state.digest()


@given(CHANGES, CHANGES)
def test_different_rows_have_different_digests(first: list[Any], second: list[Any]) -> None:
    one, two = Fixture(), Fixture()
    one.put(first)
    two.put(second)
    two.state.sequence = one.state.sequence
    assert (one.state.digest() == two.state.digest()) == (one.content() == two.content())


@given(CHANGES)
def test_what_was_dumped_loads_the_same(changes: list[Any]) -> None:
    fixture, other = Fixture(), Fixture()
    fixture.put(changes)
    dumped = msgspec.msgpack.decode(msgspec.msgpack.encode(fixture.state.dump()), type=dict[str, bytes])
    other.state.load(dumped, fixture.state.sequence, 0)
    assert other.content() == fixture.content()
    assert other.index == fixture.index
    assert other.state.digest() == fixture.state.digest()


@given(CHANGES, CHANGES)
def test_a_digest_that_nobody_asks_for_costs_no_memory_and_is_the_same(first: list[Any], then: list[Any]) -> None:
    """given more changed rows between two digests than are kept track of, the next one begins anew."""
    fixture, other = Fixture(), Fixture()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "DIRTY_LIMIT_ROWS", 3)
        fixture.put(first)
        fixture.state.digest()
        fixture.put(then)
        assert len(fixture.state._dirty) <= 3
        digest = fixture.state.digest()
    other.put([*first, *then])
    assert digest == other.state.digest()
