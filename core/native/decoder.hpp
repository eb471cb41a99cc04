// Binance depth messages, from bytes to levels: spot, USD-M and COIN-M, raw or in a combined stream's envelope.
//
// Field names are the venue's (https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "digits.hpp"
#include "scanner.hpp"

namespace veloz {

constexpr std::size_t kMaxFrameBytes = 16'777'216;
constexpr std::size_t kMaxFrameLevels = 200'000;  // both sides together

struct Level {
    std::int64_t price;
    std::int64_t quantity;

    friend bool operator==(const Level &, const Level &) = default;
};

// What a depth message and a depth snapshot have in common: bids, then asks, in one array.
struct DepthLevels {
    std::vector<Level> levels;
    std::size_t bid_count = 0;

    const Level *bids() const { return levels.data(); }
    const Level *asks() const { return levels.data() + bid_count; }
    std::size_t ask_count() const { return levels.size() - bid_count; }
};

struct DepthMessage : DepthLevels {
    std::int64_t first_update_id = 0;
    std::int64_t last_update_id = 0;
    std::optional<std::int64_t> previous_update_id;
    std::int64_t ts_event_ns = 0;
};

struct SnapshotMessage : DepthLevels {
    std::int64_t last_update_id = 0;
    std::optional<std::int64_t> ts_event_ns;
};

struct Scales {
    DecimalScale price;
    DecimalScale quantity;
    std::size_t slot = 0;  // the caller's own handle of the symbol
};

// Knows instruments by symbol. What it returns shares nothing with the bytes that it read.
class Decoder {
public:
    // Scales are 0 to kMaxScale.
    void add(std::string_view symbol, Scales scales);
    bool remove(std::string_view symbol);
    const Scales *find(std::string_view symbol) const;

    struct Decoded {
        std::size_t slot;
        DepthMessage message;
    };

    // Nothing when the symbol isn't known here. Throws FrameError for bytes that are no depth message.
    std::optional<Decoded> decode(std::string_view frame);

    // The body of a REST depth answer for a symbol that is known. Throws FrameError for any other bytes, and for a body
    // that names another symbol.
    SnapshotMessage decode_snapshot(std::string_view body, std::string_view symbol, const Scales &scales);

private:
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
    };

    std::unordered_map<std::string, Scales, Hash, std::equal_to<>> scales_;
    std::vector<Level> scratch_;  // kept for its memory
};

}  // namespace veloz
