#include <array>
#include <utility>

#include "risk.hpp"

namespace veloz {

namespace {

constexpr std::size_t kMostBytes = 4'096;  // of most orders' records

// As msgspec escapes: what JSON asks for, and nothing else.
void append_quoted(std::string &out, std::string_view text) {
    static constexpr std::array<char, 16> kHex{'0', '1', '2', '3', '4', '5', '6', '7',
                                               '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'};
    out.push_back('"');
    for (const char sign : text) {
        const auto code = static_cast<unsigned char>(sign);
        if (code >= 0x20 && sign != '"' && sign != '\\') {
            out.push_back(sign);
            continue;
        }
        out.push_back('\\');
        switch (sign) {
        case '"':
        case '\\':
            out.push_back(sign);
            break;
        case '\b':
            out.push_back('b');
            break;
        case '\f':
            out.push_back('f');
            break;
        case '\n':
            out.push_back('n');
            break;
        case '\r':
            out.push_back('r');
            break;
        case '\t':
            out.push_back('t');
            break;
        default:
            out.append("u00").append(1, kHex[code >> 4]).append(1, kHex[code & 15]);
        }
    }
    out.push_back('"');
}

void append(std::string &out, const Literal &literal) {
    if (literal.quoted.empty()) append_quoted(literal.quoted, literal.text);
    out.append(literal.quoted);
}

void append(std::string &out, const Word &word) {
    if (const auto *literal = std::get_if<const Literal *>(&word)) return append(out, **literal);
    if (const auto *text = std::get_if<std::string_view>(&word)) return append_quoted(out, *text);
    if (const auto *number = std::get_if<Exact>(&word)) {
        out.push_back('"');
        append(out, *number);
        out.push_back('"');
        return;
    }
    out.append("null");
}

}  // namespace

void Records::add(const Literal &code, bool passed, const Word &limit, const Word &actual, const Word &unit,
                  const Word &source) {
    if (count_++ == 0) json_.reserve(kMostBytes);
    append(json_.append(count_ == 1 ? "[[" : ",["), code);
    append(json_.append(passed ? ",true," : ",false,"), limit);
    append(json_.append(","), actual);
    append(json_.append(","), unit);
    append(json_.append(","), source);
    json_.push_back(']');
}

std::string Records::json() {
    json_.append(count_ == 0 ? "[]" : "]");
    return std::move(json_);
}

}  // namespace veloz
