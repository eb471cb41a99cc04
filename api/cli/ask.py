"""`veloz ask`: a question to the copilot, streamed."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx2
import typer
from ulid import ULID

from api.cli.session import CommandError, Session, problem_error, unreachable
from api.cli.text import printable

ANSWER_TIMEOUT_S = 120.0


def ask(session: Session, question: str, as_json: bool) -> None:
    """Prints the answer as it comes and its sources, or the whole outcome as JSON."""
    run_id = str(ULID())
    body = {
        "threadId": str(ULID()),
        "runId": run_id,
        "state": {},
        "messages": [{"id": str(ULID()), "role": "user", "content": question}],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }
    failure = _follow(session, body, show=not as_json)
    if failure is not None:
        raise CommandError(
            failure.get("code") or "COPILOT_FAILED", failure.get("message") or "The run failed.", run_id=run_id
        )
    outcome = session.request("GET", f"/api/v1/copilot/runs/{run_id}")
    if as_json:
        typer.echo(json.dumps(_as_json(outcome), ensure_ascii=False))
    else:
        _print_sources(outcome)


def _follow(session: Session, body: dict[str, Any], show: bool) -> dict[str, Any] | None:
    """Read the stream to its end; the RUN_ERROR event when the run failed."""
    failure: dict[str, Any] | None = None
    try:
        with session.client.stream(
            "POST", "/api/v1/copilot/runs", json=body, timeout=httpx2.Timeout(ANSWER_TIMEOUT_S, connect=5.0)
        ) as response:
            if response.is_error:
                response.read()
                raise problem_error(response)
            finished = False
            for line in response.iter_lines():
                if not line.startswith("data:"):
                    continue
                event = json.loads(line.removeprefix("data:"))
                if event["type"] == "TEXT_MESSAGE_CONTENT" and show:
                    sys.stdout.write(printable(event["delta"]))
                    sys.stdout.flush()
                elif event["type"] == "TOOL_CALL_START" and show:
                    typer.secho(f"· {printable(event['toolCallName'])}", fg="bright_black", err=True)
                elif event["type"] in {"RUN_FINISHED", "RUN_ERROR"}:
                    finished = True
                    failure = event if event["type"] == "RUN_ERROR" else None
    except httpx2.HTTPError as error:
        raise unreachable(session.url, error) from error
    if not finished:
        raise CommandError(
            "STREAM_CUT", "The stream ended before the run did. The service may be restarting; ask again.", exit_code=3
        )
    return failure


def _as_json(outcome: dict[str, Any]) -> dict[str, Any]:
    names = ("run_id", "trace_id", "model", "status", "answer", "figures", "tool_calls")
    shown = {name: outcome[name] for name in names}
    if outcome.get("suggestion_id"):
        shown["suggestion_id"] = outcome["suggestion_id"]
    return shown


def _print_sources(outcome: dict[str, Any]) -> None:
    typer.echo("\n")
    tools = {call["call_id"]: call["tool"] for call in outcome["tool_calls"]}
    for figure in outcome["figures"]:
        source = f"{tools.get(figure['call_id'], '?')} {figure['path']}" if figure.get("call_id") else "no source"
        typer.secho(f"  {figure['text']:>16}  {source}", fg="bright_black")
    typer.secho(f"  answered by {outcome['model']} · trace {outcome['trace_id']}", fg="bright_black")
    if outcome.get("suggestion_id"):
        typer.secho(f"\nApprove with: veloz approve {outcome['suggestion_id']}", bold=True)
