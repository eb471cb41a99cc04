"""The scorers catch what they are there for, and the task runs offline against a service over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from evals import run as evals_run
from evals.scoring import figures_are_sourced, only_what_was_asked, right_tools_called

CALL = {"call_id": "c1", "tool": "get_ticker", "result": {"bid_price": "100.5"}}
FIGURE = {"text": "100.5", "value": "100.5", "call_id": "c1", "path": "$.bid_price"}
GOOD: dict[str, Any] = {
    "status": "finished",
    "answer": "bid 100.5",
    "figures": [FIGURE],
    "tool_calls": [CALL],
    "suggestion_id": None,
    "model": "m",
}


@pytest.mark.parametrize(
    "change",
    [
        {"figures": [FIGURE | {"path": None, "call_id": None}]},
        {"figures": [FIGURE | {"path": "$.ask_price"}]},
        {"figures": [FIGURE | {"value": "100.50"}]},
        {"figures": [FIGURE | {"call_id": "c2"}]},
        {"answer": "bid 7 [unsourced]"},
        {"status": "failed"},
    ],
)
def test_a_figure_without_an_equal_cell_fails(change: dict[str, Any]) -> None:
    assert figures_are_sourced(GOOD).passed
    assert not figures_are_sourced(GOOD | change).passed


@pytest.mark.parametrize(
    ("called", "expected", "passed"),
    [
        (["get_ticker"], ["get_ticker"], True),
        (["get_ticker", "list_instruments"], ["get_ticker"], True),
        ([], ["get_ticker"], False),
        (["get_ticker", "get_positions"], ["get_ticker"], False),
        (["suggest_order"], [], False),
    ],
)
def test_the_right_tools(called: list[str], expected: list[str], passed: bool) -> None:
    outcome = GOOD | {"tool_calls": [CALL | {"tool": tool} for tool in called]}
    assert right_tools_called(outcome, expected).passed is passed


@pytest.mark.parametrize(
    ("change", "order", "passed"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"suggestion_id": "s"}, False, False),
        ({"suggestion_id": "s", "status": "interrupted"}, True, True),
        ({"suggestion_id": "s"}, True, False),
        ({"tool_calls": [CALL | {"tool": "suggest_order"}]}, False, False),
    ],
)
def test_a_suggestion_only_where_asked(change: dict[str, Any], order: bool, passed: bool) -> None:
    assert only_what_was_asked(GOOD | change, order=order).passed is passed


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The service's public interface, answering every question with the same sourced figure."""
    app = FastAPI()

    @app.post("/api/v1/auth/login")
    def login(body: dict[str, str]) -> dict[str, str]:
        assert body == {"username": "trader", "password": "secret"}
        return {"access_token": "token"}

    @app.post("/api/v1/copilot/runs")
    def start(body: dict[str, Any]) -> PlainTextResponse:
        return PlainTextResponse('data: {"type":"RUN_FINISHED"}\n\n')

    @app.get("/api/v1/copilot/runs/{run_id}")
    def outcome(run_id: str) -> dict[str, Any]:
        return GOOD

    monkeypatch.setenv("VELOZ_PASSWORD", "secret")
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await task
    listener.close()


async def test_the_task_runs_offline_and_the_gate_judges_it(service: str) -> None:
    """In a process of its own, as `make eval` runs it: Inspect takes over the event loop."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "evals.run", "--json", "--url", service,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 1, err.decode()
    report = json.loads(out)
    assert report["status"] == "success"
    assert report["samples"] >= 20
    assert report["scores"]["figures_sourced"]["actual"] == 1.0
    assert report["scores"]["tools_right"]["actual"] < 0.9
    assert {"id": "suggest-limit", "scorer": "no_unasked_order", "why": "a suggestion was expected"} in report[
        "failures"
    ]


def test_without_a_service_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VELOZ_URL", raising=False)
    monkeypatch.setenv("VELOZ_HOME", str(tmp_path))
    assert evals_run.main([]) == 2
    assert "veloz up" in capsys.readouterr().err
