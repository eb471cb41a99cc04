// The order book of one instrument: sorted price levels a side, and the range that is known of them.
//
// It knows nothing of sequences or time: core.market.sync decides what may be applied. core/market/book.py is its
// oracle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
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

// One side. Keys ascend from the best level on: asks by price, bids by its negative.
class BookSide {
public:
    BookSide(bool is_bid, std::size_t max_levels) : is_bid_(is_bid), max_levels_(max_levels) {}

    void replace(const Level *levels, std::size_t count, bool is_complete);
    void apply(const Level *levels, std::size_t count);

    std::size_t size() const { return levels_.size(); }
    std::optional<Level> best() const;
    std::optional<std::int64_t> known_to() const;
    Sweep sweep(std::int64_t quantity) const;
    Sweep sweep_notional(uint128_t notional) const;
    uint128_t quantity_of(std::size_t count) const;

    // Calls on_level(price, quantity), best first, for at most count levels.
    template <typename OnLevel> void visit(std::size_t count, OnLevel on_level) const {
        for (const Level &level : levels_) {
            if (count-- == 0) return;
            on_level(price_of(level.price), level.quantity);
        }
    }

private:
    static constexpr std::int64_t kEverything = std::numeric_limits<std::int64_t>::max();

    std::int64_t key_of(std::int64_t price) const { return is_bid_ ? -price : price; }
    std::int64_t price_of(std::int64_t key) const { return is_bid_ ? -key : key; }
    void prune();

    bool is_bid_;
    std::size_t max_levels_;
    std::int64_t last_known_key_ = kEverything;
    std::vector<Level> levels_;  // price holds the key
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
