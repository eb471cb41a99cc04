"""Where state lives under VELOZ_HOME."""

from __future__ import annotations

import os
from pathlib import Path

ROOT_HOME = Path("/var/lib/veloz")


def default_home() -> Path:
    """VELOZ_HOME, else ~/.veloz; for root a folder that its unprivileged children can reach."""
    configured = os.environ.get("VELOZ_HOME")
    if configured:
        return Path(configured).expanduser().absolute()
    return ROOT_HOME if os.geteuid() == 0 else Path.home() / ".veloz"


class HomePaths:
    """The layout of one VELOZ_HOME. Nothing here creates anything."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config_file = home / "veloz.toml"
        self.risk_file = home / "risk.toml"
        self.policy_file = home / "policy.toml"
        self.secrets = home / "secrets"
        self.demo_logins = home / "demo-logins.json"
        self.postgres = home / "postgres"
        self.nats = home / "nats"
        self.journal = home / "journal"
        self.logs = home / "logs"
        self.run = home / "run"
        self.service_file = home / "run" / "service.json"
        self.lock_file = home / "run" / "supervisor.lock"

    def secret(self, name: str) -> Path:
        """The file (mode 0600) that holds one secret, e.g. ``nats.token``."""
        return self.secrets / name
