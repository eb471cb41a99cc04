"""Signing keys at rest: an encrypted file (0600), the OS keyring, or a bare seed in hex as the demo's are.

An encrypted file is JSON: scrypt (RFC 7914) makes the key from a passphrase, ChaCha20-Poly1305 (RFC 8439) seals the
Ed25519 seed, and everything else in the file is authenticated with it.
"""

from __future__ import annotations

import importlib
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec
import rfc8785
import typer
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from api.cli.session import EXIT_USAGE, CommandError
from core.authority.signatures import public_key_hex

KEY_SCHEMA = "veloz.key/1"
KEYRING_PREFIX = "keyring:"
KEYRING_SERVICE = "veloz"
PASSPHRASE_FILE_VARIABLE = "VELOZ_KEY_PASSPHRASE_FILE"  # noqa: S105 (the variable's name)
PASSPHRASE_SHORTEST_CHARS = 12
KEY_FILE_LIMIT_BYTES = 4_096
SCRYPT_N = 1 << 17
SCRYPT_N_LIMIT = 1 << 20
SCRYPT_R, SCRYPT_P = 8, 1
SALT_BYTES, NONCE_BYTES, SEED_BYTES = 16, 12, 32
MODE = 0o600


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """key_id is how the roster shall name the key. Numbers of scrypt as RFC 7914 has them."""

    schema: str = KEY_SCHEMA
    key_id: str
    public_key_hex: str
    scrypt_n: int
    salt_hex: str
    nonce_hex: str
    ciphertext_hex: str = ""


class LoadedKey(msgspec.Struct, frozen=True):
    """key_id is empty where the place of the key doesn't tell it."""

    seed_hex: str
    key_id: str = ""


def load_key(path: Path) -> LoadedKey:
    """The key of an encrypted file, of `keyring:<name>`, or of a file with the seed in hex. Raises CommandError."""
    if str(path).startswith(KEYRING_PREFIX):
        name = str(path).removeprefix(KEYRING_PREFIX)
        return LoadedKey(_checked(_from_keyring(name), f"{KEYRING_PREFIX}{name}"), name)
    content = _read(path)
    if not content.lstrip().startswith(b"{"):
        return LoadedKey(_checked(content.decode(errors="replace").strip(), str(path)))
    sealed = parse_key_file(content, str(path))
    return LoadedKey(_opened(sealed, passphrase(f"Passphrase of {path}"), str(path)), sealed.key_id)


def describe_key(path: Path) -> tuple[str, str]:
    """Key id and public key, without the passphrase where the file tells them. Raises CommandError."""
    if not str(path).startswith(KEYRING_PREFIX):
        content = _read(path)
        if content.lstrip().startswith(b"{"):
            sealed = parse_key_file(content, str(path))
            return sealed.key_id, sealed.public_key_hex
    loaded = load_key(path)
    return loaded.key_id or path.stem, public_key_hex(loaded.seed_hex)


def seal(seed_hex: str, key_id: str, words: str, *, scrypt_n: int = SCRYPT_N) -> bytes:
    """The content of an encrypted file."""
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    head = KeyFile(
        key_id=key_id,
        public_key_hex=public_key_hex(seed_hex),
        scrypt_n=scrypt_n,
        salt_hex=salt.hex(),
        nonce_hex=nonce.hex(),
    )
    sealed = _cipher(words, salt, scrypt_n).encrypt(nonce, bytes.fromhex(seed_hex), _head_bytes(head))
    complete = msgspec.structs.replace(head, ciphertext_hex=sealed.hex())
    return msgspec.json.format(msgspec.json.encode(complete), indent=2) + b"\n"


def write_key_file(path: Path, content: bytes) -> None:
    """Readable by its owner alone, and never over another one. Raises CommandError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    except OSError as error:
        raise CommandError(
            "KEY_UNWRITABLE", f"{path}: {error.strerror}. Choose another place with --out.", EXIT_USAGE
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def to_keyring(name: str, seed_hex: str) -> None:
    """Never over another one. Raises CommandError."""
    keyring = _keyring()
    if keyring.get_password(KEYRING_SERVICE, name) is not None:
        raise CommandError("KEY_UNWRITABLE", f"The keyring has a key {name} already. Choose another id.", EXIT_USAGE)
    keyring.set_password(KEYRING_SERVICE, name, seed_hex)


def passphrase(prompt: str, *, is_new: bool = False) -> str:
    """From the file that VELOZ_KEY_PASSPHRASE_FILE names, else asked for. Raises CommandError."""
    place = os.environ.get(PASSPHRASE_FILE_VARIABLE)
    words = (
        _read(Path(place)).decode(errors="replace").rstrip("\r\n")
        if place
        else str(typer.prompt(prompt, hide_input=True, confirmation_prompt=is_new, err=True))
    )
    if is_new and len(words) < PASSPHRASE_SHORTEST_CHARS:
        raise CommandError(
            "PASSPHRASE_TOO_SHORT", f"A passphrase has at least {PASSPHRASE_SHORTEST_CHARS} characters.", EXIT_USAGE
        )
    return words


def parse_key_file(content: bytes, name: str) -> KeyFile:
    """Raises CommandError."""
    try:
        sealed = msgspec.json.decode(content, type=KeyFile)
        lengths = [len(bytes.fromhex(text)) for text in (sealed.salt_hex, sealed.nonce_hex, sealed.public_key_hex)]
        bytes.fromhex(sealed.ciphertext_hex)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _unreadable(name, f"no key file ({KEY_SCHEMA}): {error}") from error
    n = sealed.scrypt_n
    is_power = n > 1 and n & (n - 1) == 0
    if sealed.schema != KEY_SCHEMA or lengths != [SALT_BYTES, NONCE_BYTES, SEED_BYTES]:
        raise _unreadable(name, f"no key file ({KEY_SCHEMA})")
    if not is_power or n > SCRYPT_N_LIMIT:
        raise _unreadable(name, f"scrypt_n is {n}, a power of two up to {SCRYPT_N_LIMIT} is expected")
    return sealed


def _opened(sealed: KeyFile, words: str, name: str) -> str:
    cipher = _cipher(words, bytes.fromhex(sealed.salt_hex), sealed.scrypt_n)
    head = _head_bytes(msgspec.structs.replace(sealed, ciphertext_hex=""))
    try:
        seed = cipher.decrypt(bytes.fromhex(sealed.nonce_hex), bytes.fromhex(sealed.ciphertext_hex), head).hex()
    except InvalidTag as error:
        raise CommandError(
            "KEY_UNREADABLE", f"{name}: the passphrase is wrong, or the file was changed.", EXIT_USAGE
        ) from error
    if public_key_hex(seed) != sealed.public_key_hex:
        raise _unreadable(name, "it holds another key than it says")
    return seed


def _cipher(words: str, salt: bytes, n: int) -> ChaCha20Poly1305:
    key = Scrypt(salt=salt, length=SEED_BYTES, n=n, r=SCRYPT_R, p=SCRYPT_P).derive(words.encode())
    return ChaCha20Poly1305(key)


def _head_bytes(head: KeyFile) -> bytes:
    plain: dict[str, Any] = msgspec.to_builtins(head)
    return bytes(rfc8785.dumps(plain | {"scrypt_n": str(head.scrypt_n)}))


def _from_keyring(name: str) -> str:
    seed: str | None = _keyring().get_password(KEYRING_SERVICE, name)
    if seed is None:
        raise _unreadable(f"{KEYRING_PREFIX}{name}", "the keyring has no such key")
    return seed


def _keyring() -> Any:
    try:
        return importlib.import_module("keyring")
    except ImportError as error:
        raise CommandError(
            "KEYRING_MISSING",
            "The OS keyring needs an extra: install veloz[keyring], or keep the key in an encrypted file.",
            EXIT_USAGE,
        ) from error


def _checked(seed: str, name: str) -> str:
    try:
        public_key_hex(seed)
    except ValueError as error:
        raise _unreadable(name, "this is no Ed25519 seed of 32 bytes in hex") from error
    return seed


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(KEY_FILE_LIMIT_BYTES)
    except OSError as error:
        raise _unreadable(str(path), error.strerror or "it can't be read") from error


def _unreadable(name: str, problem: str) -> CommandError:
    return CommandError("KEY_UNREADABLE", f"{name}: {problem}. Name the file of your key with --key.", EXIT_USAGE)
