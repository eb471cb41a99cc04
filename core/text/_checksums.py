"""Check digits: what tells a card, an IBAN or a wallet address from a number that only looks like one."""

from __future__ import annotations

import hashlib

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BASE58_RIPPLE = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32_CONSTANT = 1
BECH32M_CONSTANT = 0x2BC830A3
BECH32_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
CHECKSUM_BYTES = 4
BASE58_LIMIT_CHARS = 120

# ISO 13616 lengths of the countries that publish one.
IBAN_LENGTHS = {
    **{"AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "CH": 21, "CY": 28, "CZ": 24, "DE": 22},
    **{"DK": 18, "EE": 20, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27},
    **{"HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21},
    **{"LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MT": 31, "NL": 18, "NO": 15, "PK": 24},
    **{"PL": 28, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24},
    **{"TR": 26, "UA": 29, "VG": 24, "XK": 20},
}


def luhn_valid(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    total = 0
    for index, character in enumerate(reversed(digits)):
        value = int(character)
        if index % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def card_issuer_known(digits: str) -> bool:
    """Whether the leading digits and the length are those of a card network that exists."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    return (
        (digits[0] == "4" and length in {13, 16, 19})
        or (length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))
        or (length == 15 and two in {34, 37})
        or (length in {16, 19} and (four == 6011 or two in {64, 65, 62, 81} or 3528 <= four <= 3589))
        or (length == 14 and two in {30, 36, 38, 39})
    )


def iban_valid(compact: str) -> bool:
    """ISO 13616: country, its length, and mod 97. compact is upper case without spaces."""
    if len(compact) != IBAN_LENGTHS.get(compact[:2]):
        return False
    rearranged = compact[4:] + compact[:4]
    return int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1


def decode_base58(text: str, alphabet: str = BASE58) -> bytes | None:
    """None when text isn't base58 or is longer than anything we look for."""
    if len(text) > BASE58_LIMIT_CHARS:
        return None
    number = 0
    for character in text:
        digit = alphabet.find(character)
        if digit < 0:
            return None
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip(alphabet[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def base58check_payload(text: str) -> bytes | None:
    """The payload when the last four bytes are its checksum; Bitcoin's alphabet or Ripple's."""
    for alphabet in (BASE58, BASE58_RIPPLE):
        decoded = decode_base58(text, alphabet)
        if decoded is None or len(decoded) <= CHECKSUM_BYTES:
            continue
        payload, checksum = decoded[:-CHECKSUM_BYTES], decoded[-CHECKSUM_BYTES:]
        if hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:CHECKSUM_BYTES] == checksum:
            return payload
    return None


def bech32_valid(text: str) -> bool:
    """BIP 173 and BIP 350: either checksum constant, one case."""
    if text.lower() != text and text.upper() != text:
        return False
    prefix, separator, data = text.lower().rpartition("1")
    if not prefix or not separator or len(data) < 6 or any(character not in BECH32 for character in data):
        return False
    values = [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]
    values += [BECH32.index(character) for character in data]
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for index, generator in enumerate(BECH32_GENERATORS):
            if top >> index & 1:
                checksum ^= generator
    return checksum in {BECH32_CONSTANT, BECH32M_CONSTANT}
