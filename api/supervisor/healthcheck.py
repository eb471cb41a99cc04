"""`python -m api.supervisor.healthcheck [process]`: 0 when that process of this container serves.

Without a name it is the one that the container was started with.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from api.processes import MODULES, ready_file
from core.config import ConfigurationError, Settings, load_settings
from core.runtime.address import engine_address

TIMEOUT_S = 3.0
UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}  # noqa: S104


def check(name: str, settings: Settings) -> str | None:
    """What is wrong with the process, None when it serves."""
    if name == "api":
        return _http(settings.api.host, settings.api.port, "/healthz")
    if name == "venue":
        return _http(settings.venue.host, settings.venue.port, "/api/v3/ping")
    if name == "engine":
        return _grpc(engine_address(settings))
    return None if ready_file(settings, name).exists() else f"{name} isn't ready yet"


def _http(host: str, port: int, path: str) -> str | None:
    url = f"http://{UNSPECIFIED.get(host, host)}:{port}{path}"
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S) as answer:
            return None if answer.status == 200 else f"{url} answers {answer.status}"
    except (URLError, OSError) as error:
        return f"{url}: {error}"


def _grpc(address: str) -> str | None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    host, _, port = address.rpartition(":")
    target = f"{UNSPECIFIED.get(host, host)}:{port}"
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return f"{target}: {error}"
    return None if answer.status == health_pb2.HealthCheckResponse.SERVING else f"{target}: status {answer.status}"


def _started_with() -> str:
    words = Path("/proc/1/cmdline").read_bytes().decode().split("\0")
    return next((word for word in reversed(words) if word in MODULES), "")


def main(arguments: list[str]) -> int:
    """0 or 1, with the reason on stderr."""
    name = arguments[0] if arguments else _started_with()
    if name not in MODULES:
        print(f"healthcheck: process must be one of {', '.join(MODULES)}, not {name!r}", file=sys.stderr)
        return 1
    try:
        trouble = check(name, load_settings())
    except ConfigurationError as error:
        trouble = str(error)
    if trouble is not None:
        print(trouble, file=sys.stderr)
    return 0 if trouble is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
