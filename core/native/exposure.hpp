// What rests and what was asked for lately, kept up with every order. core/risk/exposure.py and core/risk/activity.py
// are the oracles.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "exact.hpp"

namespace veloz {

enum class Side { kBuy = 0, kSell = 1 };
inline Side opposite(Side side) { return side == Side::kBuy ? Side::kSell : Side::kBuy; }

struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
// By a text, which need not be copied to be looked up.
template <class Value> using ByText = std::unordered_map<std::string, Value, TextHash, std::equal_to<>>;

// An order as far as exposure goes by it. Quantities and prices at the order's own scales.
struct OrderFacts {
    std::string_view account, venue, symbol, strategy, mandate, notional;
    Side side = Side::kBuy;
    bool is_conditional = false;
    bool is_final = false, is_held = false, is_unknown = false, is_unanswered = false, is_rejected = false;
    std::int64_t quantity = 0, filled = 0;
    std::optional<std::int64_t> price;
    int price_scale = 0, quantity_scale = 0;
    std::int64_t updated_ns = 0;

    std::int64_t remaining() const { return quantity - filled; }
    // Whether the venue has it, or may have it.
    bool counts() const { return !is_final && !is_held; }
};

// Amounts at the few scales that one market ever had.
class Amounts {
public:
    void add(int scale, int128 value);
    Exact total() const;

private:
    std::vector<std::pair<int, Sum>> sums_;
};

// What the kernel knows of an instrument.
struct Listing {
    std::string base, quote;
    int notional_scale = 0;
};

struct Market {
    std::string account, venue, symbol;
    Listing listing;
    bool has_orders = false;         // or had some
    std::optional<int128> held = 0;  // nothing: 128 bits don't hold it
    std::int64_t orders = 0;
    std::array<Sum, 2> quantity;
    std::array<std::int64_t, 2> unknown{};
    std::array<std::map<std::int64_t, std::int64_t>, 2> prices;
    // Of each side: what open orders take, and what has changed since `ExposureBook::since_ns_` takes beside it.
    std::array<Amounts, 2> reserved, late;

    bool is_flat() const { return held == 0 && quantity[0].is_zero() && quantity[1].is_zero(); }
    int128 position() const {
        if (!held) throw Inexact{};
        return *held;
    }
    std::optional<std::int64_t> best(Side side) const;
};

class ExposureBook {
public:
    void add(const OrderFacts &order, int sign);
    void set_position(std::string_view account, std::string_view venue, std::string_view symbol,
                      std::optional<int128> held);
    void set_instrument(std::string_view venue, std::string_view symbol, Listing listing);

    const Market *find(std::string_view account, std::string_view venue, std::string_view symbol) const;
    const std::vector<std::size_t> &markets_of(std::string_view account) const;
    const Market &market(std::size_t at) const { return markets_[at]; }
    std::int64_t open_orders(std::string_view account) const;

    // What our orders take of an asset that the venue told at as_of_ns.
    Exact reserved(std::string_view asset, std::int64_t as_of_ns);

    // Buys and sells that a strategy's open orders, held ones too, may still fill in a market.
    std::pair<int128, int128> of_strategy(std::string_view account, std::string_view venue, std::string_view symbol,
                                          std::string_view strategy) const;
    std::int64_t orders_of_mandate(std::string_view mandate) const;

private:
    using Late = std::tuple<std::int64_t, std::size_t, int, int, int128>;  // updated_ns, market, side, scale, amount

    std::size_t market_of(std::string_view account, std::string_view venue, std::string_view symbol);
    void count_reserved(std::size_t at, const OrderFacts &order, int sign);

    std::deque<Market> markets_;
    ByText<std::size_t> by_key_;
    ByText<std::vector<std::size_t>> by_account_;
    ByText<std::int64_t> open_orders_;
    ByText<Listing> listings_;  // by venue and symbol
    ByText<std::array<Sum, 2>> by_strategy_;
    ByText<std::int64_t> by_mandate_;
    std::map<Late, std::int64_t> late_;
    std::int64_t since_ns_ = 0;
    std::int64_t unreadable_ = 0;  // orders whose worth 128 bits don't hold
};

// The last times of each key, at most kept of each, of at most kept keys.
class Windows {
public:
    Windows(std::size_t times_kept, std::size_t keys_kept) : times_kept_(times_kept), keys_kept_(keys_kept) {}

    // A key that is used again is the last to be forgotten.
    void note(std::string_view key, std::int64_t ts_ns);
    std::int64_t count(std::string_view key, std::int64_t after_ns) const;

    template <class Visit> void visit(Visit &&each) const {
        for (const Entry &entry : entries_) each(entry.key, entry.times);
    }

private:
    struct Entry {
        std::string key;
        std::deque<std::int64_t> times;
        std::size_t unordered = 0;  // how often a time was earlier than the one before it
    };

    std::size_t times_kept_, keys_kept_;
    std::list<Entry> entries_;
    std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key_;
};

}  // namespace veloz
