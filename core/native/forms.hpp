// The forms of text in which no detector of core.text.redaction can find anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace veloz {

// Of which kinds all characters of a text are.
using Kinds = std::uint8_t;
constexpr Kinds kDigits = 1, kHex = 2, kCrockford = 4, kWord = 8, kIdentifier = 16;
constexpr Kinds kUnescaped = 32;  // in JSON
constexpr Kinds kEvery = kDigits | kHex | kCrockford | kWord | kIdentifier | kUnescaped;

// ascii MUST be that, here and below; kinds are its own.
Kinds kinds_of(std::string_view ascii) noexcept;

// As _HARMLESS: a short word, a plain number, or one of our moments.
bool is_harmless(std::string_view ascii, Kinds kinds) noexcept;

// As _IDENTIFIER: what identifiers are made of.
bool is_identifier(std::string_view ascii, Kinds kinds) noexcept;

// As _OWN_IDENTIFIER: hexadecimal of 64, 128 or 256 bits, a ULID, or a number of 12 to 20 digits.
bool is_own_identifier(std::string_view ascii, Kinds kinds) noexcept;

}  // namespace veloz
