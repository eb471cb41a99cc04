#include "sha256.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define VELOZ_SHA_NI 1
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace veloz {

namespace {

constexpr std::size_t kBlockBytes = 64, kLengthBytes = 8;
constexpr std::array<std::uint32_t, 64> kRound{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t word_at(const unsigned char *bytes) {
    return static_cast<std::uint32_t>(bytes[0]) << 24 | static_cast<std::uint32_t>(bytes[1]) << 16 |
           static_cast<std::uint32_t>(bytes[2]) << 8 | bytes[3];
}

void compress_portably(std::array<std::uint32_t, 8> &state, const unsigned char *block, std::size_t count) {
    for (; count != 0; --count, block += kBlockBytes) {
        std::array<std::uint32_t, 64> w;
        for (std::size_t i = 0; i < 16; ++i) w[i] = word_at(block + 4 * i);
        for (std::size_t i = 16; i < 64; ++i) {
            const std::uint32_t a = w[i - 15], b = w[i - 2];
            const std::uint32_t s0 = std::rotr(a, 7) ^ std::rotr(a, 18) ^ (a >> 3);
            const std::uint32_t s1 = std::rotr(b, 17) ^ std::rotr(b, 19) ^ (b >> 10);
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        auto [a, b, c, d, e, f, g, h] = state;
        for (std::size_t i = 0; i < 64; ++i) {
            const std::uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
            const std::uint32_t first = h + s1 + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
            const std::uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
            const std::uint32_t second = s0 + ((a & b) ^ (a & c) ^ (b & c));
            h = g;
            g = f;
            f = e;
            e = d + first;
            d = c;
            c = b;
            b = a;
            a = first + second;
        }
        const std::array<std::uint32_t, 8> worked{a, b, c, d, e, f, g, h};
        for (std::size_t i = 0; i < 8; ++i) state[i] += worked[i];
    }
}

#ifdef VELOZ_SHA_NI

bool has_sha_instructions() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (b & (1u << 29)) == 0) return false;
    // Beside them SSSE3 and SSE4.1.
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1u << 9)) != 0 && (c & (1u << 19)) != 0;
}

__attribute__((target("sha,sse4.1,ssse3"))) void compress_natively(std::array<std::uint32_t, 8> &state,
                                                                   const unsigned char *block, std::size_t count) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    // The instructions want the state as (a, b, e, f) and (c, d, g, h), highest word first.
    __m128i abcd = _mm_loadu_si128(reinterpret_cast<const __m128i *>(state.data()));
    __m128i efgh = _mm_loadu_si128(reinterpret_cast<const __m128i *>(state.data() + 4));
    abcd = _mm_shuffle_epi32(abcd, 0xb1);
    efgh = _mm_shuffle_epi32(efgh, 0x1b);
    __m128i abef = _mm_alignr_epi8(abcd, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, abcd, 0xf0);
    for (; count != 0; --count, block += kBlockBytes) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (std::size_t i = 0; i < 4; ++i)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i *>(block + 16 * i)), swap);
        for (std::size_t i = 0; i < 16; ++i) {
            __m128i words = w[i % 4];
            if (i >= 4) {
                const __m128i before = w[(i + 3) % 4];
                words = _mm_sha256msg1_epu32(words, w[(i + 1) % 4]);
                words = _mm_add_epi32(words, _mm_alignr_epi8(before, w[(i + 2) % 4], 4));
                words = _mm_sha256msg2_epu32(words, before);
                w[i % 4] = words;
            }
            const __m128i round =
                _mm_add_epi32(words, _mm_loadu_si128(reinterpret_cast<const __m128i *>(kRound.data() + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, round);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(round, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(state.data()), _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(state.data() + 4), _mm_alignr_epi8(dchg, feba, 8));
}

#endif

}  // namespace

Sha256 &Sha256::add(std::string_view data) {
    const auto *bytes = reinterpret_cast<const unsigned char *>(data.data());
    std::size_t left = data.size();
    total_bytes_ += left;
    if (rest_bytes_ != 0) {
        const std::size_t taken = std::min(left, kBlockBytes - rest_bytes_);
        std::memcpy(rest_.data() + rest_bytes_, bytes, taken);
        rest_bytes_ += taken;
        bytes += taken;
        left -= taken;
        if (rest_bytes_ < kBlockBytes) return *this;
        compress(rest_.data(), 1);
        rest_bytes_ = 0;
    }
    const std::size_t whole = left / kBlockBytes;
    if (whole != 0) compress(bytes, whole);
    rest_bytes_ = left - whole * kBlockBytes;
    if (rest_bytes_ != 0) std::memcpy(rest_.data(), bytes + whole * kBlockBytes, rest_bytes_);
    return *this;
}

Sha256::Digest Sha256::digest() {
    const std::uint64_t bits = total_bytes_ * 8;
    rest_[rest_bytes_++] = 0x80;
    if (rest_bytes_ > kBlockBytes - kLengthBytes) {
        std::memset(rest_.data() + rest_bytes_, 0, kBlockBytes - rest_bytes_);
        compress(rest_.data(), 1);
        rest_bytes_ = 0;
    }
    std::memset(rest_.data() + rest_bytes_, 0, kBlockBytes - kLengthBytes - rest_bytes_);
    for (std::size_t i = 0; i < kLengthBytes; ++i)
        rest_[kBlockBytes - 1 - i] = static_cast<unsigned char>(bits >> (8 * i));
    compress(rest_.data(), 1);
    Digest digest;
    for (std::size_t i = 0; i < digest.size(); ++i)
        digest[i] = static_cast<unsigned char>(state_[i / 4] >> (24 - 8 * (i % 4)));
    return digest;
}

void Sha256::compress(const unsigned char *blocks, std::size_t count) {
#ifdef VELOZ_SHA_NI
    static const bool is_native = has_sha_instructions();
    if (is_native) return compress_natively(state_, blocks, count);
#endif
    compress_portably(state_, blocks, count);
}

void append_hex(std::string &out, const Sha256::Digest &digest, std::size_t bytes) {
    static constexpr std::string_view kHex = "0123456789abcdef";
    for (std::size_t i = 0; i < bytes; ++i) out.append(1, kHex[digest[i] >> 4]).append(1, kHex[digest[i] & 15]);
}

}  // namespace veloz
