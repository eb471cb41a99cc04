// Decimals as 128-bit integers at a scale: exact or not at all.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace veloz {

__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 unsigned128;

// Thrown where 128 bits don't hold a value exactly: the caller then asks whoever has more digits.
struct Inexact {};

constexpr int kMostDigits = 38;

int128 power_of_ten(int exponent);
int128 plus(int128 a, int128 b);
int128 times(int128 a, int128 b);

// value / 10^scale
struct Exact {
    int128 value = 0;
    int scale = 0;

    // The value at a scale that isn't smaller.
    int128 at(int wanted) const { return wanted == scale ? value : times(value, power_of_ten(wanted - scale)); }
};

using MaybeExact = std::optional<Exact>;

// `[+-]digits[.digits][E[+-]digits]`, as Python writes a Decimal.
Exact exact_of(std::string_view text);

int compare(const Exact &a, const Exact &b);
Exact operator+(const Exact &a, const Exact &b);
Exact operator-(const Exact &a, const Exact &b);
Exact operator*(const Exact &a, const Exact &b);
Exact absolute(const Exact &a);

// a / b rounded up to so many places; a is not negative, b is positive.
Exact quotient_up(const Exact &a, const Exact &b, int places);

// Plain notation, no trailing zeros, no negative zero: as core.types.money.decimal_text.
void append(std::string &out, const Exact &value);
std::string text_of(const Exact &value);

// A sum that never overflows, so that what was added can always be taken away again.
class Sum {
public:
    void add(int128 value) {
        const auto low = static_cast<unsigned128>(value);
        low_ += low;
        high_ += (value < 0 ? -1 : 0) + (low_ < low ? 1 : 0);
    }
    int128 value() const {
        const auto whole = static_cast<int128>(low_);
        if (high_ != (whole < 0 ? -1 : 0)) throw Inexact{};
        return whole;
    }
    bool is_zero() const { return low_ == 0 && high_ == 0; }

private:
    unsigned128 low_ = 0;
    std::int64_t high_ = 0;
};

}  // namespace veloz
