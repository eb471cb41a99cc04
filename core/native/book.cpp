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

BookSide::Chunk::Chunk() { std::fill_n(keys, kChunkLevels, kNoKey); }

// How many keys are before key. Counting needs no guess of which way to go, as a binary search does at each step.
std::size_t BookSide::Chunk::position_of(std::int64_t key) const {
    std::size_t blocks = 0;
    for (std::size_t i = kBlockLevels - 1; i < kChunkLevels - 1; i += kBlockLevels) blocks += keys[i] < key;
    std::size_t position = blocks * kBlockLevels;
    const std::int64_t *block = keys + position;
    for (std::size_t i = 0; i < kBlockLevels; ++i) position += block[i] < key;
    return position;
}

void BookSide::Chunk::insert(std::size_t at, std::int64_t key, std::int64_t quantity) {
    std::copy_backward(keys + at, keys + count, keys + count + 1);
    std::copy_backward(quantities + at, quantities + count, quantities + count + 1);
    keys[at] = key;
    quantities[at] = quantity;
    ++count;
}

void BookSide::Chunk::erase(std::size_t at) {
    std::copy(keys + at + 1, keys + count, keys + at);
    std::copy(quantities + at + 1, quantities + count, quantities + at);
    keys[--count] = kNoKey;
}

void BookSide::Chunk::move_to(Chunk &other, std::size_t first) {
    std::copy(keys + first, keys + count, other.keys + other.count);
    std::copy(quantities + first, quantities + count, other.quantities + other.count);
    other.count += count - first;
    std::fill(keys + first, keys + count, kNoKey);
    count = first;
}

void BookSide::replace(const Level *levels, std::size_t count, bool is_complete) {
    std::vector<Level> fresh(levels, levels + count);
    for (Level &level : fresh) level.price = key_of(level.price);
    std::stable_sort(fresh.begin(), fresh.end(), [](const Level &a, const Level &b) { return a.price < b.price; });
    chunks_.clear();
    last_keys_.clear();
    size_ = 0;
    for (std::size_t i = 0; i < count; ++i) {
        // Of levels with one price the last one counts.
        const bool is_repeated = i + 1 < count && fresh[i + 1].price == fresh[i].price;
        if (is_repeated || fresh[i].quantity == 0) continue;
        if (size_ % kFilledLevels == 0) {
            chunks_.push_back(std::make_unique<Chunk>());
            last_keys_.push_back(0);
        }
        Chunk &chunk = *chunks_.back();
        chunk.insert(chunk.count, fresh[i].price, fresh[i].quantity);
        last_keys_.back() = fresh[i].price;
        ++size_;
    }
    // No venue cuts a side at none: an empty one is known to be empty.
    last_known_key_ = is_complete || size_ == 0 ? kEverything : last_keys_.back();
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
        const std::size_t at = chunk.position_of(key);
        const bool is_held = at < chunk.count && chunk.keys[at] == key;
        if (is_held && quantity != 0)
            chunk.quantities[at] = quantity;
        else if (is_held)
            erase(hint, at);
        else if (quantity != 0)
            insert(hint, at, key, quantity);
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

void BookSide::insert(std::size_t index, std::size_t at, std::int64_t key, std::int64_t quantity) {
    Chunk *chunk = chunks_[index].get();
    if (chunk->count == kChunkLevels) {
        constexpr std::size_t half = kChunkLevels / 2;
        const auto next = static_cast<std::ptrdiff_t>(index + 1);
        Chunk *upper = chunks_.insert(chunks_.begin() + next, std::make_unique<Chunk>())->get();
        last_keys_.insert(last_keys_.begin() + next, chunk->last_key());
        chunk->move_to(*upper, half);
        last_keys_[index] = chunk->last_key();
        if (at > half) {
            at -= half;
            chunk = upper;
            ++index;
        }
    }
    chunk->insert(at, key, quantity);
    last_keys_[index] = chunk->last_key();
    ++size_;
}

void BookSide::erase(std::size_t index, std::size_t at) {
    Chunk &chunk = *chunks_[index];
    chunk.erase(at);
    --size_;
    if (chunk.count == 0) return remove_chunk(index);
    last_keys_[index] = chunk.last_key();
    if (chunk.count >= kFewLevels) return;
    const auto has_room = [&](std::size_t other) { return chunk.count + chunks_[other]->count <= kFilledLevels; };
    if (index + 1 < chunks_.size() && has_room(index + 1))
        join_with_next(index);
    else if (index > 0 && has_room(index - 1))
        join_with_next(index - 1);
}

void BookSide::join_with_next(std::size_t index) {
    chunks_[index + 1]->move_to(*chunks_[index], 0);
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
    for (; size_ > max_levels_; --size_) chunk.erase(chunk.count - 1);
    last_known_key_ = last_keys_.back() = chunk.last_key();
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
        require(chunk.count > 0 && chunk.count <= kChunkLevels);
        for (std::size_t j = 0; j < chunk.count; ++j) {
            require(chunk.keys[j] > previous && chunk.quantities[j] > 0);
            previous = chunk.keys[j];
        }
        for (std::size_t j = chunk.count; j < kChunkLevels; ++j) require(chunk.keys[j] == kNoKey);
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
