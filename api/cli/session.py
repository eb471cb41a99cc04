"""How commands reach the service: where it is, as whom, and what to say when it doesn't answer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import typer

from api.cli.text import printable
from core.config.paths import HomePaths, default_home

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


class CommandError(Exception):
    """Ends a command: printed as text, or as JSON where the command was asked for JSON."""

    def __init__(self, code: str, message: str, exit_code: int = EXIT_REFUSED, **fields: Any) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.body = {"code": code, "message": message} | fields


@contextmanager
def reporting_errors(as_json: bool) -> Iterator[None]:
    """Turn what went wrong into one message and an exit code: 1 refused, 2 usage, 3 unreachable."""
    try:
        yield
    except CommandError as error:
        if as_json:
            typer.echo(json.dumps({"error": error.body}))
        else:
            told = f"{error.body['code']}: {error.body['message']}{_measured(error.body)}"
            typer.secho(printable(told), fg="red", err=True)
        raise typer.Exit(error.exit_code) from None


def _measured(body: dict[str, Any]) -> str:
    """A refusal's limit and actual."""
    limit, actual = body.get("limit"), body.get("actual")
    if limit is None or actual is None:
        return ""
    return f" (limit {limit}, actual {actual}{' ' + body['unit'] if body.get('unit') else ''})"


class Session:
    """A logged-in client of the service."""

    def __init__(self, user: str | None, default_user: str, paths: HomePaths | None = None) -> None:
        self.paths = paths or HomePaths(default_home())
        self.user = user or os.environ.get("VELOZ_USER") or default_user
        self.url = service_url(self.paths)
        timeout = httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self.client = httpx2.Client(base_url=self.url, timeout=timeout, trust_env=False)
        self._log_in()

    def request(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
        """The response's JSON. Raises CommandError for a problem answer or none."""
        response = self._send(method, path, body, parameters)
        return response.json() if response.content else None

    def _log_in(self) -> None:
        password = os.environ.get("VELOZ_PASSWORD") or self._demo_password()
        if password is None:
            password = typer.prompt(f"Password of {self.user}", hide_input=True, err=True)
        tokens = self.request("POST", "/api/v1/auth/login", {"username": self.user, "password": password})
        self.client.headers["Authorization"] = f"Bearer {tokens['access_token']}"

    def _demo_password(self) -> str | None:
        login = self.demo_login()
        return None if login is None else str(login["password"])

    def demo_login(self) -> dict[str, Any] | None:
        """The demo login of this user, where the service was set up on this machine."""
        try:
            logins = json.loads(self.paths.demo_logins.read_text())["logins"]
        except (OSError, ValueError, KeyError):
            return None
        found: list[dict[str, Any]] = [login for login in logins if login["username"] == self.user]
        return found[0] if found else None

    def _send(self, method: str, path: str, body: Any, parameters: dict[str, Any]) -> httpx2.Response:
        try:
            response = self.client.request(method, path, json=body, params=parameters or None)
        except httpx2.HTTPError as error:
            raise unreachable(self.url, error) from error
        if response.is_error:
            raise problem_error(response)
        return response


def service_url(paths: HomePaths) -> str:
    """VELOZ_URL, else where the running supervisor says the api is. Raises CommandError when neither is known."""
    configured = os.environ.get("VELOZ_URL")
    if configured:
        return configured.rstrip("/")
    try:
        return str(json.loads(paths.service_file.read_text())["api_url"])
    except (OSError, ValueError, KeyError):
        raise CommandError(
            "SERVICE_NOT_RUNNING",
            f"No service runs for {paths.home}. Start it with `veloz up` (or `make run`), or set VELOZ_URL.",
            EXIT_UNREACHABLE,
        ) from None


def problem_error(response: httpx2.Response) -> CommandError:
    """The command's error for a problem+json answer."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    shown = {
        name: problem[name]
        for name in ("limit", "actual", "unit", "consumed", "newer_version", "trace_id")
        if name in problem
    }
    code = problem.get("code", f"HTTP_{response.status_code}")
    message = problem.get("detail") or problem.get("title") or response.reason_phrase
    exit_code = EXIT_USAGE if code == "REQUEST_INVALID" else EXIT_REFUSED
    return CommandError(code, message, exit_code, status=response.status_code, **shown)


def unreachable(url: str, error: Exception) -> CommandError:
    return CommandError(
        "SERVICE_UNREACHABLE",
        f"The service at {url} doesn't answer ({type(error).__name__}: {error}). It is restarted by itself when "
        "it died; try again in a few seconds, or see `veloz doctor`.",
        EXIT_UNREACHABLE,
    )
