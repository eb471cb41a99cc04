"""Keys of people on this machine: found by their public half in the engine's roster."""

from __future__ import annotations

from pathlib import Path

import msgspec

from api.cli.key_files import load_key
from api.cli.session import EXIT_REFUSED, EXIT_USAGE, CommandError
from core.authority.signatures import public_key_hex
from core.config import Settings
from core.types.views import RosterEntryView, RosterView

DEMO_TRADER_KEY = "demo-trader.key"
DEMO_APPROVER_KEY = "demo-approver.key"


class EnrolledKey(msgspec.Struct, frozen=True):
    """A seed in hex and its entry in the roster."""

    entry: RosterEntryView
    seed_hex: str


def enrolled_key(roster: RosterView, path: Path) -> EnrolledKey:
    """The key in a file with what the engine's roster says of it. Raises CommandError."""
    seed = load_key(path).seed_hex
    public = public_key_hex(seed)
    for entry in roster.entries:
        if entry.public_key_hex == public:
            return EnrolledKey(entry, seed)
    raise CommandError(
        "AUTHORITY_SIGNER_UNKNOWN",
        f"The key in {path} isn't in the engine's roster (version {roster.version}); have {public} enrolled there. "
        "`veloz roster show` lists who is.",
        EXIT_REFUSED,
    )


def default_key(settings: Settings, name: str) -> Path:
    """A demo key of this installation. Raises CommandError when there is none."""
    path = settings.paths.secret(name)
    if not path.exists():
        raise CommandError("KEY_UNREADABLE", "Name the file of your key with --key.", EXIT_USAGE)
    return path
