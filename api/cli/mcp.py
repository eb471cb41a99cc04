"""`veloz mcp`: the tool gateway for MCP clients that start their servers and speak to them over stdio."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any, Optional

import httpx2
import typer

from api.cli.session import (
    CONNECT_TIMEOUT_S,
    EXIT_USAGE,
    CommandError,
    problem_error,
    reporting_errors,
    service_url,
    unreachable,
)
from core.config.paths import HomePaths, default_home

AGENT_VARIABLE = "VELOZ_AGENT"
SECRET_FILE_VARIABLE = "VELOZ_AGENT_SECRET_FILE"  # noqa: S105 (the variable's name)
TOKEN_VARIABLE = "VELOZ_TOKEN"  # noqa: S105


def mcp(
    agent: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(envvar=AGENT_VARIABLE, help="The agent's id, as `veloz agents create` told it."),
    ] = None,
    secret_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(envvar=SECRET_FILE_VARIABLE, help="The file with the agent's secret."),
    ] = None,
) -> None:
    """Serve MCP on stdin and stdout, as an agent, until the client hangs up. Errors go to stderr.

    Without an agent the access token in VELOZ_TOKEN is used for as long as it holds.
    """
    with reporting_errors(as_json=False):
        serve(agent, secret_file)


def serve(agent: str | None, secret_file: Path | None) -> None:
    """Raises CommandError."""
    from mcp import MCPError

    from api.mcp.stdio import TOKEN_PATH, TokenAuth, serve_stdio

    url = service_url(HomePaths(default_home()))
    token = os.environ.get(TOKEN_VARIABLE)
    if agent is not None and secret_file is not None:
        secret = _read(secret_file)
        answer = _ask(url, "POST", TOKEN_PATH, json={"agent_id": agent, "secret": secret})
        auth = TokenAuth(url, answer["access_token"], agent, secret)
    elif agent is None and token:
        _ask(url, "GET", "/api/v1/me", headers={"Authorization": f"Bearer {token}"})
        auth = TokenAuth(url, token)
    else:
        raise CommandError(
            "CREDENTIALS_MISSING",
            f"Give --agent and --secret-file ({AGENT_VARIABLE}, {SECRET_FILE_VARIABLE}), or a token in "
            f"{TOKEN_VARIABLE}. `veloz agents create <name> --secret-file <file>` makes an agent.",
            EXIT_USAGE,
        )
    try:
        asyncio.run(serve_stdio(url, auth))
    except* (httpx2.TransportError, MCPError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, Exception)
        raise unreachable(url, error) from group


def _ask(url: str, method: str, path: str, **request: Any) -> Any:
    """Whether the service takes the credentials, before a client waits for it. Raises CommandError."""
    try:
        response = httpx2.request(method, url + path, timeout=CONNECT_TIMEOUT_S, trust_env=False, **request)
    except httpx2.HTTPError as error:
        raise unreachable(url, error) from error
    if response.is_error:
        raise problem_error(response)
    return response.json()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise CommandError("SECRET_UNREADABLE", f"{path}: {error.strerror}.", EXIT_USAGE) from error


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mcp", epilog="Example: veloz mcp --agent agent-01J... --secret-file scout.secret")(mcp)
