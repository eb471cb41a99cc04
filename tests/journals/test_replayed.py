"""Journals of every release are replayed, to the orders and positions that their own engines had."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.kernel.kernel import Kernel
from core.runtime.recovery import recover
from core.storage.journal import Journal
from core.storage.journal_files import PosixFolder
from core.storage.journal_verify import verify_journal
from core.types.events import KillSwitchChanged, encode_event
from tests.journals.kept import expected, meaning, names, unpack


def opened(name: str, folder: Path) -> Journal:
    return Journal.open(unpack(name, folder), expected(name)["engine_id"], inline=True)


def test_the_first_format_and_the_present_one_are_kept() -> None:
    assert names() == ["2026-11-22-schema-1", "2026-11-28-schema-2"]


@pytest.mark.parametrize("name", names())
def test_a_kept_journal_means_what_it_always_meant(name: str, tmp_path: Path) -> None:
    journal = opened(name, tmp_path)
    assert journal.torn_tail is None
    kernel = Kernel()
    kernel.replay(entry.event() for entry in journal.entries())
    assert meaning(journal, kernel) == expected(name)


@pytest.mark.parametrize("name", names())
def test_a_kept_journal_goes_on_and_is_whole(name: str, tmp_path: Path) -> None:
    journal = opened(name, tmp_path)
    kernel = recover(PosixFolder(tmp_path), journal)
    more = KillSwitchChanged(
        ts_ns=kernel.last_ts_ns + 1, state="HALTED", requested_by="user-trader", reason="a later release"
    )
    journal.begin([encode_event(more)]).result()
    kernel.apply(more)
    result = verify_journal(PosixFolder(tmp_path), None)
    assert (result.problems, result.last_sequence) == ((), expected(name)["records"] + 1)

    later = Kernel()
    later.replay(entry.event() for entry in journal.entries())
    assert later.state_digest() == kernel.state_digest()
    assert Kernel.from_snapshot(later.snapshot()).state_digest() == kernel.state_digest()
