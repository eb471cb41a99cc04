#include "exposure.hpp"

#include <algorithm>

namespace veloz {

namespace {

constexpr char kBetween = '\0';

std::string key_of(std::initializer_list<std::string_view> parts) {
    std::string key;
    for (const std::string_view part : parts) key.append(part).push_back(kBetween);
    return key;
}

template <class Map> auto &entry_of(Map &map, std::string_view key) {
    const auto found = map.find(key);
    return found != map.end() ? found->second : map[std::string(key)];
}

// What a quantity of an order takes: of the base asset for a sell, else of the quote asset.
Exact amount_of(const OrderFacts &order, std::int64_t quantity) {
    if (order.side == Side::kSell) return {quantity, order.quantity_scale};
    if (!order.price) return exact_of(order.notional);
    return {times(quantity, *order.price), order.quantity_scale + order.price_scale};
}

}  // namespace

void Amounts::add(int scale, int128 value) {
    for (auto &[known, sum] : sums_)
        if (known == scale) return sum.add(value);
    sums_.emplace_back(scale, Sum{});
    sums_.back().second.add(value);
}

Exact Amounts::total() const {
    Exact total;
    for (const auto &[scale, sum] : sums_)
        if (!sum.is_zero()) total = total + Exact{sum.value(), scale};
    return total;
}

std::optional<std::int64_t> Market::best(Side side) const {
    const auto &own = prices[static_cast<std::size_t>(side)];
    if (own.empty()) return std::nullopt;
    return side == Side::kBuy ? own.rbegin()->first : own.begin()->first;
}

void ExposureBook::add(const OrderFacts &order, int sign) {
    const std::size_t at = market_of(order.account, order.venue, order.symbol);
    const auto side = static_cast<std::size_t>(order.side);
    count_reserved(at, order, sign);
    if (!order.is_final) {
        entry_of(by_strategy_, key_of({order.account, order.venue, order.symbol, order.strategy}))[side].add(
            sign * static_cast<int128>(order.remaining()));
        if (!order.mandate.empty()) entry_of(by_mandate_, order.mandate) += sign;
    }
    if (!order.counts()) return;
    Market &market = markets_[at];
    market.has_orders = true;
    market.orders += sign;
    entry_of(open_orders_, order.account) += sign;
    market.quantity[side].add(sign * static_cast<int128>(order.remaining()));
    if (order.is_unknown) market.unknown[side] += sign;
    if (order.price && !order.is_conditional) {
        auto &prices = market.prices[side];
        const auto level = prices.try_emplace(*order.price, 0).first;
        level->second += sign;
        if (level->second == 0) prices.erase(level);
    }
}

void ExposureBook::count_reserved(std::size_t at, const OrderFacts &order, int sign) {
    if (order.is_rejected || order.is_held) return;
    const auto side = static_cast<std::size_t>(order.side);
    Exact whole, base;
    try {
        whole = amount_of(order, order.quantity);
        if (!order.is_final) base = order.is_unanswered ? whole : amount_of(order, order.remaining());
    } catch (const Inexact &) {
        unreadable_ += sign;
        return;
    }
    Market &market = markets_[at];
    if (base.value != 0) market.reserved[side].add(base.scale, sign * base.value);
    const int128 rest = whole.value - base.value;  // of one scale: both are amounts of one order
    if (rest == 0) return;
    const Late key{order.updated_ns, at, static_cast<int>(side), whole.scale, rest};
    const auto found = late_.try_emplace(key, 0).first;
    found->second += sign;
    if (found->second == 0) late_.erase(found);
    if (order.updated_ns >= since_ns_) market.late[side].add(whole.scale, sign * rest);
}

void ExposureBook::set_position(std::string_view account, std::string_view venue, std::string_view symbol,
                                std::optional<int128> held) {
    markets_[market_of(account, venue, symbol)].held = held;
}

void ExposureBook::set_instrument(std::string_view venue, std::string_view symbol, Listing listing) {
    for (Market &market : markets_)
        if (market.venue == venue && market.symbol == symbol) market.listing = listing;
    entry_of(listings_, key_of({venue, symbol})) = std::move(listing);
}

const Market *ExposureBook::find(std::string_view account, std::string_view venue, std::string_view symbol) const {
    const auto found = by_key_.find(key_of({account, venue, symbol}));
    return found == by_key_.end() ? nullptr : &markets_[found->second];
}

const std::vector<std::size_t> &ExposureBook::markets_of(std::string_view account) const {
    static const std::vector<std::size_t> none;
    const auto found = by_account_.find(account);
    return found == by_account_.end() ? none : found->second;
}

std::int64_t ExposureBook::open_orders(std::string_view account) const {
    const auto found = open_orders_.find(account);
    return found == open_orders_.end() ? 0 : found->second;
}

Exact ExposureBook::reserved(std::string_view asset, std::int64_t as_of_ns) {
    if (unreadable_ != 0) throw Inexact{};
    // What lies between the time that was asked about last and this one changes sides.
    const bool is_later = as_of_ns > since_ns_;
    const std::int64_t from_ns = std::min(as_of_ns, since_ns_), until_ns = std::max(as_of_ns, since_ns_);
    auto item = late_.lower_bound(Late{from_ns, 0, 0, 0, 0});
    for (; item != late_.end() && std::get<0>(item->first) < until_ns; ++item) {
        const auto &[updated_ns, at, side, scale, amount] = item->first;
        for (std::int64_t n = 0; n < item->second; ++n)
            markets_[at].late[static_cast<std::size_t>(side)].add(scale, is_later ? -amount : amount);
    }
    since_ns_ = as_of_ns;
    Exact total;
    for (const Market &market : markets_) {
        if (market.listing.quote == asset) total = total + market.reserved[0].total() + market.late[0].total();
        if (market.listing.base == asset) total = total + market.reserved[1].total() + market.late[1].total();
    }
    return total;
}

std::pair<int128, int128> ExposureBook::of_strategy(std::string_view account, std::string_view venue,
                                                    std::string_view symbol, std::string_view strategy) const {
    const auto found = by_strategy_.find(key_of({account, venue, symbol, strategy}));
    if (found == by_strategy_.end()) return {0, 0};
    return {found->second[0].value(), found->second[1].value()};
}

std::int64_t ExposureBook::orders_of_mandate(std::string_view mandate) const {
    const auto found = by_mandate_.find(mandate);
    return found == by_mandate_.end() ? 0 : found->second;
}

std::size_t ExposureBook::market_of(std::string_view account, std::string_view venue, std::string_view symbol) {
    std::string key = key_of({account, venue, symbol});
    const auto found = by_key_.find(key);
    if (found != by_key_.end()) return found->second;
    const std::size_t at = markets_.size();
    Market &market = markets_.emplace_back();
    market.account = account;
    market.venue = venue;
    market.symbol = symbol;
    if (const auto known = listings_.find(key_of({venue, symbol})); known != listings_.end())
        market.listing = known->second;
    by_key_.emplace(std::move(key), at);
    entry_of(by_account_, account).push_back(at);
    return at;
}

void Windows::note(std::string_view key, std::int64_t ts_ns) {
    auto found = by_key_.find(key);
    if (found == by_key_.end()) {
        entries_.push_back({std::string(key), {}, 0});
        found = by_key_.emplace(std::prev(entries_.end())->key, std::prev(entries_.end())).first;
    } else {
        entries_.splice(entries_.end(), entries_, found->second);
    }
    Entry &entry = *found->second;
    auto &times = entry.times;
    if (!times.empty() && ts_ns < times.back()) ++entry.unordered;
    times.push_back(ts_ns);
    if (times.size() > times_kept_) {
        if (times[1] < times[0]) --entry.unordered;
        times.pop_front();
    }
    if (entries_.size() > keys_kept_) {
        by_key_.erase(entries_.front().key);
        entries_.pop_front();
    }
}

std::int64_t Windows::count(std::string_view key, std::int64_t after_ns) const {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return 0;
    const auto &times = found->second->times;
    if (found->second->unordered == 0) return times.end() - std::upper_bound(times.begin(), times.end(), after_ns);
    const auto last = std::find_if(times.rbegin(), times.rend(), [&](std::int64_t ts_ns) { return ts_ns <= after_ns; });
    return last - times.rbegin();
}

}  // namespace veloz
