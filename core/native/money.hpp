// Decimal text to scaled integer, exactly: the one place where text becomes money.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace veloz {

constexpr int kMaxScale = 18;

inline constexpr auto kPowersOfTen = [] {
    std::array<std::uint64_t, kMaxScale + 1> powers{1};
    for (std::size_t i = 1; i < powers.size(); ++i) powers[i] = powers[i - 1] * 10;
    return powers;
}();

// What becomes of non-zero digits below the scale.
enum class Excess { kRefuse, kCut };

struct Parsed {
    std::int64_t value = 0;
    const char *why_not = nullptr;  // set when there is no value
};

// `digits[.digits]` (either may be empty, not both) as an integer at `scale` decimal places; no sign. scale is 0 to
// kMaxScale.
Parsed parse_unsigned(std::string_view text, int scale, Excess excess);

// `[+-]digits[.digits]` into an integer at `scale` decimal places. Digits beyond the scale must be zeros.
// Throws std::invalid_argument for any other form, and when the value needs more than 63 bits.
std::int64_t parse_scaled(std::string_view text, int scale);

}  // namespace veloz
