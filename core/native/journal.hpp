// A group of the journal as its bytes, and as the messages that others hear it by.
//
// The format stands in core/storage/journal_format.py, whose decoder reads what is written here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "sha256.hpp"

namespace veloz {

// CRC32C (Castagnoli), goes on from the checksum of what came before. google-crc32c is the oracle.
std::uint32_t crc32c(std::string_view data, std::uint32_t before = 0);

// HMAC-SHA256 (RFC 2104) under one key, whose own blocks are hashed once. hmac is the oracle.
class HmacSha256 {
public:
    explicit HmacSha256(std::string_view key);
    Sha256::Digest sign(std::string_view payload) const;

private:
    Sha256 inner_, outer_;
};

// What a record has beside its payload.
constexpr std::size_t kRecordOverheadBytes = 40;

// Writes one record, moves previous on to its hash, and returns where it ends: kRecordOverheadBytes and the payload's
// bytes further. is_first: of its group.
char *write_record(char *out, std::string_view payload, bool is_first, Sha256::Digest &previous);

// An event's kind, which its payload begins with; empty where it doesn't.
std::string_view event_kind_of(std::string_view payload);

// Who wrote a record, and the number of the first of them.
struct RecordsOf {
    std::string_view quoted_engine_id;  // as JSON
    std::int64_t epoch = 0;
};

void append_published(std::string &body, const RecordsOf &of, std::int64_t sequence, std::string_view hash,
                      std::string_view payload);

}  // namespace veloz
