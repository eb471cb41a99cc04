"""The embedded NATS: a real server each time."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from api.supervisor.nats import EmbeddedNats, greet


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedNats]:
    embedded = EmbeddedNats(tmp_path / "nats", tmp_path / "secrets")
    embedded.start()
    yield embedded
    embedded.stop()


def token(folder: Path) -> str:
    return (folder / "secrets" / "nats.token").read_text().strip()


async def test_jetstream_keeps_messages_over_kill_9(server: EmbeddedNats, tmp_path: Path) -> None:
    client = await nats.connect(server.url, token=token(tmp_path), allow_reconnect=False)
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept.*"])
    await stream.publish("kept.one", b"42")
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    await client.close()
    url = server.url
    server.start()
    assert server.url == url
    client = await nats.connect(server.url, token=token(tmp_path), allow_reconnect=False)
    message = await client.jetstream().get_msg("KEPT", seq=1)
    assert message.data == b"42"
    await client.close()


def test_a_wrong_token_is_refused(server: EmbeddedNats) -> None:
    with pytest.raises(ConnectionRefusedError, match="Authorization"):
        greet("127.0.0.1", int(server.url.rpartition(":")[2]), "wrong")


def test_the_file_with_the_token_is_private(server: EmbeddedNats, tmp_path: Path) -> None:
    assert server.process is not None
    assert (tmp_path / "nats" / "nats.conf").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="macOS gives loopback one address only")
def test_it_listens_on_loopback_alone(server: EmbeddedNats) -> None:
    port = int(server.url.rpartition(":")[2])
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", port))


def test_another_port_is_taken_when_the_last_one_is_not_free(tmp_path: Path) -> None:
    with socket.socket() as occupier:
        occupier.bind(("127.0.0.1", 0))
        occupier.listen()
        taken = occupier.getsockname()[1]
        (tmp_path / "nats").mkdir()
        (tmp_path / "nats" / "port").write_text(f"{taken}\n")
        server = EmbeddedNats(tmp_path / "nats", tmp_path / "secrets")
        server.start()
        try:
            assert not server.url.endswith(f":{taken}")
        finally:
            server.stop()
