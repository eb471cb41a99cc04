// The forms of text in which no detector of core.text.redaction can find anything.
#pragma once

#include <cstddef>
#include <string_view>

namespace veloz {

// As _HARMLESS: a short word, a plain number, or one of our moments.
bool is_harmless(std::string_view ascii) noexcept;

// As _IDENTIFIER: what identifiers are made of.
bool is_identifier(std::string_view ascii) noexcept;

// As _OWN_IDENTIFIER: hexadecimal of 64, 128 or 256 bits, a ULID, or a number of 12 to 20 digits.
bool is_own_identifier(std::string_view ascii) noexcept;

}  // namespace veloz
