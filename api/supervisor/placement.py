"""Where the embedded cluster can live when it runs as another user than we do.

PostgreSQL refuses to run as root. For root it runs as `nobody`, who must be able to walk down to its files. We open
no folder of others for that: VELOZ_HOME itself may become 0711 when it is ours; when something above it is closed,
the cluster lives under /var/lib/veloz/clusters and a file in VELOZ_HOME remembers where.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from api.supervisor.files import write_durably

CLUSTERS = Path("/var/lib/veloz/clusters")
LOCATION_SUFFIX = ".location"
PASSABLE_MODE = 0o711
SOCKET_PATH_MAX_BYTES = 103  # macOS; Linux has 107
LONGEST_SOCKET_NAME = "/.s.PGSQL.5432.lock"


class PlacementError(Exception):
    """No place for the cluster; the message names the folder and the cure."""


@dataclass(frozen=True)
class Account:
    """The OS user that PostgreSQL runs as. switch: it isn't the one we run as."""

    uid: int
    gid: int
    switch: bool


def postgres_account() -> Account:
    """`nobody` for root, else ourselves. Raises PlacementError."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise PlacementError(
            "PostgreSQL doesn't run as root and this machine has no user 'nobody'. "
            "Run `veloz up` as an ordinary user, or set database.url to a PostgreSQL of your own."
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid, switch=True)


def may_enter(folder: Path, account: Account) -> bool:
    """Whether account may walk through this one folder, by its mode bits."""
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def may_reach(folder: Path, account: Account) -> bool:
    """Whether account may walk down to folder and enter it; folder must exist."""
    resolved = folder.resolve()
    return all(may_enter(step, account) for step in (resolved, *resolved.parents))


def place_cluster(wanted: Path, account: Account, clusters: Path = CLUSTERS) -> Path:
    """The folder for the cluster's data and binaries: wanted, or where account can reach it. Creates it.

    wanted is VELOZ_HOME/postgres; VELOZ_HOME must exist. Once decided, it stays decided. Raises PlacementError.
    """
    wanted = wanted.absolute()
    home = wanted.parent
    remembered = wanted.with_name(wanted.name + LOCATION_SUFFIX)
    if not account.switch:
        if remembered.exists():
            raise PlacementError(
                f"{home}: its database belongs to root ({remembered.read_text().strip()}). "
                "Start it as root, or set VELOZ_HOME to another folder."
            )
        wanted.mkdir(mode=0o700, exist_ok=True)
        return wanted
    if remembered.exists():
        return _own_folder(Path(remembered.read_text().strip()))
    if may_reach(home.resolve().parent, account) and _open_own_home(home, account):
        return _own_folder(wanted)
    _own_folder(clusters.parent)
    _own_folder(clusters)
    # A random name: a home that was deleted and made anew at the same path must not meet its old cluster.
    place = clusters / secrets.token_hex(8)
    write_durably(remembered, f"{place}\n")
    _own_folder(place)
    write_durably(place / "home", f"{home}\n")
    if not may_reach(place, account):
        raise PlacementError(
            f"{place}: not reachable by the user that PostgreSQL runs as, nor is {home}. "
            "Set VELOZ_HOME to a folder whose parents have mode 0755 or 0711 (as root, e.g. /var/lib/veloz)."
        )
    return place


def forget_cluster(wanted: Path) -> None:
    """Delete the cluster that place_cluster placed for wanted, and the memory of where."""
    remembered = wanted.with_name(wanted.name + LOCATION_SUFFIX)
    if remembered.exists():
        shutil.rmtree(Path(remembered.read_text().strip()), ignore_errors=True)
        remembered.unlink()
    shutil.rmtree(wanted, ignore_errors=True)


def _open_own_home(home: Path, account: Account) -> bool:
    """Make VELOZ_HOME passable if it is ours to open: owned by us and nobody's home directory."""
    if may_enter(home, account):
        return True
    if home.stat().st_uid != os.geteuid() or home.resolve() in _home_directories():
        return False
    home.chmod(home.stat().st_mode & 0o777 | PASSABLE_MODE)
    return may_enter(home, account)


def _home_directories() -> set[Path]:
    return {Path(entry.pw_dir) for entry in pwd.getpwall() if entry.pw_dir} | {Path.home().resolve()}


def _own_folder(folder: Path) -> Path:
    """folder, created passable, or refused when another user could have planted it."""
    folder.mkdir(mode=PASSABLE_MODE, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PlacementError(f"{folder}: not a folder of ours. Remove it, or set VELOZ_HOME to another folder.")
    if status.st_mode & 0o111 != 0o111:
        folder.chmod(status.st_mode & 0o777 | PASSABLE_MODE)
    return folder


def place_sockets(wanted: Path, cluster: Path, account: Account) -> Path:
    """A folder (mode 0700, account's) for the socket, the same after every restart.

    Ours: wanted, if its path is short enough. Another account's: inside the cluster's folder, so that no folder of ours
    changes its owner. Else a private one under the temp folder. Raises PlacementError.
    """
    first = cluster / "sockets" if account.switch else wanted
    if _short_enough(first):
        return _private_to(account, first)
    digest = hashlib.sha256(os.fsencode(cluster.resolve())).hexdigest()[:12]
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 (a private folder whose owner is checked)
        place = parent.resolve() / f"veloz-{digest}"
        if _short_enough(place) and may_reach(parent, account):
            return _private_to(account, place)
    raise PlacementError(
        f"no folder for PostgreSQL's socket: {first} and the temp folder {tempfile.gettempdir()} are closed or too "
        f"long (a socket path holds {SOCKET_PATH_MAX_BYTES} bytes). Set TMPDIR or VELOZ_HOME to a shorter path."
    )


def _short_enough(folder: Path) -> bool:
    return len(os.fsencode(folder)) + len(LONGEST_SOCKET_NAME) <= SOCKET_PATH_MAX_BYTES


def _private_to(account: Account, folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {os.geteuid(), account.uid}:
        raise PlacementError(f"{folder}: another user's. Remove it, or set TMPDIR to a folder of your own.")
    if account.switch and status.st_uid != account.uid:
        os.chown(folder, account.uid, account.gid)
    folder.chmod(0o700)
    return folder
