// SHA-256 (FIPS 180-4), by the processor's own instructions where it has them. hashlib is the oracle.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace veloz {

class Sha256 {
public:
    using Digest = std::array<unsigned char, 32>;

    Sha256 &add(std::string_view data);
    // Ends the message; nothing is added afterwards.
    Digest digest();

private:
    void compress(const unsigned char *blocks, std::size_t count);

    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<unsigned char, 64> rest_{};
    std::size_t rest_bytes_ = 0;
    std::uint64_t total_bytes_ = 0;
};

// Appends so many of the digest's bytes in lower-case hex.
void append_hex(std::string &out, const Sha256::Digest &digest, std::size_t bytes);

}  // namespace veloz
