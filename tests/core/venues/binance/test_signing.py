"""Signatures, judged by implementations that aren't ours: the venue's own examples, RFC 8032, other clients."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl

import pytest
from binance import AsyncClient
from binance_common.signature import Signers
from Crypto.PublicKey import ECC, RSA
from Crypto.Signature import eddsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from core.venues.binance.signing import (
    Credential,
    CredentialError,
    Ed25519Signer,
    HmacSigner,
    read_key_files,
    signed_parameters,
    signed_query,
)

SPOT_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
USDM_SECRET = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
RFC_8032_SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
RFC_8032_SIGNATURE_OF_NOTHING = (
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
    "655141438e7a100b"
)


def pem_of(key: Ed25519PrivateKey, passphrase: bytes = b"") -> str:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


PEM = pem_of(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(RFC_8032_SEED)))
ORDER = {"symbol": "LTCBTC", "side": "BUY", "newClientOrderId": "a/b+c d=é", "timestamp": "1499827319559"}


@pytest.mark.parametrize(
    ("secret", "payload", "expected"),
    [
        (
            SPOT_SECRET,
            "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"
            "&timestamp=1499827319559",
            "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71",
        ),
        (
            USDM_SECRET,
            "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000"
            "&timestamp=1591702613943",
            "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9",
        ),
    ],
)
def test_hmac_signs_the_venues_documented_examples(secret: str, payload: str, expected: str) -> None:
    assert HmacSigner(secret).sign(payload) == expected
    parameters = dict(parse_qsl(payload))
    assert signed_query(Credential("k", "api-key", secret), parameters) == f"{payload}&signature={expected}"


def test_ed25519_signs_as_rfc_8032_says() -> None:
    signature = base64.b64decode(Ed25519Signer(PEM, "k").sign(""))
    assert signature.hex() == RFC_8032_SIGNATURE_OF_NOTHING


def test_an_ed25519_query_verifies_over_exactly_the_bytes_that_are_sent() -> None:
    query = signed_query(Credential("k", "api-key", PEM), ORDER)
    payload, _, signature = query.rpartition("&signature=")
    assert "+" not in payload, "a space is sent as %20: the venue signs what it reads"
    assert not set(signature) & set("+/="), "base64 is percent-encoded in a query"
    (decoded,) = parse_qs("signature=" + signature)["signature"]
    public = ECC.import_key(PEM).public_key()
    eddsa.new(public, "rfc8032").verify(payload.encode(), base64.b64decode(decoded))
    with pytest.raises(ValueError, match="signature"):
        eddsa.new(public, "rfc8032").verify(payload.encode() + b"x", base64.b64decode(decoded))
    assert dict(parse_qsl(payload)) == ORDER


@pytest.mark.parametrize("secret", [SPOT_SECRET, PEM])
async def test_other_clients_sign_the_same(secret: str) -> None:
    payload = {"recvWindow": 5000, "timestamp": 1499827319559}
    is_pem = secret == PEM
    theirs = AsyncClient("api-key", None if is_pem else secret, private_key=secret if is_pem else None)
    ours = signed_parameters(Credential("k", "api-key", secret), payload)
    assert ours["apiKey"] == "api-key"
    assert ours["signature"] == theirs._generate_ws_api_signature({"apiKey": "api-key", **payload})
    if is_pem:
        official = Signers.get_signer(PEM)
        assert isinstance(official, eddsa.EdDSASigScheme)

        signed = official.sign(b"apiKey=api-key&recvWindow=5000&timestamp=1499827319559")
        assert ours["signature"] == base64.b64encode(signed).decode()


def rsa_pem() -> str:
    return RSA.generate(1024).export_key(pkcs=8).decode()


@pytest.mark.parametrize(
    ("pem", "complaint"),
    [
        (pem_of(Ed25519PrivateKey.generate(), b"passphrase"), "is encrypted"),
        (rsa_pem(), "not Ed25519"),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIxx\n-----END PRIVATE KEY-----", "can't be read as PEM"),
    ],
)
def test_a_private_key_of_another_kind_is_refused_by_name_and_not_shown(pem: str, complaint: str) -> None:
    with pytest.raises(CredentialError, match=complaint) as refused:
        Credential("venue-binance", "api-key", pem)
    assert "venue-binance" in str(refused.value)
    assert pem.splitlines()[1] not in str(refused.value)
    assert refused.value.__cause__ is None


def test_key_files_are_read_by_the_form_of_the_secret(tmp_path: Path) -> None:
    def path_of(name: str) -> Path:
        return tmp_path / name

    with pytest.raises(CredentialError, match=r"venue-x\.key"):
        read_key_files("venue-x", path_of)
    path_of("venue-x.key").write_text("api-key\n")
    with pytest.raises(CredentialError, match=r"venue-x\.secret"):
        read_key_files("venue-x", path_of)
    path_of("venue-x.secret").write_text("  \n")
    with pytest.raises(CredentialError, match=r"venue-x\.secret is empty"):
        read_key_files("venue-x", path_of)
    path_of("venue-x.secret").write_text("hmac-secret\n")
    assert read_key_files("venue-x", path_of) == ("api-key", "hmac-secret")
    path_of("venue-x.pem").write_text(PEM)
    with pytest.raises(CredentialError, match="both"):
        read_key_files("venue-x", path_of)
    path_of("venue-x.secret").unlink()
    api_key, pem = read_key_files("venue-x", path_of)
    credential = Credential("venue-x", api_key, pem)
    assert credential.secret_file == "venue-x.pem"
    assert repr(credential) == "Credential('venue-x')"
