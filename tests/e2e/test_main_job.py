"""The main job: ask, suggest, approve, fill, read the trail. On the recorded market."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from core.config import load_settings
from core.text.figures import resolve
from tests.e2e.service import RunningService, eventually

pytestmark = pytest.mark.e2e

LOOP_SHIFT = 10**12
FILL_TIMEOUT_S = 90


def _suggest(service: RunningService, question: str) -> dict[str, Any]:
    outcome: dict[str, Any] = service.veloz("ask", question, "--json").json
    assert outcome.get("suggestion_id"), outcome
    return outcome


def _recorded_tickers(files: list[Path]) -> dict[int, dict[str, str]]:
    tickers = {}
    for path in files:
        with gzip.open(path, "rt") as frames:
            for line in frames:
                if '@bookTicker"' in line:
                    data = json.loads(line.split(" ", 1)[1])["data"]
                    tickers[data["u"]] = data
    return tickers


def test_every_figure_of_an_answer_equals_the_tool_result_at_its_path(service: RunningService) -> None:
    question = "what is the spread on BTCUSDT and what would it cost to buy 5 BTC now?"
    outcome = service.veloz("ask", question, "--json").json
    results = {call["call_id"]: call["result"] for call in outcome["tool_calls"]}
    assert len(outcome["figures"]) >= 4
    for figure in outcome["figures"]:
        assert figure["call_id"], f"no source for {figure}"
        assert resolve(results[figure["call_id"]], figure["path"]) == figure["value"]
    tools = {call["tool"] for call in outcome["tool_calls"]}
    assert "estimate_execution" in tools
    assert outcome["trace_id"]
    assert outcome["run_id"]
    assert outcome["model"]


def test_the_ticker_is_the_recordings_own_at_that_moment(service: RunningService, spot_files: list[Path]) -> None:
    recorded = _recorded_tickers(spot_files)
    outcome = service.veloz("ask", "what is the price of BTCUSDT?", "--json").json
    ticker = next(call["result"] for call in outcome["tool_calls"] if call["tool"] == "get_ticker")
    truth = recorded[int(ticker["update_id"]) % LOOP_SHIFT]
    pairs = {"bid_price": "b", "bid_quantity": "B", "ask_price": "a", "ask_quantity": "A"}
    for name, recorded_name in pairs.items():
        assert Decimal(ticker[name]) == Decimal(truth[recorded_name])


def test_a_suggestion_is_approved_once_and_filled(service: RunningService) -> None:
    outcome = _suggest(service, "suggest buying 0.5 BTC with a limit near the bid")
    suggestion_id = outcome["suggestion_id"]
    pending = service.veloz("suggestions", "--json").json
    assert suggestion_id in {row["id"] for row in pending}

    approved = service.veloz("approve", suggestion_id, "--json", "--wait", str(FILL_TIMEOUT_S))
    assert approved.exit_code == 0, approved.text
    assert approved.json["status"] == "executed"

    again = service.veloz("approve", suggestion_id, "--json")
    assert again.exit_code == 1
    assert again.error_code == "APPROVAL_ALREADY_CONSUMED"

    trail = service.veloz("audit", "trace", suggestion_id, "--json").json
    actions = [record["action"] for record in trail["records"]]
    assert actions.count("order.intended") == 1
    _assert_in_order(
        actions,
        [
            "copilot.question_asked",
            "tool.intended",
            "suggestion.created",
            "suggestion.approved",
            "risk.decided",
            "order.intended",
            "order.accepted",
            "order.filled",
        ],
    )
    assert "copilot.answer_given" in actions
    assert trail["intact"]
    screen = service.veloz("audit", "trace", outcome["trace_id"])
    assert screen.exit_code == 0
    assert "suggestion.approved" in screen.text


def test_refused_approvals_have_distinct_codes_and_send_nothing(service: RunningService) -> None:
    outcome = _suggest(service, "suggest selling 0.1 BTC with a limit at the ask")
    suggestion_id = outcome["suggestion_id"]
    other_digest = "ab" * 32
    wrong_digest = service.veloz("approve", suggestion_id, "--digest", other_digest, "--json")
    assert wrong_digest.error_code == "APPROVAL_DIGEST_MISMATCH"
    for user in ("trader", "compliance"):
        wrong_role = service.veloz("approve", suggestion_id, "--as", user, "--json")
        assert wrong_role.error_code == "AUTH_ROLE_NOT_PERMITTED"
    trail = service.veloz("audit", "trace", suggestion_id, "--json").json
    actions = [record["action"] for record in trail["records"]]
    assert actions.count("suggestion.approval_refused") == 3
    assert "order.intended" not in actions
    rejected = service.veloz("reject", suggestion_id, "--reason", "only a test", "--json")
    assert rejected.exit_code == 0, rejected.errors
    after = service.veloz("approve", suggestion_id, "--json")
    assert after.error_code == "APPROVAL_NOT_PENDING"


def test_an_approval_after_expiry_is_refused(service: RunningService) -> None:
    outcome = _suggest(service, "suggest buying 0.1 BTC at the bid, valid for 1 second")
    suggestion_id = outcome["suggestion_id"]

    def expired() -> bool:
        rows = service.veloz("suggestions", suggestion_id, "--json").json
        return bool(rows["status"] == "expired")

    eventually(expired, 60, "the suggestion expires")
    refused = service.veloz("approve", suggestion_id, "--json")
    assert refused.error_code == "APPROVAL_EXPIRED"


def test_the_services_own_roles_cannot_change_the_audit_trail(service: RunningService) -> None:
    settings = load_settings(service.home, {})
    host = service.description["endpoints"]["database_url"]
    for role in ("api", "audit_writer", "ledger"):
        password = settings.read_secret(f"postgres-{role}.password")
        with psycopg.connect(host, user=f"veloz_{role}", password=password, autocommit=True) as connection:
            for table in ("audit.inbox", "audit.log"):
                for statement in (f"UPDATE {table} SET leaf_hash = ''", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(statement)


def _assert_in_order(actions: list[str], expected: list[str]) -> None:
    position = -1
    for action in expected:
        assert action in actions, f"{action} is missing from {actions}"
        found = actions.index(action)
        assert found > position, f"{action} comes too early in {actions}"
        position = found
