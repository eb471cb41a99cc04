// A strict, single-pass JSON scanner over raw bytes (RFC 8259): it builds no tree and copies nothing that has no
// escapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace veloz {

// Arrays and objects within each other, in anything that a frame holds.
constexpr int kMaxNesting = 32;

// Bytes that aren't the message they should be. what() ends with the byte offset of the fault.
class FrameError : public std::runtime_error {
public:
    FrameError(const std::string &why, std::size_t offset)
        : std::runtime_error(why + " at byte " + std::to_string(offset)) {}
};

class Scanner {
public:
    explicit Scanner(std::string_view bytes) : begin_(bytes.data()), at_(begin_), end_(begin_ + bytes.size()) {}

    [[noreturn]] void fail(const std::string &why) const { fail_at(why, at_); }
    [[noreturn]] void fail_at(const std::string &why, const char *where) const;

    const char *position() const { return at_; }
    void move_to(const char *where) { at_ = where; }
    std::size_t bytes_left() const { return static_cast<std::size_t>(end_ - at_); }

    void skip_space() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
    }

    // The next byte after white space, not consumed.
    char peek(const char *expected) {
        skip_space();
        if (at_ == end_) fail_truncated(expected);
        return *at_;
    }

    void expect(char wanted, const char *expected) {
        if (peek(expected) != wanted) fail_expected(expected);
        ++at_;
    }

    // A string's content; the view holds until the next string with escapes is read.
    std::string_view string(const char *expected);

    // A whole number from 0 to 2^63 - 1, without fraction or exponent.
    std::int64_t integer(const char *expected);

    // Any value, checked and left behind. depth: how many containers it stands in.
    void skip_value(int depth);

    // Calls on_field(key) with the scanner before each value, which on_field consumes.
    template <typename OnField> void object(const char *expected, OnField on_field) {
        expect('{', expected);
        if (peek("'}' or a key") == '}') {
            ++at_;
            return;
        }
        while (true) {
            const std::string_view key = string("a key");
            expect(':', "':'");
            skip_space();
            on_field(key);
            if (peek("',' or '}'") == '}') break;
            expect(',', "',' or '}'");
            skip_space();
        }
        ++at_;
    }

    // Calls on_element() before each value, which it consumes.
    template <typename OnElement> void array(const char *expected, OnElement on_element) {
        expect('[', expected);
        if (peek("']' or a value") == ']') {
            ++at_;
            return;
        }
        while (true) {
            skip_space();
            on_element();
            if (peek("',' or ']'") == ']') break;
            expect(',', "',' or ']'");
        }
        ++at_;
    }

    // Nothing but white space may be left.
    void finish();

private:
    [[noreturn]] void fail_expected(const char *expected) const;
    [[noreturn]] void fail_truncated(const char *expected) const;
    std::string_view unescaped(const char *first);
    void append_escape();
    std::uint32_t hex4();
    void check_utf8();
    void skip_number();
    void skip_word(std::string_view word);

    const char *begin_;
    const char *at_;
    const char *end_;
    std::string unescaped_;
};

}  // namespace veloz
