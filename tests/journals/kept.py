"""Journals that engines of earlier releases wrote, and what they have to mean for ever.

    python -m tests.journals.kept <journal folder> <name>

keeps one more: do that at each release, and whenever the vocabulary of events grows. What is pinned is what a trader
would miss: records and their chain, orders, positions, the kill switch. State digests may change by release, so those
aren't pinned; that two ways to the state have the same one is tested.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path
from typing import Any

from core.kernel.kernel import Kernel
from core.storage.journal import Journal
from core.storage.journal_archive import read_archived
from core.storage.journal_files import SEGMENT_SUFFIX, PosixFolder
from core.storage.journal_verify import verify_journal

ROOT = Path(__file__).parent
PACKED = SEGMENT_SUFFIX + ".xz"
EXPECTED = "expected.json"


def names() -> list[str]:
    """The journals that are kept, oldest first."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{EXPECTED}"))


def expected(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / name / EXPECTED).read_text())
    return content


def unpack(name: str, to: Path) -> PosixFolder:
    """A copy of the journal as an engine finds it."""
    folder = PosixFolder(to)
    for packed in sorted((ROOT / name).glob(f"*{PACKED}")):
        (to / packed.name.removesuffix(".xz")).write_bytes(lzma.decompress(packed.read_bytes()))
    return folder


def meaning(journal: Journal, kernel: Kernel) -> dict[str, Any]:
    """What a journal holds, as JSON has it."""
    return {
        "engine_id": kernel.engine_id,
        "records": journal.sequence,
        "head_hash_hex": journal.head.hash.hex(),
        "kill_switch": str(kernel.kill_switch),
        "roster_version": kernel.roster.version,
        "consumed": dict(sorted(kernel.consumed.items())),
        "sessions": {name: session.orders_used for name, session in sorted(kernel.sessions.items())},
        "orders": {
            order_id: [str(order.status), order.intent.quantity, order.filled_quantity, order.venue_order_id]
            for order_id, order in sorted(kernel.orders.items())
        },
        "positions": {
            "/".join(key): [position.quantity, position.cost, position.realised_pnl, position.fees]
            for key, position in sorted(kernel.positions.items())
        },
    }


def keep(source: Path, name: str) -> None:
    """Pack a journal that no engine writes, and pin what it means to this release."""
    target = ROOT / name
    target.mkdir()
    for segment in sorted(source.glob(f"*{SEGMENT_SUFFIX}")):
        (target / f"{segment.name}.xz").write_bytes(lzma.compress(segment.read_bytes(), preset=9))
    folder = PosixFolder(source)
    assert not verify_journal(folder, None).problems
    engine_id = next(read_archived(folder)).engine_id
    journal = Journal.open(folder, engine_id, inline=True)
    kernel = Kernel()
    kernel.replay(entry.event() for entry in journal.entries())
    (target / EXPECTED).write_text(json.dumps(meaning(journal, kernel), indent=1) + "\n")


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2])
