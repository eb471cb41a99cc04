// Decimal text to scaled integer, exactly: the one place where text becomes money.

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>

#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>

namespace nb = nanobind;

namespace veloz {

constexpr int kMaxScale = 18;

// Parses `[+-]digits[.digits]` into an integer at `scale` decimal places. Digits beyond the scale must be zeros.
// Throws std::invalid_argument (ValueError in Python) for any other form, and when the value needs more than 63 bits.
std::int64_t parse_scaled(std::string_view text, int scale) {
    const auto fail = [&](const char *why) -> std::invalid_argument {
        return std::invalid_argument("'" + std::string(text.substr(0, 64)) + "' at scale " + std::to_string(scale) +
                                     ": " + why);
    };
    if (scale < 0 || scale > kMaxScale) throw fail("the scale must be 0 to 18");
    std::size_t position = 0;
    bool negative = false;
    if (position < text.size() && (text[position] == '-' || text[position] == '+')) {
        negative = text[position] == '-';
        ++position;
    }
    constexpr std::uint64_t limit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    std::uint64_t value = 0;
    const auto append_digit = [&](unsigned digit) {
        if (value > (limit - digit) / 10) throw fail("the value needs more than 63 bits");
        value = value * 10 + digit;
    };
    int whole_digits = 0, fraction_digits = 0, kept_digits = 0;
    for (; position < text.size() && text[position] >= '0' && text[position] <= '9'; ++position, ++whole_digits)
        append_digit(static_cast<unsigned>(text[position] - '0'));
    if (position < text.size() && text[position] == '.') {
        ++position;
        for (; position < text.size() && text[position] >= '0' && text[position] <= '9';
             ++position, ++fraction_digits) {
            const auto digit = static_cast<unsigned>(text[position] - '0');
            if (kept_digits < scale) {
                append_digit(digit);
                ++kept_digits;
            } else if (digit != 0) {
                throw fail("it has more decimal places than the scale");
            }
        }
    }
    if (position != text.size()) throw fail("it is not a plain decimal");
    if (whole_digits + fraction_digits == 0) throw fail("it holds no digits");
    for (; kept_digits < scale; ++kept_digits) append_digit(0);
    const auto magnitude = static_cast<std::int64_t>(value);
    return negative ? -magnitude : magnitude;
}

}  // namespace veloz

NB_MODULE(_native, module) {
    module.doc() = "VeloZ's native core.";
    module.def("parse_scaled", &veloz::parse_scaled, nb::arg("text"), nb::arg("scale"),
               "Decimal text to an int at `scale` decimal places, exactly.\n\n"
               "Raises ValueError for text that isn't a plain decimal, has more places than the scale, or needs more "
               "than 63 bits.");
}
