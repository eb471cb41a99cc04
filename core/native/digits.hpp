// Decimal digits eight at a time: a 64-bit word holds eight characters, and a few multiplications make them a number.
//
// Only for little-endian machines; elsewhere and for anything unusual the callers take parse_unsigned instead.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "money.hpp"

namespace veloz {

// Whether words of eight characters have the first one lowest.
constexpr bool kHasFastDigits = std::endian::native == std::endian::little;

// How far read_decimal looks beyond where it starts.
constexpr std::size_t kDecimalLookahead = 26;

struct EightDigits {
    std::uint64_t values;  // each byte's digit, the first in the lowest byte; garbage from byte `count` on
    unsigned count;        // how many of the eight are digits before the first that isn't

    explicit EightDigits(const char *text) {
        std::memcpy(&values, text, 8);
        values ^= 0x3030303030303030;
        // A byte above 9 sets its high bit. A carry can only spoil the bytes after the first such one.
        const std::uint64_t others = ((values + 0x7676767676767676) | values) & 0x8080808080808080;
        count = static_cast<unsigned>(std::countr_zero(others)) / 8;
    }

    // The number that the first `digits` of them make; 1 to count.
    std::uint64_t number(unsigned digits) const {
        std::uint64_t sums = values << (64 - 8 * digits);
        sums = (sums * 10 + (sums >> 8)) & 0x00FF00FF00FF00FF;
        sums = (sums * 100 + (sums >> 16)) & 0x0000FFFF0000FFFF;
        return (sums * 10'000 + (sums >> 32)) & 0xFFFFFFFF;
    }

    // Whether any of the digits from `first` up to `last` isn't zero; first < last <= 8.
    bool has_nonzero(unsigned first, unsigned last) const {
        return values >> (8 * first) << (64 - 8 * (last - first)) != 0;
    }
};

// What one scale means for reading.
struct DecimalScale {
    unsigned places = 0;
    std::uint64_t unit = 1;
    std::uint64_t largest_whole = 0;  // the whole part up to which nothing overflows

    DecimalScale() = default;
    explicit DecimalScale(int scale)
        : places(static_cast<unsigned>(scale)), unit(kPowersOfTen[static_cast<std::size_t>(scale)]),
          largest_whole(static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / unit - 1) {}
};

// `digits[.digits]"` of up to 16 and 8 digits: the position of the quote, or nullptr for what needs a closer look.
// kDecimalLookahead bytes must be readable.
template <Excess excess>
inline const char *read_decimal(const char *text, const DecimalScale &scale, std::int64_t &value) {
    const EightDigits head(text);
    if (head.count == 0) return nullptr;
    std::uint64_t whole = head.number(head.count);
    text += head.count;
    if (head.count == 8) [[unlikely]] {
        const EightDigits more(text);
        if (more.count > 0) whole = whole * kPowersOfTen[more.count] + more.number(more.count);
        text += more.count;
    }
    if (whole > scale.largest_whole) [[unlikely]]
        return nullptr;
    std::uint64_t total = whole * scale.unit;
    if (*text == '.') {
        const EightDigits fraction(++text);
        if (fraction.count == 0) return nullptr;
        if (fraction.count <= scale.places) {
            total += fraction.number(fraction.count) * kPowersOfTen[scale.places - fraction.count];
        } else {
            if (excess == Excess::kRefuse && fraction.has_nonzero(scale.places, fraction.count)) return nullptr;
            if (scale.places > 0) total += fraction.number(scale.places);
        }
        text += fraction.count;
    }
    if (*text != '"') return nullptr;
    value = static_cast<std::int64_t>(total);
    return text;
}

}  // namespace veloz
