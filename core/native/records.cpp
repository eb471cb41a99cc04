#include <array>

#include "risk.hpp"

namespace veloz {

namespace {

constexpr std::size_t kRecordBytes = 144;  // of most

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
    if (word.literal != nullptr)
        append(out, *word.literal);
    else if (word.made)
        append_quoted(out, *word.made);
    else
        out.append("null");
}

}  // namespace

std::string json_of(const std::vector<RiskRecord> &records) {
    std::string out;
    out.reserve(records.size() * kRecordBytes);
    char before = '[';
    for (const RiskRecord &record : records) {
        out.push_back(before);
        before = ',';
        append(out.append("{\"name\":"), *record.code);
        out.append(record.passed ? ",\"passed\":true,\"limit\":" : ",\"passed\":false,\"limit\":");
        append(out, record.limit);
        append(out.append(",\"actual\":"), record.actual);
        append(out.append(",\"unit\":"), record.unit);
        append(out.append(",\"source\":"), record.source);
        out.push_back('}');
    }
    if (records.empty()) out.push_back('[');
    out.push_back(']');
    return out;
}

}  // namespace veloz
