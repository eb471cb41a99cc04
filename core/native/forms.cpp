#include "forms.hpp"

#include <algorithm>
#include <array>

namespace veloz {
namespace {

constexpr std::size_t kWordLongest = 24, kNumberLongest = 11, kIdentifierLongest = 160;
constexpr std::size_t kHexShort = 16, kHexMiddle = 32, kHexLong = 64, kUlid = 26, kDigitsFewest = 12, kDigitsMost = 20;

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_upper(char c) noexcept { return c >= 'A' && c <= 'Z'; }
constexpr bool is_letter(char c) noexcept { return is_upper(c) || (c >= 'a' && c <= 'z'); }

constexpr Kinds kinds_of(char c) noexcept {
    Kinds kinds = 0;
    if (is_digit(c)) kinds |= kDigits;
    if (is_digit(c) || (c >= 'a' && c <= 'f')) kinds |= kHex;
    if (is_digit(c) || (is_upper(c) && c != 'I' && c != 'L' && c != 'O' && c != 'U')) kinds |= kCrockford;
    if (is_letter(c) || c == '_') kinds |= kWord;
    if (is_letter(c) || is_digit(c) || c == ':' || c == '_' || c == '.' || c == '-' || c == '/') kinds |= kIdentifier;
    if (c >= ' ' && c != '"' && c != '\\') kinds |= kUnescaped;
    return kinds;
}

constexpr auto kKinds = [] {
    std::array<Kinds, 128> table{};
    for (std::size_t at = 0; at < table.size(); ++at) table[at] = kinds_of(static_cast<char>(at));
    return table;
}();

std::size_t digits_at(std::string_view text, std::size_t from) noexcept {
    const auto begin = text.begin() + static_cast<std::ptrdiff_t>(from);
    return static_cast<std::size_t>(std::find_if_not(begin, text.end(), is_digit) - begin);
}

bool is_number(std::string_view text) noexcept {
    std::size_t at = text.starts_with('-') ? 1 : 0;
    const std::size_t whole = digits_at(text, at);
    if (whole < 1 || whole > kNumberLongest) return false;
    at += whole;
    if (at == text.size()) return true;
    if (text[at++] != '.') return false;
    const std::size_t part = digits_at(text, at);
    return part >= 1 && part <= kNumberLongest && at + part == text.size();
}

// 20YY-[01]M-[0-3]DT and eight digits and colons, a point, six digits and Z.
bool is_moment(std::string_view text) noexcept {
    if (text.size() != 27) return false;
    const auto in = [&](std::size_t at, char last) { return text[at] >= '0' && text[at] <= last; };
    const std::string_view hours = text.substr(11, 8), micros = text.substr(20, 6);
    return text.starts_with("20") && in(2, '9') && in(3, '9') && text[4] == '-' && in(5, '1') && in(6, '9') &&
           text[7] == '-' && in(8, '3') && in(9, '9') && text[10] == 'T' &&
           std::ranges::all_of(hours, [](char c) { return is_digit(c) || c == ':'; }) && text[19] == '.' &&
           std::ranges::all_of(micros, is_digit) && text[26] == 'Z';
}

}  // namespace

Kinds kinds_of(std::string_view ascii) noexcept {
    Kinds kinds = kEvery;
    for (const char c : ascii) {
        kinds &= kKinds[static_cast<unsigned char>(c)];
        if (kinds == 0) break;
    }
    return kinds;
}

bool is_harmless(std::string_view ascii, Kinds kinds) noexcept {
    if ((kinds & kWord) != 0 && ascii.size() <= kWordLongest) return true;
    return is_number(ascii) || is_moment(ascii);
}

bool is_identifier(std::string_view ascii, Kinds kinds) noexcept {
    return (kinds & kIdentifier) != 0 && !ascii.empty() && ascii.size() <= kIdentifierLongest;
}

bool is_own_identifier(std::string_view ascii, Kinds kinds) noexcept {
    const std::size_t size = ascii.size();
    if ((kinds & kDigits) != 0 && size >= kDigitsFewest && size <= kDigitsMost) return true;
    if (size == kHexShort || size == kHexMiddle || size == kHexLong) return (kinds & kHex) != 0;
    return size == kUlid && (kinds & kCrockford) != 0 && ascii[0] >= '0' && ascii[0] <= '7';
}

}  // namespace veloz
