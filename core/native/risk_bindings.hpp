// What the kernel holds natively, fed from its frozen structs.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "exposure.hpp"
#include "python_values.hpp"
#include "risk.hpp"

namespace veloz {

constexpr std::size_t kTimesKept = 10'000, kKeysKept = 10'000, kFingerprintsKept = 10'000;
constexpr char kBetween = '\0';

inline OrderKind kind_of(std::string_view type) {
    const bool is_limit = type == "LIMIT", is_market = type == "MARKET", is_stop_limit = type == "STOP_LIMIT";
    return {is_limit || is_stop_limit || type == "TAKE_PROFIT_LIMIT", !is_limit && !is_market, is_market, is_limit,
            is_stop_limit};
}

inline void read_intent(nb::handle intent, OrderFacts &order) {
    const Names &n = names();
    order.account = text_of(n.account_id, intent);
    order.venue = text_of(n.venue, intent);
    order.symbol = text_of(n.symbol, intent);
    order.strategy = text_of(n.strategy_id, intent);
    order.side = text_of(n.side, intent) == "BUY" ? Side::kBuy : Side::kSell;
    order.is_conditional = kind_of(text_of(n.order_type, intent)).is_conditional;
    order.quantity = int64_of(n.quantity, intent);
    order.price = maybe_int64(n.price, intent);
    order.price_scale = static_cast<int>(int64_of(n.price_scale, intent));
    order.quantity_scale = static_cast<int>(int64_of(n.quantity_scale, intent));
}

inline std::string fingerprint_of(nb::handle intent) {
    const Names &n = names();
    std::string print;
    for (const Name *name : {&n.account_id, &n.venue, &n.symbol, &n.side, &n.order_type, &n.time_in_force, &n.quantity,
                             &n.price, &n.stop_price, &n.strategy_id}) {
        const nb::object value = name->of(intent);
        if (!print.empty()) print.push_back(kBetween);
        if (PyUnicode_Check(value.ptr())) {
            print.append(text_in(value));
        } else {
            print.append(value.is_none() ? "None" : std::to_string(int64_in(value)));
        }
    }
    return print;
}

// What rests in one market, at one moment.
struct Resting {
    std::int64_t orders;
    nb::object buy_quantity, sell_quantity;
    std::array<std::int64_t, 2> unknown;
    std::array<std::optional<std::int64_t>, 2> best;
};

class PythonExposure {
public:
    explicit PythonExposure(nb::object mandate_type) : mandate_type_(std::move(mandate_type)) {}

    void order_changed(nb::handle old, nb::handle now) {
        // Both are read before either counts.
        const std::optional<OrderFacts> before = read(old), after = read(now);
        if (before) core.add(*before, -1);
        if (after) core.add(*after, 1);
    }

    void instrument_changed(nb::handle instrument) {
        const Names &n = names();
        RiskInstrument rules;
        rules.price_scale = static_cast<int>(int64_of(n.price_scale, instrument));
        rules.quantity_scale = static_cast<int>(int64_of(n.quantity_scale, instrument));
        const int notional_scale = rules.price_scale + rules.quantity_scale;
        rules.is_derivative = text_of(n.product, instrument) != "SPOT";
        rules.base.text = text_of(n.base_asset, instrument);
        rules.quote.text = text_of(n.quote_asset, instrument);
        const auto read = [&](const Name &name, int scale, std::int64_t &value, Literal &text) {
            value = int64_of(name, instrument);
            text.text = veloz::text_of(Exact{value, scale});
        };
        read(n.tick_size, rules.price_scale, rules.tick, rules.tick_text);
        read(n.lot_size, rules.quantity_scale, rules.lot, rules.lot_text);
        read(n.min_quantity, rules.quantity_scale, rules.min_quantity, rules.min_quantity_text);
        read(n.max_quantity, rules.quantity_scale, rules.max_quantity, rules.max_quantity_text);
        read(n.min_notional, notional_scale, rules.min_notional, rules.min_notional_text);
        const std::string_view venue = text_of(n.venue, instrument), symbol = text_of(n.symbol, instrument);
        core.set_instrument(venue, symbol, {rules.base.text, rules.quote.text, notional_scale});
        std::string key(venue);
        key.append(1, kBetween).append(symbol);
        instruments_.insert_or_assign(std::move(key), std::move(rules));
    }

    static nb::tuple key_of(std::string_view venue, std::string_view symbol) {
        return nb::make_tuple(nb::str(venue.data(), venue.size()), nb::str(symbol.data(), symbol.size()));
    }

    // Of a market of the book, made once: orders ask for the price of many.
    nb::handle key_of(std::size_t at) {
        while (keys_.size() <= at) {
            const Market &market = core.market(keys_.size());
            keys_.push_back(key_of(market.venue, market.symbol));
        }
        return keys_[at];
    }

    const RiskInstrument &instrument(std::string_view venue, std::string_view symbol) const {
        std::string key(venue);
        key.append(1, kBetween).append(symbol);
        const auto found = instruments_.find(key);
        if (found == instruments_.end()) throw Inexact{};
        return found->second;
    }

    void position_changed(std::string_view account, std::string_view venue, std::string_view symbol,
                          const nb::int_ &quantity) {
        std::optional<int128> held;
        try {
            held = exact_of(nb::str(quantity).c_str()).value;
        } catch (const Inexact &) {
            // It is told when it is asked for.
        }
        core.set_position(account, venue, symbol, held);
    }

    ExposureBook core;

    std::optional<OrderFacts> read(nb::handle order) const {
        if (order.is_none()) return std::nullopt;
        const Names &n = names();
        const nb::object intent = n.intent.of(order), status_object = n.status.of(order),
                         authority = n.authority.of(order);
        OrderFacts facts;
        read_intent(intent, facts);
        const std::string_view status = text_in(status_object);
        facts.is_final = status == "FILLED" || status == "CANCELED" || status == "REJECTED" || status == "EXPIRED";
        facts.is_held = status == "HELD";
        facts.is_unknown = status == "UNKNOWN";
        facts.is_unanswered = facts.is_unknown || status == "INTENDED";
        facts.is_rejected = status == "REJECTED";
        facts.filled = int64_of(n.filled_quantity, order);
        facts.updated_ns = int64_of(n.updated_ns, order);
        facts.notional = text_of(n.notional_quote, order);
        if (authority.type().is(mandate_type_)) facts.mandate = text_of(n.mandate_id, authority);
        return facts;
    }

private:
    nb::object mandate_type_;
    std::vector<nb::tuple> keys_;
    ByText<RiskInstrument> instruments_;
};

class PythonActivity {
public:
    Windows times{kTimesKept, kKeysKept}, fingerprints{kTimesKept, kFingerprintsKept};

    void note(std::string_view kind, nb::handle intent, std::int64_t ts_ns) {
        const Names &n = names();
        std::string key(kind);
        key.push_back(kBetween);
        const std::size_t start = key.size();
        const auto count = [&](std::string_view level, std::string_view name) {
            key.resize(start);
            key.append(level).append(name);
            times.note(key, ts_ns);
        };
        count("global", "");
        count("account:", text_of(n.account_id, intent));
        count("symbol:", text_of(n.symbol, intent));
        const std::string_view strategy = text_of(n.strategy_id, intent);
        if (!strategy.empty()) count("strategy:", strategy);
    }
};

class PythonLimits {
public:
    PythonLimits(const nb::dict &limits, const nb::dict &rates) {
        const auto read = [&](const char *name, Limit &limit) {
            const auto [value, source] = nb::cast<std::pair<std::string, std::string>>(nb::object(limits[name]));
            limit.value = exact_of(value);
            limit.text.text = veloz::text_of(limit.value);
            limit.source.text = source;
        };
        read("max_notional_per_order_quote", core.notional);
        read("max_position_notional_quote", core.position);
        read("max_gross_exposure_quote", core.gross);
        read("max_net_exposure_quote", core.net);
        read("max_daily_loss_quote", core.daily_loss);
        read("max_quantity_per_order", core.quantity);
        read("max_leverage", core.leverage);
        read("price_collar_bps", core.price_collar);
        read("mark_collar_bps", core.mark_collar);
        read("max_deviation_bps", core.deviation);
        read("max_depth_share_bps", core.depth_share);
        read("max_drawdown_bps", core.drawdown);
        read("max_open_orders", core.open_orders);
        read("book_stale_after_ms", core.book_age);
        const auto read_rates = [&](const char *name, const char *kind, std::vector<RateLimit> &found) {
            using Given = std::tuple<std::vector<std::string>, std::int64_t, std::int64_t, std::string>;
            for (nb::handle item : nb::object(rates[name])) {
                auto [keys, limit, window_ms, source] = nb::cast<Given>(item);
                for (std::string &key : keys) key = std::string(kind) + kBetween + key;
                found.push_back({std::move(keys), limit, window_ms * 1'000'000, Literal{std::to_string(limit)},
                                 Literal{"per " + std::to_string(window_ms) + " ms"}, Literal{std::move(source)}});
            }
        };
        read_rates("order_rate", "order", core.order_rates);
        read_rates("amend_rate", "amend", core.amend_rates);
        read_rates("cancel_rate", "cancel", core.cancel_rates);
        read_rates("repeated_intent", "", core.repeats);
    }

    RiskLimits core;
};

}  // namespace veloz
