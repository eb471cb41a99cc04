// The order book as two std::maps: slow, plainly right, and what the real one is held against under the sanitizers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "../book.hpp"

namespace veloz::fuzz {

inline void require(bool holds, const char *what) {
    if (holds) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

class SideModel {
public:
    SideModel(bool is_bid, std::size_t max_levels) : is_bid_(is_bid), max_levels_(max_levels) {}

    void replace(const Level *levels, std::size_t count, bool is_complete) {
        held_.clear();
        last_known_ = kEverything;
        apply(levels, count, false);
        if (!is_complete && !held_.empty()) last_known_ = held_.rbegin()->first;
        prune();
    }

    void apply(const Level *levels, std::size_t count, bool prunes = true) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::int64_t key = is_bid_ ? -levels[i].price : levels[i].price;
            if (key > last_known_) continue;
            if (levels[i].quantity == 0)
                held_.erase(key);
            else
                held_[key] = levels[i].quantity;
        }
        if (prunes) prune();
    }

    void compare(const BookSide &side) const {
        side.check();
        require(side.size() == held_.size(), "the number of levels");
        auto expected = held_.begin();
        side.visit(side.size(), [&](std::int64_t price, std::int64_t quantity) {
            require(price == price_of(expected->first) && quantity == expected->second, "a level");
            ++expected;
        });
        require(expected == held_.end(), "the last level");
        const auto known_to = side.known_to();
        require(known_to.has_value() == (last_known_ != kEverything), "whether everything is known");
        require(!known_to || *known_to == price_of(last_known_), "how far anything is known");
        const auto best = side.best();
        require(best.has_value() == !held_.empty(), "whether there is a best level");
        if (best) require(*best == Level{price_of(held_.begin()->first), held_.begin()->second}, "the best level");
    }

    void compare_sweep(const BookSide &side, std::int64_t quantity) const {
        uint128_t filled = 0, notional = 0;
        for (const auto &[key, available] : held_) {
            const auto taken =
                std::min<uint128_t>(static_cast<uint128_t>(quantity) - filled, static_cast<uint128_t>(available));
            filled += taken;
            notional += taken * static_cast<uint128_t>(price_of(key));
        }
        const Sweep swept = side.sweep(quantity);
        require(swept.filled == filled && swept.notional == notional, "a sweep");
        // Whoever pays what a quantity costs gets that quantity, and one unit less pays for less.
        const Sweep paid = side.sweep_notional(notional);
        require(paid.filled == filled && paid.notional == notional, "a sweep by notional");
        if (notional > 0) require(side.sweep_notional(notional - 1).filled < filled, "a sweep by a smaller notional");
    }

private:
    static constexpr std::int64_t kEverything = std::numeric_limits<std::int64_t>::max();

    std::int64_t price_of(std::int64_t key) const { return is_bid_ ? -key : key; }

    void prune() {
        if (held_.size() <= max_levels_) return;
        while (held_.size() > max_levels_) held_.erase(std::prev(held_.end()));
        last_known_ = held_.rbegin()->first;
    }

    bool is_bid_;
    std::size_t max_levels_;
    std::int64_t last_known_ = kEverything;
    std::map<std::int64_t, std::int64_t> held_;
};

struct BookModel {
    explicit BookModel(std::size_t max_levels) : bids(true, max_levels), asks(false, max_levels) {}

    void apply_snapshot(const DepthLevels &levels, bool is_complete) {
        bids.replace(levels.bids(), levels.bid_count, is_complete);
        asks.replace(levels.asks(), levels.ask_count(), is_complete);
    }

    void apply_update(const DepthLevels &levels) {
        bids.apply(levels.bids(), levels.bid_count);
        asks.apply(levels.asks(), levels.ask_count());
    }

    void compare(const Book &book, std::int64_t quantity) const {
        bids.compare(book.bids);
        asks.compare(book.asks);
        bids.compare_sweep(book.bids, quantity);
        asks.compare_sweep(book.asks, quantity);
        require(book.canonical_bytes().size() == 13 + 24 + 16 * (book.bids.size() + book.asks.size()),
                "the digest's bytes");
    }

    SideModel bids;
    SideModel asks;
};

}  // namespace veloz::fuzz
