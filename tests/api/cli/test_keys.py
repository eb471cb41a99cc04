"""An approver's own key: made, kept, enrolled under the root key, used, revoked. Against a real engine."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from api.cli import key_files
from api.cli.app import app
from api.cli.key_files import load_key, seal
from api.cli.session import CommandError
from core.authority.enrolment import fingerprint
from core.authority.proposal import Proposal, proposal_bytes, proposal_digest
from core.authority.roster import parse_signed_roster
from core.authority.signatures import public_key_hex, sign_digest
from core.types.ids import SystemIdSource, new_trace
from tests.api.told import told
from tests.core.approvals import APPROVER_SEED, ROOT_SEED
from tests.core.authority.authenticator import Authenticator
from tests.core.engine_support import RunningEngine, engine, home, settings, venue

__all__ = ["engine", "home", "settings", "venue"]

Veloz = Callable[..., Awaitable[Any]]
WORDS = "correct horse battery staple"
QUICK_N = 1 << 10


@pytest.fixture(autouse=True)
def _passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "words").write_text(WORDS + "\n")
    monkeypatch.setenv("VELOZ_KEY_PASSPHRASE_FILE", str(tmp_path / "words"))


@pytest.fixture
def veloz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Veloz:
    """One command with --json: its answer, or (exit code, code of the error)."""
    monkeypatch.setenv("VELOZ_HOME", str(tmp_path / "home"))

    async def run(*arguments: str) -> Any:
        result = await asyncio.to_thread(lambda: CliRunner().invoke(app, [*arguments, "--json"]))
        # The engine of this process logs to the same standard output.
        answer = told(result.stdout)
        return (result.exit_code, answer["error"]["code"]) if result.exit_code else answer

    return run


async def approved(engine: RunningEngine, what: Proposal, key_id: str, seed: str) -> str:
    canonical = proposal_bytes(what)
    digest = proposal_digest(canonical)
    outcome = await engine.client.execute_approval(
        canonical, digest, [(key_id, sign_digest(seed, digest))], new_trace(SystemIdSource())
    )
    return "taken" if outcome.refusal is None else outcome.refusal.code.value


async def test_a_key_is_made_enrolled_used_and_revoked(
    engine: RunningEngine, veloz: Veloz, tmp_path: Path, home: Path
) -> None:
    place = tmp_path / "ada.key"
    made = await veloz("approvals", "keygen", "ada", "--out", str(place))
    assert made["place"] == str(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    loaded = load_key(place)
    assert (loaded.key_id, public_key_hex(loaded.seed_hex)) == ("ada", made["public_key_hex"])
    assert loaded.seed_hex not in place.read_text()
    assert (await veloz("approvals", "show", str(place)))["enrolled_as"] is None
    assert await approved(engine, await engine.propose(), "ada", loaded.seed_hex) == "AUTHORITY_SIGNER_UNKNOWN"

    request = await veloz("approvals", "enrol-request", str(place), "--user", "user-ada", "--accounts", "acct-demo")
    assert (request["entry"]["user_id"], request["entry"]["paper_only"]) == ("user-ada", True)
    (tmp_path / "ada.json").write_text(json.dumps(request))
    (tmp_path / "stranger.key").write_text("55" * 32)
    add = ("roster", "add", str(tmp_path / "ada.json"))
    assert await veloz(*add, "--key", str(tmp_path / "stranger.key")) == (1, "AUTHORITY_SIGNATURE_INVALID")
    before = (await veloz("roster", "show"))["version"]
    assert (await veloz(*add))["version"] == before + 1
    assert await veloz(*add) == (1, "ROSTER_INVALID")  # a key has one entry
    shown = await veloz("approvals", "show", str(place))
    assert (shown["enrolled_as"], shown["user_id"], shown["paper_only"]) == ("ada", "user-ada", True)
    assert shown["fingerprint"] == fingerprint(made["public_key_hex"])
    assert await approved(engine, await engine.propose(), "ada", loaded.seed_hex) == "taken"
    kept = parse_signed_roster((home / "roster.json").read_bytes(), "roster.json", public_key_hex(ROOT_SEED))
    assert kept.roster.version == before + 1

    assert (await veloz("roster", "revoke", "ada"))["version"] == before + 2
    assert await approved(engine, await engine.propose(), "ada", loaded.seed_hex) == "AUTHORITY_SIGNER_UNKNOWN"
    assert await veloz("roster", "revoke", "ada") == (1, "AUTHORITY_SIGNER_UNKNOWN")
    assert await approved(engine, await engine.propose(), "approver", APPROVER_SEED) == "taken"


async def test_thresholds_and_passkeys_are_the_root_keys_to_set(
    engine: RunningEngine, veloz: Veloz, tmp_path: Path
) -> None:
    authenticator = Authenticator()
    entry = authenticator.entry("passkey-1", "user-approver", ("acct-demo",))
    request = {"schema": "veloz.enrolment-request/1", "entry": msgspec.to_builtins(entry)}
    (tmp_path / "passkey.json").write_text(json.dumps(request))
    await veloz("roster", "add", str(tmp_path / "passkey.json"))
    await veloz("roster", "set", "--two-approvals-above", "700", "--cli-only-above", "650")
    roster = await veloz("roster", "show")
    assert (roster["two_approvals_above_quote"], roster["cli_only_above_quote"]) == ("700", "650")
    assert {entry["kind"] for entry in roster["entries"]} == {"ed25519", "webauthn"}

    async def by_passkey(**changes: str) -> str:
        canonical = proposal_bytes(await engine.propose(**changes))
        digest = proposal_digest(canonical)
        signatures = [("passkey-1", authenticator.approve(digest))]
        outcome = await engine.client.execute_approval(canonical, digest, signatures, new_trace(SystemIdSource()))
        return "taken" if outcome.refusal is None else outcome.refusal.code.value

    assert await by_passkey() == "taken"
    assert await by_passkey(quantity="0.011") == "APPROVAL_CLI_KEY_REQUIRED"
    assert await approved(engine, await engine.propose(quantity="0.012"), "approver", APPROVER_SEED) == (
        "APPROVAL_SIGNATURES_INSUFFICIENT"
    )
    await veloz("roster", "set", "--cli-only-above", "off")
    assert await by_passkey() == "APPROVAL_CLI_KEY_REQUIRED"
    assert await veloz("roster", "set", "--cli-only-above", "1e3") == (1, "ROSTER_INVALID")
    assert await veloz("roster", "set") == (2, "REQUEST_INVALID")


# keys at rest


def changed(content: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(content) | changes).encode()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"key_id": "bob"}, "passphrase is wrong, or the file was changed"),
        ({"public_key_hex": public_key_hex("55" * 32)}, "passphrase is wrong, or the file was changed"),
        ({"scrypt_n": QUICK_N * 2}, "passphrase is wrong, or the file was changed"),
        ({"salt_hex": "00" * 16}, "passphrase is wrong, or the file was changed"),
        ({"ciphertext_hex": ""}, "passphrase is wrong, or the file was changed"),
        ({"scrypt_n": 1 << 21}, "scrypt_n"),
        ({"scrypt_n": 1_000}, "scrypt_n"),
        ({"scrypt_n": 0}, "scrypt_n"),
        ({"salt_hex": "xx"}, "no key file"),
        ({"schema": "veloz.key/9"}, "no key file"),
        ({"more": 1}, "no key file"),
    ],
)
def test_an_encrypted_key_opens_with_its_passphrase_and_unchanged(
    tmp_path: Path, changes: dict[str, Any], said: str | None
) -> None:
    path = tmp_path / "ada.key"
    path.write_bytes(changed(seal(APPROVER_SEED, "ada", WORDS, scrypt_n=QUICK_N), **changes))
    if said is None:
        assert load_key(path).seed_hex == APPROVER_SEED
        return
    with pytest.raises(CommandError, match=said) as raised:
        load_key(path)
    assert raised.value.body["code"] == "KEY_UNREADABLE"


def test_another_passphrase_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ada.key"
    path.write_bytes(seal(APPROVER_SEED, "ada", WORDS + "!", scrypt_n=QUICK_N))
    with pytest.raises(CommandError, match="passphrase is wrong"):
        load_key(path)


async def test_a_key_file_is_never_written_over_and_a_short_passphrase_refused(veloz: Veloz, tmp_path: Path) -> None:
    place = tmp_path / "ada.key"
    place.write_text("precious")
    assert await veloz("approvals", "keygen", "ada", "--out", str(place)) == (2, "KEY_UNWRITABLE")
    assert place.read_text() == "precious"
    assert await veloz("approvals", "keygen", "Ada Lovelace") == (2, "REQUEST_INVALID")
    (tmp_path / "words").write_text("short")
    assert await veloz("approvals", "keygen", "bob", "--out", str(tmp_path / "bob.key")) == (2, "PASSPHRASE_TOO_SHORT")
    assert not (tmp_path / "bob.key").exists()


async def test_a_key_may_live_in_the_os_keyring(veloz: Veloz, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[str, str], str] = {}
    ring = SimpleNamespace(
        get_password=lambda service, name: kept.get((service, name)),
        set_password=lambda service, name, value: kept.update({(service, name): value}),
    )
    monkeypatch.setitem(sys.modules, "keyring", ring)
    made = await veloz("approvals", "keygen", "ada", "--keyring")
    assert made["place"] == "keyring:ada"
    loaded = load_key(Path("keyring:ada"))
    assert (loaded.key_id, public_key_hex(loaded.seed_hex)) == ("ada", made["public_key_hex"])
    assert await veloz("approvals", "keygen", "ada", "--keyring") == (2, "KEY_UNWRITABLE")
    with pytest.raises(CommandError, match="no such key"):
        load_key(Path("keyring:bob"))
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert await veloz("approvals", "keygen", "bob", "--keyring") == (2, "KEYRING_MISSING")


def test_what_a_key_costs_to_guess_is_what_owasp_asks_for() -> None:
    assert (key_files.SCRYPT_N, key_files.SCRYPT_R, key_files.SCRYPT_P) == (1 << 17, 8, 1)
