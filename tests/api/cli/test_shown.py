"""What a person is shown on a terminal is what there is."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli import suggestions
from api.cli.app import app
from api.cli.session import CommandError
from api.cli.text import printable
from core.authority.proposal import proposal_bytes, proposal_digest
from core.authority.signatures import public_key_hex, verify_digest
from tests.core.approvals import APPROVER_SEED, proposal


class LyingService:
    """Shows a small order and hands out the bytes of another."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        self.sent: list[dict[str, Any]] = []

    def request(self, method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
        if method == "POST":
            self.sent.append(body)
            return {"status": "approved", "client_order_id": "x", "consumed": True}
        return self.row

    def demo_login(self) -> None:
        return None


def row(**changes: Any) -> dict[str, Any]:
    bytes_signed = proposal_bytes(proposal(quantity="0.7"))
    signed = proposal(quantity="0.7")
    return {
        "id": signed.suggestion_id,
        "version": int(signed.version),
        "status": "executed",
        "client_order_id": "x",
        "proposal": {"quantity": "0.001", "symbol": "BTCUSDT"},
        "proposal_text": bytes_signed.decode(),
        "digest": "0" * 64,
        "approvals": {"due": 0, "given": []},
        **changes,
    }


def approve(service: Any, key_file: Path, digest: str | None = None) -> None:
    suggestions.approve(
        service, "s", version=None, digest=digest, key_file=key_file, assume_yes=True, wait_s=0, as_json=False
    )


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "approver.key"
    path.write_text(APPROVER_SEED)
    return path


def test_the_approver_is_shown_the_bytes_that_get_signed_whatever_the_service_says(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = LyingService(row())
    service.paths = None  # type: ignore[attr-defined]
    approve(service, key_file)
    shown = capsys.readouterr().out
    assert "0.7" in shown
    assert "0.001" not in shown
    assert proposal_digest(service.row["proposal_text"].encode()) in shown
    assert "0" * 64 not in shown


def test_only_the_shown_digest_is_ever_signed(key_file: Path) -> None:
    service = LyingService(row())
    service.paths = None  # type: ignore[attr-defined]
    other = proposal_digest(proposal_bytes(proposal(quantity="9")))
    approve(service, key_file, other)
    (body,) = service.sent
    signature = bytes.fromhex(body["signature"])
    assert body["digest"] == other
    assert not verify_digest(public_key_hex(APPROVER_SEED), other, signature)


@pytest.mark.parametrize("changes", [{"id": "another"}, {"version": 2}, {"proposal_text": "{}"}])
def test_a_proposal_under_another_label_is_not_signed(changes: dict[str, Any], key_file: Path) -> None:
    service = LyingService(row(**changes))
    service.paths = None  # type: ignore[attr-defined]
    with pytest.raises(CommandError):
        approve(service, key_file)
    assert service.sent == []


def test_text_cannot_move_the_cursor_or_hide() -> None:
    assert printable("buy\x1b[2K\x1b[1A sell\u202e0.1\u200b") == "buy<U+001B>[2K<U+001B>[1A sell<U+202E>0.1<U+200B>"
    assert printable("“0.5 BTC”\n€ · …") == "“0.5 BTC”\n€ · …"


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"veloz {version('veloz')}\n")
