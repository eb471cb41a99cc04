#include "exact.hpp"

#include <algorithm>

namespace veloz {

int128 power_of_ten(int exponent) {
    static constexpr auto powers = [] {
        std::array<int128, kMostDigits + 1> made{1};
        for (std::size_t i = 1; i < made.size(); ++i) made[i] = made[i - 1] * 10;
        return made;
    }();
    if (exponent < 0 || exponent > kMostDigits) throw Inexact{};
    return powers[static_cast<std::size_t>(exponent)];
}

int128 plus(int128 a, int128 b) {
    int128 sum;
    if (__builtin_add_overflow(a, b, &sum)) throw Inexact{};
    return sum;
}

int128 times(int128 a, int128 b) {
    int128 product;
    if (__builtin_mul_overflow(a, b, &product)) throw Inexact{};
    return product;
}

Exact exact_of(std::string_view text) {
    std::size_t at = 0;
    const auto digit = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    const bool is_negative = !text.empty() && text[0] == '-';
    if (!text.empty() && (text[0] == '-' || text[0] == '+')) ++at;
    Exact found;
    int digits = 0;
    const auto take = [&] {
        found.value = plus(times(found.value, 10), text[at++] - '0');
        ++digits;
    };
    while (digit()) take();
    if (at < text.size() && text[at] == '.') {
        ++at;
        for (; digit(); ++found.scale) take();
    }
    if (digits == 0) throw Inexact{};
    if (at < text.size() && (text[at] == 'E' || text[at] == 'e')) {
        ++at;
        const bool is_down = at < text.size() && text[at] == '-';
        if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
        int exponent = 0, places = 0;
        for (; digit() && places < 4; ++places) exponent = exponent * 10 + (text[at++] - '0');
        if (places == 0) throw Inexact{};
        found.scale += is_down ? exponent : -exponent;
    }
    if (at != text.size()) throw Inexact{};
    if (found.scale < 0) {
        found.value = times(found.value, power_of_ten(-found.scale));
        found.scale = 0;
    }
    if (found.scale > kMostDigits && found.value != 0) throw Inexact{};
    if (found.value == 0) found.scale = 0;
    if (is_negative) found.value = -found.value;
    return found;
}

int compare(const Exact &a, const Exact &b) {
    const int scale = std::max(a.scale, b.scale);
    const int128 left = a.at(scale), right = b.at(scale);
    return left < right ? -1 : left > right ? 1 : 0;
}

Exact operator+(const Exact &a, const Exact &b) {
    const int scale = std::max(a.scale, b.scale);
    return {plus(a.at(scale), b.at(scale)), scale};
}

Exact operator-(const Exact &a, const Exact &b) {
    const int scale = std::max(a.scale, b.scale);
    int128 difference;
    if (__builtin_sub_overflow(a.at(scale), b.at(scale), &difference)) throw Inexact{};
    return {difference, scale};
}

Exact operator*(const Exact &a, const Exact &b) { return {times(a.value, b.value), a.scale + b.scale}; }

Exact absolute(const Exact &a) { return {a.value < 0 ? times(a.value, -1) : a.value, a.scale}; }

Exact quotient_up(const Exact &a, const Exact &b, int places) {
    if (a.value < 0 || b.value <= 0) throw Inexact{};
    const int exponent = places + b.scale - a.scale;
    const int128 numerator = exponent > 0 ? times(a.value, power_of_ten(exponent)) : a.value;
    const int128 denominator = exponent < 0 ? times(b.value, power_of_ten(-exponent)) : b.value;
    const int128 whole = numerator / denominator;
    return {numerator % denominator == 0 ? whole : whole + 1, places};
}

void append(std::string &out, const Exact &value) {
    // The most digits, the zeros of the most places, a point and a sign.
    std::array<char, 3 * kMostDigits> buffer;
    char *const end = buffer.data() + buffer.size(), *first = end;
    if (value.scale > 2 * kMostDigits) throw Inexact{};
    auto rest = value.value < 0 ? -static_cast<unsigned128>(value.value) : static_cast<unsigned128>(value.value);
    if (rest == 0) {
        out.push_back('0');
        return;
    }
    int places = value.scale, written = 0;
    bool is_shown = places == 0;
    const auto digit = [&](unsigned found) {
        // Zeros behind the last digit of the fraction aren't shown.
        if (!is_shown && found == 0) {
            --places;
            is_shown = places == 0;
            return;
        }
        is_shown = true;
        if (written == places && places > 0) *--first = '.';
        *--first = static_cast<char>('0' + found);
        ++written;
    };
    // Most values need no 128-bit divisions, which take ten times as long.
    for (; rest >> 64 != 0; rest /= 10) digit(static_cast<unsigned>(rest % 10));
    for (auto small = static_cast<std::uint64_t>(rest); small > 0; small /= 10)
        digit(static_cast<unsigned>(small % 10));
    while (written <= places) digit(0);
    if (value.value < 0) *--first = '-';
    out.append(first, end);
}

std::string text_of(const Exact &value) {
    std::string text;
    append(text, value);
    return text;
}

}  // namespace veloz
