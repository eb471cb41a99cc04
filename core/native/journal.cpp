#include "journal.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define VELOZ_CRC_NATIVE 1
#include <nmmintrin.h>
#endif

namespace veloz {

namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // reflected
constexpr std::uint8_t kFirstKind = 0xFB, kFurtherKind = 0xF5;
constexpr std::size_t kHmacBlockBytes = 64;
constexpr std::string_view kKindMark = R"({"kind":")";

constexpr std::array<std::uint32_t, 256> checksums_of_bytes() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
        std::uint32_t sum = byte;
        for (int bit = 0; bit < 8; ++bit) sum = (sum >> 1) ^ ((sum & 1) != 0 ? kPolynomial : 0);
        table[byte] = sum;
    }
    return table;
}

std::uint32_t checksum_portably(std::string_view data, std::uint32_t sum) {
    static constexpr std::array<std::uint32_t, 256> table = checksums_of_bytes();
    for (const char byte : data) sum = (sum >> 8) ^ table[(sum ^ static_cast<unsigned char>(byte)) & 0xFF];
    return sum;
}

#ifdef VELOZ_CRC_NATIVE

__attribute__((target("sse4.2"))) std::uint32_t checksum_natively(std::string_view data, std::uint32_t sum) {
    std::uint64_t wide = sum;
    std::size_t at = 0;
    for (; at + 8 <= data.size(); at += 8) {
        std::uint64_t word;
        std::memcpy(&word, data.data() + at, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    sum = static_cast<std::uint32_t>(wide);
    for (; at < data.size(); ++at) sum = _mm_crc32_u8(sum, static_cast<unsigned char>(data[at]));
    return sum;
}

#endif

char *write_little(char *out, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) *out++ = static_cast<char>(value >> (8 * i) & 0xFF);
    return out;
}

std::string_view view_of(const Sha256::Digest &digest) {
    return {reinterpret_cast<const char *>(digest.data()), digest.size()};
}

}  // namespace

std::uint32_t crc32c(std::string_view data, std::uint32_t before) {
#ifdef VELOZ_CRC_NATIVE
    static const bool is_native = __builtin_cpu_supports("sse4.2") != 0;
    if (is_native) return ~checksum_natively(data, ~before);
#endif
    return ~checksum_portably(data, ~before);
}

HmacSha256::HmacSha256(std::string_view key) {
    std::array<char, kHmacBlockBytes> block{};
    if (key.size() > block.size()) {
        Sha256 shortened;
        const Sha256::Digest digest = shortened.add(key).digest();
        std::memcpy(block.data(), digest.data(), digest.size());
    } else {
        std::copy(key.begin(), key.end(), block.begin());
    }
    for (char &byte : block) byte = static_cast<char>(byte ^ 0x36);
    inner_.add({block.data(), block.size()});
    for (char &byte : block) byte = static_cast<char>(byte ^ 0x36 ^ 0x5c);
    outer_.add({block.data(), block.size()});
}

Sha256::Digest HmacSha256::sign(std::string_view payload) const {
    Sha256 inner = inner_, outer = outer_;
    const Sha256::Digest digest = inner.add(payload).digest();
    return outer.add(view_of(digest)).digest();
}

char *write_record(char *out, std::string_view payload, bool is_first, Sha256::Digest &previous) {
    const auto length = static_cast<std::uint32_t>(payload.size());
    const char *word = out;
    out = write_little(out, length << 8 | (is_first ? kFirstKind : kFurtherKind));
    const std::uint32_t checksum = crc32c(payload, crc32c(view_of(previous), crc32c({word, 4})));
    out = write_little(out, checksum);
    const char *body = out;
    out = std::copy_n(view_of(previous).data(), previous.size(), out);
    out = std::copy_n(payload.data(), payload.size(), out);
    Sha256 hash;
    previous = hash.add({body, static_cast<std::size_t>(out - body)}).digest();
    return out;
}

std::string_view event_kind_of(std::string_view payload) {
    if (!payload.starts_with(kKindMark)) return {};
    payload.remove_prefix(kKindMark.size());
    const std::size_t end = payload.find_first_not_of("abcdefghijklmnopqrstuvwxyz_");
    if (end == std::string_view::npos || payload[end] != '"') return {};
    return payload.substr(0, end);
}

void append_published(std::string &body, const RecordsOf &of, std::int64_t sequence, std::string_view hash,
                      std::string_view payload) {
    body.append(R"({"engine_id":)").append(of.quoted_engine_id);
    body.append(R"(,"epoch":)").append(std::to_string(of.epoch));
    body.append(R"(,"sequence":)").append(std::to_string(sequence));
    body.append(R"(,"hash_hex":")");
    Sha256::Digest digest;
    std::memcpy(digest.data(), hash.data(), digest.size());
    append_hex(body, digest, digest.size());
    body.append(R"(","event":)").append(payload).append("}");
}

}  // namespace veloz
