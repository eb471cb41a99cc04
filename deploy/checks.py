"""Checks of `make lint` that no linter knows: deploy/checks.py [--write] proto stub text.

With --write, what is generated is written instead of compared.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Each folder of .proto files, and the package that is generated from it.
PROTOS = {
    Path("proto/veloz/engine/v1"): Path("core/runtime/_proto"),
    Path("proto/veloz/gateway/v1"): Path("api/tool_rpc/_proto"),
}
STUB = Path("core/_native.pyi")
# Pieces, so that this file doesn't name what it looks for.
FORBIDDEN = {
    "a package registry's address (a lock or a script must work with any index)": re.compile(
        r"(?:files\.python" + r"hosted\.org|//(?:[\w.-]*\.)?pypi" + r"\.org|registry\.npm" + r"js\.org"
        r"|--(?:extra-)?index-url[ =]https?:|\"resolved\": *\"https?:)"
    ),
    "a folder of somebody's machine": re.compile(
        r"(?<![\w.])/(?:(?:ho" + r"me|Us" + r"ers)/(?!(?:me|you|user|someone)\b)|ro" + r"ot/|wo" + r"rk/)[\w.-]+"
    ),
}
MAX_TEXT_BYTES = 4_000_000


def generate_proto(target: Path) -> None:
    """Generated modules for every .proto, below target as in the repository."""
    for sources, package in PROTOS.items():
        names = sorted(path.name for path in (ROOT / sources).glob("*.proto"))
        subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"-I{package}={ROOT / sources}"),
                *(f"--python_out={target}", f"--grpc_python_out={target}", f"--pyi_out={target}"),
                *(str(package / name) for name in names),
            ],
            check=True,
            cwd=ROOT,
        )


def check_proto(write: bool) -> list[str]:
    """The committed modules are those that the .proto files give."""
    if write:
        generate_proto(ROOT)
        return []
    with tempfile.TemporaryDirectory() as folder:
        generate_proto(Path(folder))
        return [
            f"{package / path.name}: not what {sources} gives; run `make proto` and commit"
            for sources, package in PROTOS.items()
            for path in sorted((Path(folder) / package).iterdir())
            if _content(ROOT / package / path.name) != path.read_bytes()
        ]


def check_stub(write: bool) -> list[str]:
    """The committed type stub is that of the built module."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / STUB.name
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # noqa: TID251 (no service, no settings)
        subprocess.run(
            [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "core._native", "-o", str(made)],
            check=True,
            env=environment,
        )
        fresh = normalised_stub(made.read_text())
    if write:
        (ROOT / STUB).write_text(fresh)
        return []
    if normalised_stub((ROOT / STUB).read_text()) != fresh:
        return [f"{STUB}: not the built module's stub; run `make native` and commit"]
    return []


def normalised_stub(text: str) -> str:
    """Without the blank lines that differ between stub generators and formatters."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def check_text(write: bool) -> list[str]:
    """No committed or new file names a registry or a folder of somebody's machine."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, check=True, cwd=ROOT, capture_output=True).stdout.decode().split("\0")
    findings = []
    for name in filter(None, names):
        path = ROOT / name
        if not path.is_file() or path.stat().st_size > MAX_TEXT_BYTES:
            continue
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        findings += [
            f"{name}:{number}: names {what}: {found.group()}"
            for number, line in enumerate(lines, 1)
            for what, pattern in FORBIDDEN.items()
            if (found := pattern.search(line))
        ]
    return findings


CHECKS: dict[str, Callable[[bool], list[str]]] = {"proto": check_proto, "stub": check_stub, "text": check_text}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def main() -> int:
    """The number of findings decides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("checks", nargs="+", choices=CHECKS)
    options = parser.parse_args()
    findings = [finding for name in options.checks for finding in CHECKS[name](options.write)]
    for finding in findings:
        print(finding)
    return min(len(findings), 1)


if __name__ == "__main__":
    sys.exit(main())
