"""Loosen the kill switch on the engine's host: `python -m core.runtime.thaw --reason "..."`.

Signs a thaw with the root key (secrets/root.key, or --root-key) and leaves it where the running engine looks for it.
Remove VELOZ_HOME/run/KILL first: while that file is there, the engine stays HALTED.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

import msgspec

from core.authority.thaw import Thaw, sign_thaw
from core.config import ConfigurationError, Settings, load_settings
from core.risk.kill_switch import KillSwitch
from core.types.clock import Clock, SystemClock

THAW_NAME = "thaw.json"
KILL_NAME = "KILL"


def thaw_file(settings: Settings) -> Path:
    return settings.paths.run / THAW_NAME


def kill_file(settings: Settings) -> Path:
    """Its presence halts the engine, whatever else works (I10)."""
    return settings.paths.run / KILL_NAME


def write_thaw(
    settings: Settings, root_seed_hex: str, state: KillSwitch, requested_by: str, reason: str, clock: Clock
) -> Path:
    """Leave a signed thaw for the engine of this VELOZ_HOME. Raises OSError, and ValueError for a bad key."""
    thaw = Thaw(settings.engine.engine_id, state, requested_by, reason, str(clock.now_ns()))
    path = thaw_file(settings)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(sign_thaw(root_seed_hex, thaw)))
    os.replace(temporary, path)
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m core.runtime.thaw", description=__doc__)
    parser.add_argument("--reason", required=True)
    parser.add_argument("--state", choices=[KillSwitch.NORMAL, KillSwitch.REDUCE_ONLY], default=KillSwitch.NORMAL)
    parser.add_argument("--root-key", type=Path, help="file with the root key's seed in hex")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
        seed = options.root_key.read_text().strip() if options.root_key else settings.read_secret("root.key")
        if kill_file(settings).exists():
            print(f"{kill_file(settings)} halts the engine as long as it exists; remove it first", file=sys.stderr)
            return 1
        path = write_thaw(settings, seed, KillSwitch(options.state), getpass.getuser(), options.reason, SystemClock())
    except (ConfigurationError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path} is signed; the running engine takes it within a second, see its log")
    return 0


if __name__ == "__main__":
    sys.exit(main())
