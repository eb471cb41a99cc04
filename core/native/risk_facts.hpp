// What a decision is made on besides the books, read from Python's structs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>

#include "python_values.hpp"
#include "risk.hpp"
#include "risk_bindings.hpp"

namespace veloz {

// What one core.kernel.inputs.DecisionInputs says, read once: several orders are decided at one moment. Marks and rates
// are asked for as they are needed.
class Moment {
public:
    // Every call must bring the inputs that the first one brought.
    void read(nb::handle inputs) {
        if (is_read_) return;
        const Names &n = names();
        market_ = n.market.of(inputs);
        bid_ = maybe_text(n.bid_price, market_);
        ask_ = maybe_text(n.ask_price, market_);
        mid_ = maybe_text(n.mid_price, market_);
        book_state_ = text_of(n.book_state, market_);
        book_age_ms_ = int64_of(n.book_age_ms, market_);
        mark_ = maybe_text(n.mark_price, market_);
        if (!mark_ || mark_->empty()) mark_ = maybe_text(n.last_price, market_);
        is_connected_ = is_true(n.venue_connected, inputs);
        worst_price_ = maybe_exact(n.worst_price.of(inputs));
        depth_quantity_ = maybe_exact(n.depth_quantity.of(inputs));
        visible_quantity_ = maybe_exact(n.visible_quantity.of(inputs));
        const nb::object balances = n.balances.of(inputs);
        knows_balances_ = !balances.is_none();
        if (knows_balances_) {
            total_of_ = n.get.of(n.total.of(balances));
            balances_as_of_ns_ = int64_of(n.as_of_ns, balances);
        }
        mark_of_ = n.get.of(n.marks.of(inputs));
        rate_of_ = n.get.of(n.rates.of(inputs));
        is_read_ = true;
    }

    nb::handle market() const { return market_; }

    void tell_market(RiskFacts &facts) const {
        facts.bid = bid_;
        facts.ask = ask_;
        facts.mid = mid_;
        facts.book_state = book_state_;
        facts.book_age_ms = book_age_ms_;
        facts.mark = mark_;
        facts.is_connected = is_connected_;
        facts.worst_price = worst_price_;
        facts.depth_quantity = depth_quantity_;
        facts.visible_quantity = visible_quantity_;
    }

    void tell_balance(const RiskInstrument &own, RiskFacts &facts) {
        facts.knows_balances = knows_balances_;
        if (!knows_balances_) return;
        facts.total = asked(totals_, total_of_, (facts.order.side == Side::kBuy ? own.quote : own.base).text);
        facts.balances_as_of_ns = balances_as_of_ns_;
    }

    // What one unit is worth in each market where the account has something, the order's own first.
    void tell_worths(PythonExposure &exposure, const RiskInstrument &own, RiskFacts &facts) {
        const ExposureBook &book = exposure.core;
        const auto add = [&](std::size_t at, std::optional<std::int64_t> price, std::string_view quote,
                             int notional_scale) {
            const MaybeExact worth = asked(rates_, rate_of_, quote);
            std::optional<Exact> unit;
            if (price && worth) unit = Exact{*price, notional_scale} * *worth;
            facts.worths.push_back({at, unit});
        };
        const OrderFacts &order = facts.order;
        std::optional<std::int64_t> stated = order.price;
        // A price of zero is none.
        if (stated.value_or(0) == 0) stated = facts.stop;
        facts.quote_rate = asked(rates_, rate_of_, own.quote.text);
        const Market *own_market = book.find(order.account, order.venue, order.symbol);
        std::optional<std::int64_t> price = own_mark(order.venue, order.symbol);
        if (stated) price = price ? std::max(*price, *stated) : stated;
        add(0, price, own.quote.text, own.price_scale + own.quantity_scale);
        for (const std::size_t at : book.markets_of(order.account)) {
            const Market &market = book.market(at);
            if (&market == own_market || market.is_flat()) continue;
            if (market.listing.quote.empty()) throw Inexact{};
            add(at, mark(exposure, at), market.listing.quote, market.listing.notional_scale);
        }
    }

private:
    using Asked = std::vector<std::pair<std::string, MaybeExact>>;
    using Price = std::optional<std::int64_t>;

    static MaybeExact asked(Asked &known, const nb::object &source, std::string_view asset) {
        for (const auto &[name, found] : known)
            if (name == asset) return found;
        known.emplace_back(asset, maybe_exact(source(nb::str(asset.data(), asset.size()))));
        return known.back().second;
    }

    Price priced(nb::handle key) const {
        const nb::object found = mark_of_(key);
        return found.is_none() ? Price() : Price(int64_in(found));
    }

    Price own_mark(std::string_view venue, std::string_view symbol) {
        if (!knows_own_ || own_venue_ != venue || own_symbol_ != symbol) {
            own_mark_ = priced(PythonExposure::key_of(venue, symbol));
            own_venue_ = venue;
            own_symbol_ = symbol;
            knows_own_ = true;
        }
        return own_mark_;
    }

    Price mark(PythonExposure &exposure, std::size_t at) {
        if (marks_.size() <= at) marks_.resize(at + 1);
        if (!marks_[at]) marks_[at] = priced(exposure.key_of(at));
        return *marks_[at];
    }

    bool is_read_ = false, is_connected_ = false, knows_balances_ = false, knows_own_ = false;
    nb::object market_, total_of_, mark_of_, rate_of_;
    std::optional<std::string_view> bid_, ask_, mid_, mark_;  // within market_
    std::string_view book_state_;
    std::int64_t book_age_ms_ = 0, balances_as_of_ns_ = 0;
    MaybeExact worst_price_, depth_quantity_, visible_quantity_;
    Asked totals_, rates_;
    std::string own_venue_, own_symbol_;
    Price own_mark_;
    std::vector<std::optional<Price>> marks_;
};

// The moment that these inputs carry, or for inputs of one decision only, the one that is given.
inline Moment &moment_of(nb::handle inputs, Moment &fresh) {
    const nb::object carried = names().moment.of(inputs);
    Moment &moment = carried.is_none() ? fresh : *nb::inst_ptr<Moment>(carried);
    moment.read(inputs);
    return moment;
}

}  // namespace veloz
