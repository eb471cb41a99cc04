"""The first run: what it leaves, what it keeps, and that it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
from argon2 import PasswordHasher

from api.supervisor import first_run
from core.authority.roster import parse_signed_roster
from core.config import ConfigurationError, HomePaths, Settings
from core.risk.rules import parse_risk_rules
from tests.postgres import PostgresDatabase


def snapshot(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def test_everything_is_private_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    paths = HomePaths(tmp_path / "home")
    first_run.prepare_home(paths)
    before = snapshot(paths.home)
    first_run.prepare_home(paths)
    assert snapshot(paths.home) == before
    assert {path.stat().st_mode & 0o777 for path in paths.home.rglob("*") if path.is_file()} == {0o600}
    assert {folder.stat().st_mode & 0o777 for folder in (paths.secrets, paths.run, paths.logs)} == {0o700}


@pytest.mark.parametrize("kept", range(0, 20, 3))
def test_a_run_cut_off_after_any_file_is_resumed_around_what_exists(tmp_path: Path, kept: int) -> None:
    """given the first `kept` files of a run in the order they were written, when it runs again, then those stay."""
    paths = HomePaths(tmp_path / "home")
    first_run.prepare_home(paths)
    files = sorted((path for path in paths.home.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    for path in files[kept:]:
        path.unlink()
    before = snapshot(paths.home)
    first_run.prepare_home(paths)
    after = snapshot(paths.home)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(files)
    root = paths.secret("root.pub").read_text().strip()
    parse_signed_roster((paths.home / "roster.json").read_bytes(), "roster.json", root)


def test_the_roster_holds_the_demo_keys_for_paper_only_and_the_traders_approves_nothing(tmp_path: Path) -> None:
    paths = HomePaths(tmp_path / "home")
    first_run.prepare_home(paths)
    root = paths.secret("root.pub").read_text().strip()
    roster = parse_signed_roster((paths.home / "roster.json").read_bytes(), "roster.json", root).roster
    assert [
        (entry.key_id, entry.user_id, entry.account_ids, entry.paper_only, entry.approves) for entry in roster.entries
    ] == [
        ("demo-approver", "user-approver", ("acct-demo",), True, True),
        ("demo-trader", "user-trader", ("acct-demo",), True, False),
    ]
    assert roster.two_approvals_above_quote == "1000000"


def test_the_risk_limits_are_ones_the_engine_accepts(tmp_path: Path) -> None:
    paths = HomePaths(tmp_path / "home")
    first_run.prepare_home(paths)
    limits = parse_risk_rules(paths.risk_file.read_text(), "risk.toml").limits_for("acct-demo", "", "BTCUSDT")
    names = ("max_notional_per_order_quote", "price_collar_bps", "max_deviation_bps")
    assert [limits[name].value for name in names] == [1_000_000, 500, 50]


def test_demo_passwords_are_long_and_differ(tmp_path: Path) -> None:
    first_run.prepare_home(HomePaths(tmp_path / "home"))
    passwords = [login["password"] for login in first_run.demo_logins(HomePaths(tmp_path / "home"))]
    assert len(set(passwords)) == 3
    assert min(map(len, passwords)) >= 16


@pytest.fixture
def seeded(tmp_path: Path, postgres: PostgresDatabase) -> Settings:
    settings = postgres.settings(tmp_path / "home")
    first_run.prepare_home(settings.paths)
    first_run.seed_database(settings, postgres.url)
    return settings


def rows(postgres: PostgresDatabase, query: str) -> list[tuple[object, ...]]:
    with postgres.connect("owner") as connection:
        return connection.execute(query).fetchall()


def test_the_demo_tenancy_is_seeded_and_the_passwords_work(seeded: Settings, postgres: PostgresDatabase) -> None:
    hashes = dict(rows(postgres, "SELECT username, password_hash FROM users"))  # type: ignore[arg-type,var-annotated]
    for login in first_run.demo_logins(seeded.paths):
        assert PasswordHasher().verify(hashes[login["username"]], login["password"])
    assert rows(postgres, "SELECT id, venue, key_reference, mode FROM accounts") == [
        ("acct-demo", "paper", "venue-paper", "PAPER")
    ]
    assert len(rows(postgres, "SELECT user_id FROM account_grants WHERE account_id = 'acct-demo'")) == 3


def test_seeding_again_keeps_a_changed_password(seeded: Settings, postgres: PostgresDatabase) -> None:
    with postgres.connect("owner") as connection:
        connection.execute("UPDATE users SET password_hash = 'changed' WHERE username = 'trader'")
    first_run.seed_database(seeded, postgres.url)
    assert rows(postgres, "SELECT password_hash FROM users WHERE username = 'trader'") == [("changed",)]


def test_deleting_the_logins_file_gives_new_passwords_that_work(seeded: Settings, postgres: PostgresDatabase) -> None:
    before = first_run.demo_logins(seeded.paths)
    seeded.paths.demo_logins.unlink()
    first_run.seed_database(seeded, postgres.url)
    after = first_run.demo_logins(seeded.paths)
    assert before[0]["password"] != after[0]["password"]
    hashes = dict(rows(postgres, "SELECT username, password_hash FROM users"))  # type: ignore[arg-type,var-annotated]
    assert PasswordHasher().verify(hashes["trader"], after[0]["password"])


def test_a_missing_secret_is_named(seeded: Settings, postgres: PostgresDatabase) -> None:
    seeded.paths.secret("postgres-owner.password").unlink()
    with pytest.raises(ConfigurationError, match=r"postgres-owner\.password"):
        first_run.seed_database(seeded, postgres.url)
