#include "scanner.hpp"

#include <bit>
#include <cstring>
#include <limits>

#include "digits.hpp"

namespace veloz {
namespace {

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// Of eight bytes of a string, how many come before the first that isn't plain: a quote, a backslash, a control
// character or one beyond ASCII.
unsigned plain_bytes(const char *text) {
    constexpr std::uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;
    std::uint64_t bytes;
    std::memcpy(&bytes, text, 8);
    const auto zeros = [](std::uint64_t word) { return (word - ones) & ~word; };
    const std::uint64_t others =
        (zeros(bytes ^ ones * '"') | zeros(bytes ^ ones * '\\') | ((bytes - ones * 0x20) & ~bytes) | bytes) & highs;
    // A borrow can only spoil the bytes after the first such one.
    return static_cast<unsigned>(std::countr_zero(others)) / 8;
}

void append_utf8(std::string &out, std::uint32_t point) {
    if (point < 0x80) {
        out += static_cast<char>(point);
    } else if (point < 0x800) {
        out += static_cast<char>(0xC0 | point >> 6);
        out += static_cast<char>(0x80 | (point & 0x3F));
    } else if (point < 0x10000) {
        out += static_cast<char>(0xE0 | point >> 12);
        out += static_cast<char>(0x80 | (point >> 6 & 0x3F));
        out += static_cast<char>(0x80 | (point & 0x3F));
    } else {
        out += static_cast<char>(0xF0 | point >> 18);
        out += static_cast<char>(0x80 | (point >> 12 & 0x3F));
        out += static_cast<char>(0x80 | (point >> 6 & 0x3F));
        out += static_cast<char>(0x80 | (point & 0x3F));
    }
}

}  // namespace

void Scanner::fail_at(const std::string &why, const char *where) const {
    throw FrameError(why, static_cast<std::size_t>(where - begin_));
}

void Scanner::fail_truncated(const char *expected) const {
    fail(std::string("the message ends where ") + expected + " should stand");
}

void Scanner::fail_expected(const char *expected) const {
    if (at_ == end_) fail_truncated(expected);
    const auto byte = static_cast<unsigned char>(*at_);
    std::string found = byte >= 0x20 && byte < 0x7F ? std::string("'") + *at_ + "'" : "byte " + std::to_string(byte);
    fail(std::string("expected ") + expected + ", found " + found);
}

std::string_view Scanner::string(const char *expected) {
    if (at_ == end_ || *at_ != '"') fail_expected(expected);
    const char *first = ++at_;
    while (true) {
        if (kHasFastDigits && bytes_left() >= 8) {
            const unsigned plain = plain_bytes(at_);
            at_ += plain;
            if (plain == 8) continue;
        }
        if (at_ == end_) fail_truncated("the rest of a string");
        const auto byte = static_cast<unsigned char>(*at_);
        if (byte == '"') break;
        if (byte == '\\') return unescaped(first);
        if (byte < 0x20) fail("a control character stands in a string");
        if (byte < 0x80)
            ++at_;
        else
            check_utf8();
    }
    return {first, static_cast<std::size_t>(at_++ - first)};
}

std::string_view Scanner::unescaped(const char *first) {
    unescaped_.assign(first, at_);
    while (true) {
        if (at_ == end_) fail_truncated("the rest of a string");
        const auto byte = static_cast<unsigned char>(*at_);
        if (byte == '"') break;
        if (byte < 0x20) fail("a control character stands in a string");
        if (byte == '\\') {
            append_escape();
        } else if (byte < 0x80) {
            unescaped_ += *at_++;
        } else {
            const char *start = at_;
            check_utf8();
            unescaped_.append(start, at_);
        }
    }
    ++at_;
    return unescaped_;
}

void Scanner::append_escape() {
    const char *start = at_++;
    if (at_ == end_) fail_truncated("the rest of an escape");
    switch (*at_++) {
    case '"':
        unescaped_ += '"';
        return;
    case '\\':
        unescaped_ += '\\';
        return;
    case '/':
        unescaped_ += '/';
        return;
    case 'b':
        unescaped_ += '\b';
        return;
    case 'f':
        unescaped_ += '\f';
        return;
    case 'n':
        unescaped_ += '\n';
        return;
    case 'r':
        unescaped_ += '\r';
        return;
    case 't':
        unescaped_ += '\t';
        return;
    case 'u':
        break;
    default:
        fail_at("a string has an escape that JSON doesn't know", start);
    }
    std::uint32_t point = hex4();
    if (point >= 0xD800 && point < 0xDC00) {
        if (bytes_left() < 2 || at_[0] != '\\' || at_[1] != 'u')
            fail_at("half of a surrogate pair stands alone", start);
        at_ += 2;
        const std::uint32_t low = hex4();
        if (low < 0xDC00 || low > 0xDFFF) fail_at("half of a surrogate pair stands alone", start);
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    } else if (point >= 0xDC00 && point <= 0xDFFF) {
        fail_at("half of a surrogate pair stands alone", start);
    }
    append_utf8(unescaped_, point);
}

std::uint32_t Scanner::hex4() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
        if (at_ == end_) fail_truncated("the rest of an escape");
        const char byte = *at_;
        value <<= 4;
        if (is_digit(byte))
            value |= static_cast<std::uint32_t>(byte - '0');
        else if (byte >= 'a' && byte <= 'f')
            value |= static_cast<std::uint32_t>(byte - 'a' + 10);
        else if (byte >= 'A' && byte <= 'F')
            value |= static_cast<std::uint32_t>(byte - 'A' + 10);
        else
            fail("an escape needs four hexadecimal digits");
    }
    return value;
}

// One character of more than one byte: shortest form, no surrogate, at most U+10FFFF (RFC 3629).
void Scanner::check_utf8() {
    const auto lead = static_cast<unsigned char>(*at_);
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    bool valid = lead >= 0xC2 && lead <= 0xF4 && bytes_left() >= length;
    for (std::size_t i = 1; valid && i < length; ++i) valid = is_continuation(at_[i]);
    if (valid && length > 2) {
        const auto second = static_cast<unsigned char>(at_[1]);
        valid = !(lead == 0xE0 && second < 0xA0) && !(lead == 0xED && second > 0x9F) &&
                !(lead == 0xF0 && second < 0x90) && !(lead == 0xF4 && second > 0x8F);
    }
    if (!valid) fail("a string is not UTF-8");
    at_ += length;
}

std::int64_t Scanner::integer(const char *expected) {
    constexpr auto limit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    const char *first = at_;
    std::uint64_t value = 0;
    if (kHasFastDigits && bytes_left() >= 16) {
        const EightDigits head(at_);
        if (head.count > 0) value = head.number(head.count);
        at_ += head.count;
        if (head.count == 8) {
            const EightDigits more(at_);
            if (more.count > 0) value = value * kPowersOfTen[more.count] + more.number(more.count);
            at_ += more.count;
        }
    }
    for (; at_ != end_ && is_digit(*at_); ++at_) {
        const auto digit = static_cast<unsigned>(*at_ - '0');
        if (value > (limit - digit) / 10) fail_at(std::string(expected) + " needs more than 63 bits", first);
        value = value * 10 + digit;
    }
    if (at_ == first) fail_expected(expected);
    if (*first == '0' && at_ - first > 1) fail_at(std::string(expected) + " has a leading zero", first);
    if (at_ != end_ && (*at_ == '.' || *at_ == 'e' || *at_ == 'E'))
        fail_at(std::string(expected) + " is not whole", first);
    return static_cast<std::int64_t>(value);
}

void Scanner::skip_value(int depth) {
    if (depth > kMaxNesting) fail("values are nested more than " + std::to_string(kMaxNesting) + " deep");
    if (at_ == end_) fail_truncated("a value");
    switch (*at_) {
    case '"':
        string("a string");
        return;
    case '{':
        object("'{'", [&](std::string_view) { skip_value(depth + 1); });
        return;
    case '[':
        array("'['", [&] { skip_value(depth + 1); });
        return;
    case 't':
        skip_word("true");
        return;
    case 'f':
        skip_word("false");
        return;
    case 'n':
        skip_word("null");
        return;
    default:
        skip_number();
    }
}

void Scanner::skip_word(std::string_view word) {
    if (std::string_view(at_, bytes_left()).substr(0, word.size()) != word) fail_expected("a value");
    at_ += word.size();
}

void Scanner::skip_number() {
    const char *expected = "a value";
    const auto digits = [&] {
        const char *first = at_;
        while (at_ != end_ && is_digit(*at_)) ++at_;
        if (at_ == first) fail_expected(expected);
    };
    if (at_ != end_ && *at_ == '-') {
        expected = "a digit";
        ++at_;
    }
    if (at_ == end_) fail_truncated(expected);
    if (*at_ == '0')
        ++at_;
    else
        digits();
    expected = "a digit";
    if (at_ != end_ && *at_ == '.') {
        ++at_;
        digits();
    }
    if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
        ++at_;
        if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
        digits();
    }
}

void Scanner::finish() {
    skip_space();
    if (at_ != end_) fail("something follows the end of the message");
}

}  // namespace veloz
