// The order book of one instrument: sorted price levels a side, and the range that is known of them.
//
// It knows nothing of sequences or time: core.market.sync decides what may be applied. core/market/book.py is its
// oracle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "decoder.hpp"

namespace veloz {

__extension__ typedef unsigned __int128 uint128_t;

// Beyond this the levels farthest from the market are forgotten, and the known range ends at the last one kept.
constexpr std::size_t kMaxLevelsPerSide = 20'000;

// What a marketable order would take. worst_price is unset when nothing was filled.
struct Sweep {
    uint128_t filled = 0;
    uint128_t notional = 0;
    std::optional<std::int64_t> worst_price;
    std::size_t levels = 0;
};

// One side: an array of sorted chunks, so that an insertion moves a few levels only and a level takes little more than
// its 16 bytes. Keys ascend from the best level on: asks by price, bids by its negative.
class BookSide {
public:
    BookSide(bool is_bid, std::size_t max_levels) : is_bid_(is_bid), max_levels_(max_levels) {}
    BookSide(BookSide &&) = default;

    void replace(const Level *levels, std::size_t count, bool is_complete);
    void apply(const Level *levels, std::size_t count);

    std::size_t size() const { return size_; }
    std::optional<Level> best() const {
        if (size_ == 0) return std::nullopt;
        const Chunk &chunk = *chunks_.front();
        return Level{price_of(chunk.keys[0]), chunk.quantities[0]};
    }
    std::optional<std::int64_t> known_to() const;
    Sweep sweep(std::int64_t quantity) const;
    Sweep sweep_notional(uint128_t notional) const;
    uint128_t quantity_of(std::size_t count) const;

    // Calls on_level(price, quantity), best first, for at most count levels.
    template <typename OnLevel> void visit(std::size_t count, OnLevel on_level) const {
        visit_while([&](std::int64_t price, std::int64_t quantity) {
            if (count == 0) return false;
            --count;
            on_level(price, quantity);
            return true;
        });
    }

    // Asserts what must hold between calls.
    void check() const;

private:
    static constexpr std::size_t kChunkLevels = 32;
    static constexpr std::size_t kBlockLevels = 8;    // a cache line of keys, searched at once
    static constexpr std::size_t kFilledLevels = 24;  // of a chunk after a snapshot: room for what comes between
    static constexpr std::size_t kFewLevels = 8;      // a chunk with fewer joins a neighbour that has the room
    static constexpr std::int64_t kNoKey = std::numeric_limits<std::int64_t>::max();

    struct Chunk {
        std::size_t count = 0;
        std::int64_t keys[kChunkLevels];  // kNoKey from count on
        std::int64_t quantities[kChunkLevels];

        Chunk();
        std::size_t position_of(std::int64_t key) const;
        void insert(std::size_t at, std::int64_t key, std::int64_t quantity);
        void erase(std::size_t at);
        // Moves the levels from `first` on to the end of another chunk, which has the room.
        void move_to(Chunk &other, std::size_t first);
        std::int64_t last_key() const { return keys[count - 1]; }
    };

    static constexpr std::int64_t kEverything = std::numeric_limits<std::int64_t>::max();

    std::int64_t key_of(std::int64_t price) const { return is_bid_ ? -price : price; }
    std::int64_t price_of(std::int64_t key) const { return is_bid_ ? -key : key; }
    std::size_t chunk_of(std::int64_t key, std::size_t hint) const;
    void insert(std::size_t chunk, std::size_t at, std::int64_t key, std::int64_t quantity);
    void erase(std::size_t chunk, std::size_t at);
    void join_with_next(std::size_t chunk);
    void remove_chunk(std::size_t chunk);
    void prune();

    // Calls on_level(price, quantity), best first, until it returns false.
    template <typename OnLevel> void visit_while(OnLevel on_level) const {
        for (const auto &chunk : chunks_)
            for (std::size_t i = 0; i < chunk->count; ++i)
                if (!on_level(price_of(chunk->keys[i]), chunk->quantities[i])) return;
    }

    bool is_bid_;
    std::size_t max_levels_;
    std::size_t size_ = 0;
    std::int64_t last_known_key_ = kEverything;
    std::vector<std::unique_ptr<Chunk>> chunks_;  // none is empty
    std::vector<std::int64_t> last_keys_;         // of each chunk
};

class Book {
public:
    explicit Book(std::size_t max_levels = kMaxLevelsPerSide) : bids(true, max_levels), asks(false, max_levels) {}

    void apply_snapshot(const DepthLevels &levels, std::int64_t last_update_id, bool is_complete);
    void apply_update(const DepthLevels &levels, std::int64_t last_update_id);
    bool is_crossed() const;

    // Tag, update id, and per side its number of levels and each price and quantity, best first; little-endian 64-bit.
    std::string canonical_bytes() const;

    BookSide bids;
    BookSide asks;
    std::int64_t last_update_id = 0;
};

}  // namespace veloz
