"""`veloz agents`: programs that act for you, within less than you may do yourself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from api.cli.options import Json
from api.cli.session import EXIT_USAGE, CommandError, Session, reporting_errors
from api.cli.text import printable

AGENTS = "/api/v1/agents"
SECRET_MODE = 0o600

agents_app = typer.Typer(help="Agents: programs that call some of your tools, under a name of their own.")
AsUser = Annotated[Optional[str], typer.Option("--as", metavar="USER", help="Log in as this user.")]  # noqa: UP045
AgentId = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id, or its name.")]


@agents_app.command(
    epilog="Example: veloz agents create scout --tools get_ticker,get_positions --secret-file scout.secret"
)
def create(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.")],
    tools: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Comma-separated. Left out: all that look and compute, none that suggests."),
    ] = None,
    accounts: Annotated[Optional[str], typer.Option(help="Comma-separated. Left out: all of yours.")] = None,  # noqa: UP045
    days: Annotated[int, typer.Option(help="For how long.")] = 90,
    model: Annotated[str, typer.Option(help="The model it runs on, as the policy names it; with --provider.")] = "",
    provider: Annotated[str, typer.Option(help="Who serves that model, as the policy names it.")] = "",
    secret_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write the secret there (mode 0600) instead of printing it. It is shown this once."),
    ] = None,
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """Make an agent. Its owner's role and accounts bound it at each call, whatever it was given."""
    with reporting_errors(as_json):
        session = Session(as_user, "trader")
        body: dict[str, Any] = {"name": name, "valid_days": days}
        body |= {"tools": _list(tools)} if tools is not None else {}
        body |= {"model": model, "provider": provider} if model or provider else {}
        body |= {"account_ids": _list(accounts)} if accounts is not None else {}
        if secret_file is not None and secret_file.exists():
            raise CommandError("FILE_EXISTS", f"{secret_file} is there already: name another file.", EXIT_USAGE)
        agent = session.request("POST", AGENTS, body)
        if secret_file is not None:
            _write_secret(secret_file, agent.pop("secret"))
            agent["secret_file"] = str(secret_file)
    if as_json:
        typer.echo(json.dumps(agent))
        return
    typer.secho(f"Agent {agent['name']} is {agent['agent_id']}, until {agent['expires_at']}.", fg="green")
    typer.echo(f"Tools: {', '.join(agent['tools'])}")
    typer.echo(f"Accounts: {', '.join(agent['account_ids']) or 'none'}")
    if agent["model"]:
        typer.echo(f"Model: {agent['model']} of {agent['provider']}")
    kept = f"in {secret_file}" if secret_file else agent["secret"]
    typer.echo(f"Secret, kept nowhere else: {kept}")


@agents_app.command("list", epilog="Example: veloz agents list --json")
def list_agents(as_user: AsUser = None, as_json: Json = False) -> None:
    """Your agents; as compliance those of the firm."""
    with reporting_errors(as_json):
        agents = Session(as_user, "trader").request("GET", AGENTS)
    if as_json:
        typer.echo(json.dumps({"agents": agents}))
        return
    for agent in agents:
        told = f"{agent['agent_id']}  {agent['name']}  {agent['state']}  owner {agent['owner_id']}"
        typer.echo(printable(f"{told}  tools {','.join(agent['tools'])}"))
    if not agents:
        typer.echo("No agents. Make one with `veloz agents create`.")


@agents_app.command(epilog="Example: veloz agents token scout")
def token(agent: AgentId, as_user: AsUser = None, as_json: Json = False) -> None:
    """Print an access token of five minutes for an agent of yours."""
    with reporting_errors(as_json):
        session = Session(as_user, "trader")
        answer = session.request("POST", f"{AGENTS}/{_id_of(session, agent)}/token")
    typer.echo(json.dumps(answer) if as_json else answer["access_token"])


@agents_app.command(epilog="Example: veloz agents revoke scout")
def revoke(agent: AgentId, as_user: AsUser = None, as_json: Json = False) -> None:
    """End an agent, now: its tokens hold no longer."""
    with reporting_errors(as_json):
        session = Session(as_user, "trader")
        answer = session.request("POST", f"{AGENTS}/{_id_of(session, agent)}/revoke")
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.secho(f"Agent {answer['name']} ({answer['agent_id']}) is {answer['state']}.", fg="green")


def _id_of(session: Session, wanted: str) -> str:
    """A name is that of the newest agent which has it. Raises CommandError."""
    agents: list[dict[str, Any]] = session.request("GET", AGENTS)
    for agent in agents:
        if wanted in {agent["agent_id"], agent["name"]}:
            return str(agent["agent_id"])
    raise CommandError("RESOURCE_NOT_FOUND", f"You have no agent {wanted}. See `veloz agents list`.")


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _write_secret(path: Path, secret: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(agents_app, name="agents", no_args_is_help=True)
