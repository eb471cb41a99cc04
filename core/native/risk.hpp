// Every built-in check on one order, exactly. core/risk/checks.py and account_checks.py are the oracle: the same
// decision and the same records, or Inexact.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "exact.hpp"
#include "exposure.hpp"

namespace veloz {

// A text that is said again and again: its JSON is made once.
struct Literal {
    std::string text;
    mutable std::string quoted{};
};

// A literal, a text that lives as long as the record is being written, a number, or nothing.
struct Word : std::variant<std::monostate, const Literal *, std::string_view, Exact> {
    Word() = default;
    Word(const Literal &said) : variant(&said) {}
    Word(std::string_view text) : variant(text) {}
    Word(const Exact &number) : variant(number) {}
    explicit Word(std::int64_t number) : variant(Exact{number, 0}) {}
};

// An array of records, to the byte as the journal's encoder writes core.types.events.RiskCheckRecord.
class Records {
public:
    void add(const Literal &code, bool passed, const Word &limit, const Word &actual, const Word &unit,
             const Word &source);
    std::size_t count() const { return count_; }
    // Ends the array; nothing is added afterwards.
    std::string json();

private:
    std::string json_;
    std::size_t count_ = 0;
};

struct Limit {
    Exact value;
    Literal text, source;
};

struct RateLimit {
    std::vector<std::string> keys;  // what is counted together
    std::int64_t limit = 0, window_ns = 0;
    Literal text, unit, source;
};

// What holds for one account, strategy and symbol.
struct RiskLimits {
    Limit notional, position, gross, net, daily_loss, quantity, leverage, price_collar, mark_collar, deviation,
        depth_share, drawdown, open_orders, book_age;
    std::vector<RateLimit> order_rates, amend_rates, cancel_rates, repeats;
};

struct RiskInstrument {
    std::int64_t tick = 0, lot = 0, min_quantity = 0, max_quantity = 0, min_notional = 0;
    int price_scale = 0, quantity_scale = 0;
    bool is_derivative = false;
    Literal base, quote, tick_text, lot_text, min_quantity_text, max_quantity_text, min_notional_text;
};

struct OrderKind {
    bool has_limit_price, is_conditional, is_market, is_limit, is_stop_limit;
};

// What one unit at quantity_scale is worth in a market where the account has something, or would have.
struct MarketWorth {
    std::size_t market;
    std::optional<Exact> unit;
};

struct Margin {
    MaybeExact before, after, balance;
};

// One order, and what it is judged on besides the books. Its quantity is what may still fill.
struct RiskFacts {
    OrderFacts order;
    OrderKind kind{};
    std::optional<std::int64_t> stop, activation;
    bool reduce_only = false;
    std::string_view kill_switch;
    bool is_connected = false;
    std::optional<std::string_view> frozen;
    std::string_view book_state;
    std::int64_t book_age_ms = 0;
    std::optional<std::string_view> bid, ask, mid, mark;
    MaybeExact worst_price, depth_quantity, visible_quantity, reference_price, most_deviation, quote_rate;
    bool knows_balances = false;
    MaybeExact total;
    std::int64_t balances_as_of_ns = 0;
    MaybeExact equity, day_start_equity, peak_equity;
    Margin margin;
    std::string fingerprint;
    std::int64_t now_ns = 0;
    std::vector<MarketWorth> worths;
    // Of an order that takes another one's place: how much of it rests on this side, and what has filled already.
    bool adds_order = true, is_amendment = false;
    std::int64_t replaced = 0, filled = 0, amended_quantity = 0;
    std::optional<std::int64_t> amended_price;
    Exact given_back;  // what it has taken of the balance
};

struct RiskOutcome {
    std::string records;                 // as JSON
    std::size_t checks = 0;              // how many
    std::optional<std::size_t> refusal;  // the first record that didn't pass
    MaybeExact notional;                 // in the reporting currency
};

// Throws Inexact where 128 bits don't do.
RiskOutcome evaluate(ExposureBook &book, const Windows &asked, const Windows &fingerprints, const RiskLimits &limits,
                     const RiskInstrument &instrument, const RiskFacts &facts);

}  // namespace veloz
