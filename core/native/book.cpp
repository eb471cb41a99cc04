#include "book.hpp"

#include <algorithm>
#include <cstdlib>

namespace veloz {
namespace {

void append_int64(std::string &out, std::int64_t value) {
    const auto bits = static_cast<std::uint64_t>(value);
    for (unsigned shift = 0; shift < 64; shift += 8) out += static_cast<char>(bits >> shift & 0xFF);
}

}  // namespace

void BookSide::replace(const Level *levels, std::size_t count, bool is_complete) {
    std::vector<Entry> fresh;
    fresh.reserve(count);
    for (std::size_t i = 0; i < count; ++i) fresh.push_back({key_of(levels[i].price), levels[i].quantity});
    std::stable_sort(fresh.begin(), fresh.end(), [](const Entry &a, const Entry &b) { return a.key < b.key; });
    // Of levels with one price the last one counts.
    std::size_t kept = 0;
    for (std::size_t i = 0; i < fresh.size(); ++i) {
        if (i + 1 < fresh.size() && fresh[i + 1].key == fresh[i].key) continue;
        if (fresh[i].quantity != 0) fresh[kept++] = fresh[i];
    }
    chunks_.clear();
    last_keys_.clear();
    for (std::size_t i = 0; i < kept; i += kFilledEntries) {
        auto chunk = std::make_unique<Chunk>();
        chunk->count = std::min(kFilledEntries, kept - i);
        std::copy_n(fresh.begin() + static_cast<std::ptrdiff_t>(i), chunk->count, chunk->entries);
        last_keys_.push_back(chunk->entries[chunk->count - 1].key);
        chunks_.push_back(std::move(chunk));
    }
    size_ = kept;
    // No venue cuts a side at none: an empty one is known to be empty.
    last_known_key_ = is_complete || kept == 0 ? kEverything : last_keys_.back();
    prune();
}

void BookSide::apply(const Level *levels, std::size_t count) {
    std::size_t hint = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t key = key_of(levels[i].price), quantity = levels[i].quantity;
        if (key > last_known_key_) continue;
        if (chunks_.empty()) {
            if (quantity == 0) continue;
            chunks_.push_back(std::make_unique<Chunk>());
            last_keys_.push_back(key);
        }
        hint = chunk_of(key, hint);
        Chunk &chunk = *chunks_[hint];
        // A binary search whose steps don't branch: which way they go can't be predicted.
        Entry *at = chunk.entries;
        for (std::size_t left = chunk.count; left > 0;) {
            const std::size_t half = left / 2;
            at += at[half].key < key ? left - half : 0;
            left = half;
        }
        const bool is_held = at != chunk.entries + chunk.count && at->key == key;
        if (is_held && quantity != 0)
            at->quantity = quantity;
        else if (is_held)
            erase(hint, at);
        else if (quantity != 0)
            insert(hint, at, {key, quantity});
    }
    prune();
}

// The first chunk whose last key isn't before key, else the last chunk. Messages list levels in order, so that the one
// of the level before, or its neighbour, is tried first.
std::size_t BookSide::chunk_of(std::int64_t key, std::size_t hint) const {
    const std::size_t last = last_keys_.size() - 1;
    const std::int64_t *keys = last_keys_.data();
    hint = std::min(hint, last);
    if (hint == last || key <= keys[hint]) {
        if (hint == 0 || key > keys[hint - 1]) return hint;
        if (hint == 1 || key > keys[hint - 2]) return hint - 1;
    } else if (hint + 1 == last || key <= keys[hint + 1]) {
        return hint + 1;
    }
    const auto found = std::lower_bound(last_keys_.begin(), last_keys_.end() - 1, key);
    return static_cast<std::size_t>(found - last_keys_.begin());
}

void BookSide::insert(std::size_t index, Entry *at, Entry entry) {
    Chunk *chunk = chunks_[index].get();
    if (chunk->count == kChunkEntries) {
        auto upper = std::make_unique<Chunk>();
        constexpr std::size_t half = kChunkEntries / 2;
        upper->count = kChunkEntries - half;
        std::copy_n(chunk->entries + half, upper->count, upper->entries);
        const auto offset = static_cast<std::ptrdiff_t>(index);
        last_keys_.insert(last_keys_.begin() + offset, chunk->entries[half - 1].key);
        Chunk *next = chunks_.insert(chunks_.begin() + offset + 1, std::move(upper))->get();
        chunk->count = half;
        if (at > chunk->entries + half) {
            at = next->entries + (at - (chunk->entries + half));
            chunk = next;
            ++index;
        }
    }
    Entry *end = chunk->entries + chunk->count;
    std::copy_backward(at, end, end + 1);
    *at = entry;
    if (at == end) last_keys_[index] = entry.key;
    ++chunk->count;
    ++size_;
}

void BookSide::erase(std::size_t index, Entry *at) {
    Chunk &chunk = *chunks_[index];
    std::copy(at + 1, chunk.entries + chunk.count, at);
    --chunk.count;
    --size_;
    if (chunk.count == 0) return remove_chunk(index);
    last_keys_[index] = chunk.entries[chunk.count - 1].key;
    if (chunk.count >= kFewEntries) return;
    const auto has_room = [&](std::size_t other) { return chunk.count + chunks_[other]->count <= kFilledEntries; };
    if (index + 1 < chunks_.size() && has_room(index + 1))
        join_with_next(index);
    else if (index > 0 && has_room(index - 1))
        join_with_next(index - 1);
}

void BookSide::join_with_next(std::size_t index) {
    Chunk &chunk = *chunks_[index], &next = *chunks_[index + 1];
    std::copy_n(next.entries, next.count, chunk.entries + chunk.count);
    chunk.count += next.count;
    last_keys_[index] = last_keys_[index + 1];
    remove_chunk(index + 1);
}

void BookSide::remove_chunk(std::size_t index) {
    chunks_.erase(chunks_.begin() + static_cast<std::ptrdiff_t>(index));
    last_keys_.erase(last_keys_.begin() + static_cast<std::ptrdiff_t>(index));
}

void BookSide::prune() {
    if (size_ <= max_levels_) return;
    while (size_ - chunks_.back()->count >= max_levels_) {
        size_ -= chunks_.back()->count;
        remove_chunk(chunks_.size() - 1);
    }
    Chunk &chunk = *chunks_.back();
    chunk.count -= size_ - max_levels_;
    size_ = max_levels_;
    last_known_key_ = last_keys_.back() = chunk.entries[chunk.count - 1].key;
}

void BookSide::check() const {
    std::size_t total = 0;
    std::int64_t previous = std::numeric_limits<std::int64_t>::min();
    const auto require = [](bool holds) {
        if (!holds) std::abort();
    };
    require(chunks_.size() == last_keys_.size());
    for (std::size_t i = 0; i < chunks_.size(); ++i) {
        const Chunk &chunk = *chunks_[i];
        require(chunk.count > 0 && chunk.count <= kChunkEntries);
        for (std::size_t j = 0; j < chunk.count; ++j) {
            require(chunk.entries[j].key > previous && chunk.entries[j].quantity > 0);
            previous = chunk.entries[j].key;
        }
        require(last_keys_[i] == previous);
        total += chunk.count;
    }
    require(total == size_ && size_ <= max_levels_ && previous <= last_known_key_);
}

std::optional<std::int64_t> BookSide::known_to() const {
    if (last_known_key_ == kEverything) return std::nullopt;
    return price_of(last_known_key_);
}

Sweep BookSide::sweep(std::int64_t quantity) const {
    Sweep swept;
    auto remaining = static_cast<std::uint64_t>(quantity);
    visit_while([&](std::int64_t price, std::int64_t available) {
        if (remaining == 0) return false;
        const std::uint64_t taken = std::min(remaining, static_cast<std::uint64_t>(available));
        swept.notional += static_cast<uint128_t>(taken) * static_cast<std::uint64_t>(price);
        swept.filled += taken;
        swept.worst_price = price;
        ++swept.levels;
        remaining -= taken;
        return true;
    });
    return swept;
}

Sweep BookSide::sweep_notional(uint128_t notional) const {
    Sweep swept;
    visit_while([&](std::int64_t price, std::int64_t available) {
        const auto quantity = static_cast<uint128_t>(available);
        const uint128_t affordable = (notional - swept.notional) / static_cast<std::uint64_t>(price);
        const uint128_t taken = std::min(affordable, quantity);
        if (taken == 0) return false;
        swept.notional += taken * static_cast<std::uint64_t>(price);
        swept.filled += taken;
        swept.worst_price = price;
        ++swept.levels;
        return taken == quantity;
    });
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
