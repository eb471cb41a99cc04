#include "money.hpp"

#include <limits>
#include <stdexcept>
#include <string>

namespace veloz {

Parsed parse_unsigned(std::string_view text, int scale, Excess excess) {
    constexpr auto limit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    std::uint64_t value = 0;
    const auto append_digit = [&](unsigned digit) {
        if (value > (limit - digit) / 10) return false;
        value = value * 10 + digit;
        return true;
    };
    const auto is_digit = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    constexpr const char *too_big = "the value needs more than 63 bits";
    std::size_t position = 0, digits = 0;
    int kept = 0;
    for (; is_digit(position); ++position, ++digits)
        if (!append_digit(static_cast<unsigned>(text[position] - '0'))) return {0, too_big};
    if (position < text.size() && text[position] == '.') {
        for (++position; is_digit(position); ++position, ++digits) {
            const auto digit = static_cast<unsigned>(text[position] - '0');
            if (kept < scale) {
                if (!append_digit(digit)) return {0, too_big};
                ++kept;
            } else if (digit != 0 && excess == Excess::kRefuse) {
                return {0, "it has more decimal places than the scale"};
            }
        }
    }
    if (position != text.size()) return {0, "it is not a plain decimal"};
    if (digits == 0) return {0, "it holds no digits"};
    for (; kept < scale; ++kept)
        if (!append_digit(0)) return {0, too_big};
    return {static_cast<std::int64_t>(value), nullptr};
}

std::int64_t parse_scaled(std::string_view text, int scale) {
    const auto fail = [&](const char *why) {
        std::string message(1, '\'');
        message.append(text.substr(0, 64)).append("' at scale ").append(std::to_string(scale)).append(": ").append(why);
        return std::invalid_argument(message);
    };
    if (scale < 0 || scale > kMaxScale) throw fail("the scale must be 0 to 18");
    const bool has_sign = !text.empty() && (text.front() == '-' || text.front() == '+');
    const Parsed magnitude = parse_unsigned(has_sign ? text.substr(1) : text, scale, Excess::kRefuse);
    if (magnitude.why_not != nullptr) throw fail(magnitude.why_not);
    return has_sign && text.front() == '-' ? -magnitude.value : magnitude.value;
}

}  // namespace veloz
