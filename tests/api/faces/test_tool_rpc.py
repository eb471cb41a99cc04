"""The gateway over gRPC, as a client sees it that knows nothing but the server's reflection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from jsonschema import Draft202012Validator

from api.tool_rpc.server import REFUSAL_KEY, tool_rpc_server
from api.tool_rpc.servicer import ToolGatewayServicer
from core.config import ConfigurationError, GrpcSettings, load_settings
from tests.api.house import IDS, House
from tools.catalogue import build_registry
from tools.contracts import Role

SERVICE = "veloz.gateway.v1.ToolGateway"
ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.01", "price_anchor": "bid"}
Metadata = tuple[tuple[str, str], ...]


class ReflectionClient:
    """Calls what the server describes: no generated module of ours is needed."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self._channel = channel
        self._metadata = metadata
        self._pool = DescriptorPool()
        self.services: list[str] = []

    async def learn(self) -> None:
        stub = reflection_pb2_grpc.ServerReflectionStub(self._channel)
        ask = reflection_pb2.ServerReflectionRequest
        answers = stub.ServerReflectionInfo(
            iter([ask(list_services=""), ask(file_containing_symbol=SERVICE)]), metadata=self._metadata
        )
        async for answer in answers:
            self.services += [service.name for service in answer.list_services_response.service]
            for content in answer.file_descriptor_response.file_descriptor_proto:
                self._pool.Add(FileDescriptorProto.FromString(content))

    async def call(self, method: str, request: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        described = self._pool.FindServiceByName(SERVICE).FindMethodByName(method)
        message = json_format.ParseDict(request or {}, GetMessageClass(described.input_type)())
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda it: it.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        answer = await call(message, metadata=self._metadata, **options)
        return json_format.MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )


@asynccontextmanager
async def connected(
    house: House, user: str | None = "trader", token: str | None = None
) -> AsyncIterator[ReflectionClient]:
    services = house.api.services
    servicer = ToolGatewayServicer(services.tools)
    async with (
        tool_rpc_server(GrpcSettings(port=0), servicer, services.identity) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        header = f"Bearer {token}" if token else (await house.api.as_(user))["Authorization"] if user else None
        client = ReflectionClient(channel, (("authorization", header),) if header else ())
        if user is not None and token is None:
            await client.learn()
        yield client


@pytest.fixture(scope="module")
async def trader(house: House) -> AsyncIterator[ReflectionClient]:
    async with connected(house) as client:
        yield client


def refusal_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    for key, value in error.trailing_metadata() or ():
        if key == REFUSAL_KEY:
            told: dict[str, str] = json.loads(value)
            assert told["code"] == error.details()
            return told
    raise AssertionError(f"no refusal in {error!r}")


def outcomes(house: House, trace_id: str) -> list[tuple[str, str]]:
    with house.database.connect("owner") as connection:
        statement = "SELECT action, outcome FROM audit.inbox WHERE trace_id = %s ORDER BY arrival"
        return [(row[0], row[1]) for row in connection.execute(statement, [trace_id])]


async def test_a_client_learns_lists_and_calls_by_reflection(house: House, trader: ReflectionClient) -> None:
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= set(trader.services)
    tools, token = [], ""
    while not tools or token:
        page = await trader.call("ListTools", {"page_size": 5, "page_token": token})
        assert len(page["tools"]) <= 5
        tools, token = tools + page["tools"], page["next_page_token"]
    assert [tool["name"] for tool in tools] == sorted(t.name for t in build_registry() if Role.TRADER in t.roles)
    for tool in tools:
        for schema in ("input_schema_json", "output_schema_json"):
            Draft202012Validator.check_schema(json.loads(tool[schema]))
    called = await trader.call("CallTool", {"tool": "get_ticker", "arguments_json": '{"symbol": "BTCUSDT"}'})
    described = await trader.call("GetTool", {"name": "get_ticker"})
    Draft202012Validator(json.loads(described["output_schema_json"])).validate(json.loads(called["data_json"]))
    assert (called["mode"], called["scope"]) == ("PAPER", ["market"])
    assert outcomes(house, called["trace_id"]) == [("tool.called", "ok")]


async def test_a_suggestion_is_made_listed_and_followed(trader: ReflectionClient) -> None:
    made = await trader.call("CallTool", {"tool": "suggest_order", "arguments_json": json.dumps(ORDER)})
    suggestion = json.loads(made["data_json"])
    listed = await trader.call("ListSuggestions", {"status": "pending", "limit": 1, "account_id": "acct-demo"})
    (newest,) = json.loads(listed["data_json"])["suggestions"]
    assert newest["suggestion_id"] == suggestion["suggestion_id"]
    followed = await trader.call("GetSuggestion", {"id": newest["suggestion_id"]})
    assert json.loads(followed["data_json"])["digest"] == suggestion["digest"]


@pytest.mark.parametrize(
    ("method", "request_", "status", "code"),
    [
        ("CallTool", {"tool": "nope"}, "NOT_FOUND", "TOOL_UNKNOWN"),
        ("GetTool", {"name": "nope"}, "NOT_FOUND", "TOOL_UNKNOWN"),
        ("CallTool", {"tool": "get_ticker", "arguments_json": "{"}, "INVALID_ARGUMENT", "REQUEST_INVALID"),
        ("CallTool", {"tool": "get_ticker", "arguments_json": "[1]"}, "INVALID_ARGUMENT", "REQUEST_INVALID"),
        ("CallTool", {"tool": "get_ticker", "arguments_json": "[" * 90_000}, "INVALID_ARGUMENT", "REQUEST_INVALID"),
        ("CallTool", {"tool": "get_ticker"}, "INVALID_ARGUMENT", "TOOL_ARGUMENTS_INVALID"),
        (
            "CallTool",
            {"tool": "get_ticker", "arguments_json": '{"symbol": "NOPE"}'},
            "NOT_FOUND",
            "MARKET_INSTRUMENT_UNKNOWN",
        ),
        (
            "CallTool",
            {"tool": "get_positions", "arguments_json": '{"account_id": "acct-other"}'},
            "PERMISSION_DENIED",
            "AUTH_ACCOUNT_OUT_OF_SCOPE",
        ),
        ("ListTools", {"page_token": "x" * 129}, "INVALID_ARGUMENT", "REQUEST_INVALID"),
        ("ListSuggestions", {"status": "nonsense"}, "INVALID_ARGUMENT", "TOOL_ARGUMENTS_INVALID"),
        ("ListSuggestions", {"before_id": "' OR 1=1"}, "INVALID_ARGUMENT", "TOOL_ARGUMENTS_INVALID"),
        ("GetSuggestion", {"id": IDS.new_ulid()}, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
    ],
)
async def test_a_refusal_has_a_status_that_fits_and_its_code(
    trader: ReflectionClient, method: str, request_: dict[str, Any], status: str, code: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.call(method, request_)
    assert caught.value.code() is grpc.StatusCode[status]
    assert refusal_of(caught.value)["code"] == code


async def test_calls_that_come_too_fast_are_resource_exhausted_and_every_refusal_is_recorded(
    house: House, trader: ReflectionClient
) -> None:
    for _ in range(500):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await trader.call("CallTool", {"tool": "get_klines", "arguments_json": '{"symbol": "NOPE"}'})
        told = refusal_of(caught.value)
        if told["code"] == "TOOL_RATE_EXCEEDED":
            break
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert outcomes(house, told["trace_id"]) == [("tool.refused", "TOOL_RATE_EXCEEDED")]


@pytest.mark.parametrize("token", [None, "nonsense"])
async def test_nobody_gets_through_without_a_token_but_to_health(house: House, token: str | None) -> None:
    async with connected(house, user=None, token=token) as client:
        reflecting = reflection_pb2_grpc.ServerReflectionStub(client._channel).ServerReflectionInfo(
            metadata=client._metadata
        )
        assert await reflecting.code() is grpc.StatusCode.UNAUTHENTICATED
        call = client._channel.unary_unary(f"/{SERVICE}/CallTool")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", metadata=client._metadata)
        assert (caught.value.code(), refusal_of(caught.value)["code"]) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "AUTH_TOKEN_INVALID",
        )
        health = health_pb2_grpc.HealthStub(client._channel)
        for service in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_an_agent_has_its_own_tools_here_too_and_is_gone_at_once(house: House) -> None:
    headers = await house.api.as_("trader")
    made = (await house.api.http.post("/api/v1/agents", json={"name": "service"}, headers=headers)).json()
    token = await house.api.http.post(f"/api/v1/agents/{made['agent_id']}/token", headers=headers)
    async with connected(house, token=token.json()["access_token"]) as client:
        await client.learn()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call("CallTool", {"tool": "suggest_order", "arguments_json": json.dumps(ORDER)})
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert refusal_of(caught.value)["code"] == "TOOL_NOT_PERMITTED"
        await house.api.http.post(f"/api/v1/agents/{made['agent_id']}/revoke", headers=headers)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call("ListTools")
        assert refusal_of(caught.value)["code"] == "AUTH_AGENT_REVOKED"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"HOST": "0.0.0.0"}, "in the clear"),
        ({"TLS_CERTIFICATE_FILE": "/x.pem"}, "go together"),
        ({"HOST": "0.0.0.0", "PLAINTEXT": "true"}, None),
        ({}, None),
    ],
)
def test_tokens_never_travel_in_the_clear_by_accident(
    tmp_path: Path, variables: dict[str, str], says: str | None
) -> None:
    given = {f"VELOZ_GRPC__{name}": value for name, value in ({"ENABLED": "true"} | variables).items()}
    if says is None:
        assert load_settings(tmp_path, given).grpc.enabled
        return
    with pytest.raises(ConfigurationError, match=says):
        load_settings(tmp_path, given)


async def test_a_port_that_somebody_has_is_told(house: House) -> None:
    services = house.api.services
    servicer = ToolGatewayServicer(services.tools)
    async with tool_rpc_server(GrpcSettings(port=0), servicer, services.identity) as port:
        with pytest.raises(ConfigurationError, match=f"can't serve on 127.0.0.1:{port}"):
            async with tool_rpc_server(GrpcSettings(port=port), servicer, services.identity):
                pass


# --- TLS


class Authority:
    """A certificate authority of this test's own, and files of what it signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority for tests")])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self._signed(self._name, self._key, constraints, critical=True)

    def served_by(self, host: str) -> GrpcSettings:
        """Settings with a certificate for host."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        chain = self._signed(name, key, x509.SubjectAlternativeName([x509.DNSName(host)]))
        files = {"chain.pem": chain, "key.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())}
        for file, content in files.items():
            (self._folder / file).write_bytes(content)
        return GrpcSettings(
            port=0,
            tls_certificate_file=str(self._folder / "chain.pem"),
            tls_key_file=str(self._folder / "key.pem"),
        )

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        critical: bool = False,
    ) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(extension, critical)
        )
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)


@asynccontextmanager
async def over_tls(
    house: House, settings: GrpcSettings, trusts: bytes | None, name: str
) -> AsyncIterator[ReflectionClient]:
    """A client that trusts one authority and expects the name; trusting none, it speaks in the clear."""
    services = house.api.services
    options = [("grpc.ssl_target_name_override", name)]
    async with tool_rpc_server(settings, ToolGatewayServicer(services.tools), services.identity) as port:
        address = f"127.0.0.1:{port}"
        channel = (
            grpc.aio.insecure_channel(address)
            if trusts is None
            else grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(trusts), options)
        )
        async with channel:
            header = (await house.api.as_("trader"))["Authorization"]
            yield ReflectionClient(channel, (("authorization", header),))


async def test_a_client_that_knows_the_authority_calls_over_tls(house: House, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with over_tls(house, authority.served_by("veloz.test"), authority.certificate, "veloz.test") as client:
        await client.learn()
        called = await client.call("CallTool", {"tool": "get_ticker", "arguments_json": '{"symbol": "BTCUSDT"}'})
    assert outcomes(house, called["trace_id"]) == [("tool.called", "ok")]


@pytest.mark.parametrize(
    ("trusts", "name"),
    [("nobody", "veloz.test"), ("another", "veloz.test"), ("the signer", "other.test")],
    ids=["in the clear", "of an unknown authority", "under another name"],
)
async def test_with_tls_nobody_calls_in_the_clear_nor_trusts_a_strangers_certificate(
    house: House, tmp_path: Path, trusts: str, name: str
) -> None:
    (tmp_path / "another").mkdir()
    authority, another = Authority(tmp_path), Authority(tmp_path / "another")
    trusted = {"nobody": None, "another": another.certificate, "the signer": authority.certificate}[trusts]
    async with over_tls(house, authority.served_by("veloz.test"), trusted, name) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.learn()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_that_cant_be_read_stops_the_start(house: House, tmp_path: Path) -> None:
    services = house.api.services
    settings = Authority(tmp_path).served_by("veloz.test")
    for content in (None, b"not a key"):
        (tmp_path / "key.pem").unlink() if content is None else (tmp_path / "key.pem").write_bytes(content)
        with pytest.raises(ConfigurationError, match="tls_certificate_file"):
            async with tool_rpc_server(settings, ToolGatewayServicer(services.tools), services.identity):
                pass
