"""docker-compose.yml, Dockerfile and nginx.conf against this repository: every file, command and setting that they
name exists, and the hardening that they promise is on every service.

No current Compose schema is to be had from a package, so the structure is checked by what matters here; where a
Docker Compose is installed, its own validation runs too.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.processes import MODULES
from api.supervisor import init
from core.config import load_settings

ROOT = Path(__file__).parents[2]
OURS = ("venue", "engine", "ledger", "api")
ONE_SHOT = ("init-files", "init-database", "nats-data")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = compose["services"]
    return content


def test_every_part_of_the_service_is_there(services: dict[str, Any]) -> None:
    assert {"postgres", "nats", "venue", "engine", "ledger", "api", "nginx", *ONE_SHOT} == set(services)


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "cap_add" not in service, name
        assert not service.get("privileged", False), name


def test_every_lasting_service_has_a_healthcheck_and_restarts(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name in ONE_SHOT:
            assert service["restart"] == "no", name
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_every_environment_variable_is_a_setting_that_loads(services: dict[str, Any], tmp_path: Path) -> None:
    for name, service in services.items():
        environment = {key: value for key, value in service.get("environment", {}).items() if key.startswith("VELOZ_")}
        assert all(isinstance(value, str) for value in environment.values()), f"{name}: quote numbers"
        load_settings(tmp_path, environment)


def test_commands_name_modules_and_processes_that_exist(services: dict[str, Any]) -> None:
    for name in OURS:
        assert services[name]["command"] == [name]
        assert name in MODULES
        assert services[name]["healthcheck"]["test"][-2:] == ["api.supervisor.healthcheck", name]
    for service in services.values():
        for words in (service.get("entrypoint", []), service.get("healthcheck", {}).get("test", [])):
            if "-m" in words:
                assert importlib.util.find_spec(words[words.index("-m") + 1]) is not None


def test_each_service_is_given_exactly_its_own_volume(services: dict[str, Any]) -> None:
    given = dict(
        option.removeprefix("--give=").split("=") for option in services["init-files"]["command"] if "=" in option
    )
    mounted = dict(volume.split(":")[::-1] for volume in services["init-files"]["volumes"])
    assert set(given) == {*init.SERVICE_SECRETS, *init.SERVERS}
    for name, folder in given.items():
        volume = mounted[folder]
        users = [
            other
            for other, service in services.items()
            if any(v.startswith(f"{volume}:") for v in service.get("volumes", []))
        ]
        assert sorted(users) == sorted(["init-files", name])
    assert [name for name in services if any(v.startswith("master:") for v in services[name].get("volumes", []))] == [
        "init-files",
        "init-database",
    ]


def test_the_engine_is_reachable_from_api_and_ledger_only(compose: dict[str, Any], services: dict[str, Any]) -> None:
    on_control = {name for name, service in services.items() if "control" in service.get("networks", [])}
    assert on_control == {"engine", "api", "ledger"}
    assert "edge" not in services["engine"]["networks"]
    for name, network in compose["networks"].items():
        assert (network or {}).get("internal", False) is (name != "edge"), name


def test_only_nginx_is_published_and_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"nginx": ["127.0.0.1:8080:8080"]}


def test_dependencies_exist_and_wait_for_the_right_thing(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how["condition"] == wanted, f"{name} -> {other}"


def test_networks_volumes_and_mounted_files_exist(compose: dict[str, Any], services: dict[str, Any]) -> None:
    used_networks = {network for service in services.values() for network in service.get("networks", [])}
    assert used_networks == set(compose["networks"])
    sources = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert {source for source in sources if not source.startswith(".")} == set(compose["volumes"])
    for source in sources:
        assert not source.startswith(".") or (ROOT / source).is_file(), source


def test_images_are_pinned_to_a_version(services: dict[str, Any]) -> None:
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert tag == "local" or re.search(r"\d", tag), name


def test_addresses_name_services_that_share_a_network(services: dict[str, Any]) -> None:
    for name in OURS:
        for key, value in services[name].get("environment", {}).items():
            found = re.search(r"(?://|^)([a-z]+):\d+", value)
            if found is None or key in _unused_by(name):
                continue
            other = services[found.group(1)]
            assert set(services[name]["networks"]) & set(other["networks"]), f"{name}: {key}"


def _unused_by(name: str) -> set[str]:
    """Addresses that the shared block sets but this process never connects to."""
    unused = {
        "engine": {"VELOZ_DATABASE__URL"},
        "ledger": {"VELOZ_NATS__URL", "VELOZ_VENUE__REST_URL", "VELOZ_VENUE__WEBSOCKET_URL"},
        "api": {"VELOZ_VENUE__REST_URL", "VELOZ_VENUE__WEBSOCKET_URL"},
    }
    return unused.get(name, set())


def test_the_dockerfile_copies_what_exists_runs_unprivileged_and_installs_by_hash() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for sources in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for source in sources.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines(), f"{source} is ignored"
    assert text.count("--require-hashes") == 2
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)
    packages = set(re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE))
    assert {"agent", "api", "audit", "core", "evals", "knowledge", "tools", "migrations"} == packages


def test_nginx_passes_event_streams_at_once() -> None:
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    stream = text[text.index("location ~ ^/(api/v1/copilot/runs|mcp)") :]
    stream = stream[: stream.index("}")]
    for directive in ("proxy_buffering off;", "gzip off;", "proxy_read_timeout 1h;"):
        assert directive in stream


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx isn't installed here")
def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    done = subprocess.run(
        ["nginx", "-t", "-p", str(tmp_path), "-c", str(ROOT / "deploy/nginx/nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_docker_compose_accepts_the_file() -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("docker compose isn't installed here")
    done = subprocess.run(
        ["docker", "compose", "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
