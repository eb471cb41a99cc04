#include "book.hpp"

#include <algorithm>

namespace veloz {
namespace {

bool before(const Level &level, std::int64_t key) { return level.price < key; }

void append_int64(std::string &out, std::int64_t value) {
    const auto bits = static_cast<std::uint64_t>(value);
    for (unsigned shift = 0; shift < 64; shift += 8) out += static_cast<char>(bits >> shift & 0xFF);
}

}  // namespace

void BookSide::replace(const Level *levels, std::size_t count, bool is_complete) {
    std::vector<Level> fresh;
    fresh.reserve(count);
    for (std::size_t i = 0; i < count; ++i) fresh.push_back({key_of(levels[i].price), levels[i].quantity});
    std::stable_sort(fresh.begin(), fresh.end(), [](const Level &a, const Level &b) { return a.price < b.price; });
    // Of levels with one price the last one counts.
    std::size_t kept = 0;
    for (std::size_t i = 0; i < fresh.size(); ++i) {
        if (i + 1 < fresh.size() && fresh[i + 1].price == fresh[i].price) continue;
        if (fresh[i].quantity != 0) fresh[kept++] = fresh[i];
    }
    fresh.resize(kept);
    levels_ = std::move(fresh);
    // No venue cuts a side at none: an empty one is known to be empty.
    last_known_key_ = is_complete || levels_.empty() ? kEverything : levels_.back().price;
    prune();
}

void BookSide::apply(const Level *levels, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t key = key_of(levels[i].price), quantity = levels[i].quantity;
        if (key > last_known_key_) continue;
        const auto found = std::lower_bound(levels_.begin(), levels_.end(), key, before);
        const bool is_held = found != levels_.end() && found->price == key;
        if (quantity == 0) {
            if (is_held) levels_.erase(found);
        } else if (is_held) {
            found->quantity = quantity;
        } else {
            levels_.insert(found, {key, quantity});
        }
    }
    prune();
}

void BookSide::prune() {
    if (levels_.size() <= max_levels_) return;
    levels_.resize(max_levels_);
    last_known_key_ = levels_.back().price;
}

std::optional<Level> BookSide::best() const {
    if (levels_.empty()) return std::nullopt;
    return Level{price_of(levels_.front().price), levels_.front().quantity};
}

std::optional<std::int64_t> BookSide::known_to() const {
    if (last_known_key_ == kEverything) return std::nullopt;
    return price_of(last_known_key_);
}

Sweep BookSide::sweep(std::int64_t quantity) const {
    Sweep swept;
    auto remaining = static_cast<std::uint64_t>(quantity);
    for (const Level &level : levels_) {
        if (remaining == 0) break;
        const std::uint64_t taken = std::min(remaining, static_cast<std::uint64_t>(level.quantity));
        const std::int64_t price = price_of(level.price);
        swept.notional += static_cast<uint128_t>(taken) * static_cast<std::uint64_t>(price);
        swept.filled += taken;
        swept.worst_price = price;
        ++swept.levels;
        remaining -= taken;
    }
    return swept;
}

Sweep BookSide::sweep_notional(uint128_t notional) const {
    Sweep swept;
    for (const Level &level : levels_) {
        const std::int64_t price = price_of(level.price);
        const auto quantity = static_cast<uint128_t>(level.quantity);
        const uint128_t affordable = (notional - swept.notional) / static_cast<std::uint64_t>(price);
        const uint128_t taken = std::min(affordable, quantity);
        if (taken == 0) break;
        swept.notional += taken * static_cast<std::uint64_t>(price);
        swept.filled += taken;
        swept.worst_price = price;
        ++swept.levels;
        if (taken < quantity) break;
    }
    return swept;
}

uint128_t BookSide::quantity_of(std::size_t count) const {
    uint128_t total = 0;
    visit(count, [&](std::int64_t, std::int64_t quantity) { total += static_cast<std::uint64_t>(quantity); });
    return total;
}

void Book::apply_snapshot(const DepthLevels &levels, std::int64_t update_id, bool is_complete) {
    bids.replace(levels.bids(), levels.bid_count, is_complete);
    asks.replace(levels.asks(), levels.ask_count(), is_complete);
    last_update_id = update_id;
}

void Book::apply_update(const DepthLevels &levels, std::int64_t update_id) {
    bids.apply(levels.bids(), levels.bid_count);
    asks.apply(levels.asks(), levels.ask_count());
    last_update_id = update_id;
}

bool Book::is_crossed() const {
    const auto bid = bids.best(), ask = asks.best();
    return bid && ask && bid->price >= ask->price;
}

std::string Book::canonical_bytes() const {
    std::string out("veloz.book/1", 13);
    out.reserve(out.size() + 24 + 16 * (bids.size() + asks.size()));
    append_int64(out, last_update_id);
    for (const BookSide *side : {&bids, &asks}) {
        append_int64(out, static_cast<std::int64_t>(side->size()));
        side->visit(side->size(), [&](std::int64_t price, std::int64_t quantity) {
            append_int64(out, price);
            append_int64(out, quantity);
        });
    }
    return out;
}

}  // namespace veloz
