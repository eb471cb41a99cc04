// core._native: the bindings of exposure, activity and risk. Values are read straight from the kernel's frozen structs.

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings.hpp"
#include "exposure.hpp"
#include "risk.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace veloz {
namespace {

constexpr std::size_t kTimesKept = 10'000, kKeysKept = 10'000, kFingerprintsKept = 10'000;
constexpr char kBetween = '\0';

// The name of an attribute, interned once.
class Name {
public:
    explicit Name(const char *text) : object_(PyUnicode_InternFromString(text)) {}
    nb::object of(nb::handle owner) const {
        PyObject *found = PyObject_GetAttr(owner.ptr(), object_);
        if (found == nullptr) throw nb::python_error();
        return nb::steal(found);
    }

private:
    PyObject *object_;  // for the life of the process
};

struct Names {
    Name account_id{"account_id"}, venue{"venue"}, symbol{"symbol"}, strategy_id{"strategy_id"}, side{"side"},
        order_type{"order_type"}, time_in_force{"time_in_force"}, quantity{"quantity"}, price{"price"},
        stop_price{"stop_price"}, activation_price{"activation_price"}, reduce_only{"reduce_only"},
        price_scale{"price_scale"}, quantity_scale{"quantity_scale"}, intent{"intent"}, status{"status"},
        filled_quantity{"filled_quantity"}, updated_ns{"updated_ns"}, notional_quote{"notional_quote"},
        authority{"authority"}, mandate_id{"mandate_id"}, bid_price{"bid_price"}, ask_price{"ask_price"},
        mid_price{"mid_price"}, book_state{"book_state"}, book_age_ms{"book_age_ms"}, last_price{"last_price"},
        mark_price{"mark_price"}, venue_connected{"venue_connected"}, worst_price{"worst_price"},
        depth_quantity{"depth_quantity"}, visible_quantity{"visible_quantity"}, marks{"marks"}, rates{"rates"},
        balances{"balances"}, total{"total"}, as_of_ns{"as_of_ns"}, equity{"equity"},
        day_start_equity{"day_start_equity"}, peak_equity{"peak_equity"}, base_asset{"base_asset"},
        quote_asset{"quote_asset"}, tick_size{"tick_size"}, lot_size{"lot_size"}, min_quantity{"min_quantity"},
        max_quantity{"max_quantity"}, min_notional{"min_notional"}, product{"product"}, get{"get"};
};

const Names &names() {
    static const Names held;
    return held;
}

// The text of a str, which lives as long as its owner does.
std::string_view text_in(nb::handle value) {
    Py_ssize_t size = 0;
    const char *text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
    if (text == nullptr) throw nb::python_error();
    return {text, static_cast<std::size_t>(size)};
}

std::string_view text_of(const Name &name, nb::handle owner) { return text_in(name.of(owner)); }

std::optional<std::string_view> maybe_text(const Name &name, nb::handle owner) {
    const nb::object value = name.of(owner);
    if (value.is_none()) return std::nullopt;
    return text_in(value);
}

std::int64_t int64_in(nb::handle value) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    if (number == -1 && PyErr_Occurred()) throw nb::python_error();
    if (overflow != 0) throw Inexact{};
    return number;
}

std::int64_t int64_of(const Name &name, nb::handle owner) { return int64_in(name.of(owner)); }

std::optional<std::int64_t> maybe_int64(const Name &name, nb::handle owner) {
    const nb::object value = name.of(owner);
    if (value.is_none()) return std::nullopt;
    return int64_in(value);
}

bool is_true(const Name &name, nb::handle owner) { return name.of(owner).is(nb::handle(Py_True)); }

// A Decimal, an int or decimal text; None is nothing.
MaybeExact maybe_exact(nb::handle value) {
    if (value.is_none()) return std::nullopt;
    if (PyUnicode_Check(value.ptr())) return exact_of(text_in(value));
    const nb::object text = nb::steal(PyObject_Str(value.ptr()));
    if (!text.is_valid()) throw nb::python_error();
    return exact_of(text_in(text));
}

nb::object int_from(int128 value) {
    if (value >= INT64_MIN && value <= INT64_MAX) return nb::int_(static_cast<std::int64_t>(value));
    return nb::steal(PyLong_FromString(veloz::text_of(Exact{value, 0}).c_str(), nullptr, 10));
}

OrderKind kind_of(std::string_view type) {
    const bool is_limit = type == "LIMIT", is_market = type == "MARKET", is_stop_limit = type == "STOP_LIMIT";
    return {is_limit || is_stop_limit || type == "TAKE_PROFIT_LIMIT", !is_limit && !is_market, is_market, is_limit,
            is_stop_limit};
}

void read_intent(nb::handle intent, OrderFacts &order) {
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

std::string fingerprint_of(nb::handle intent) {
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

private:
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

// What one unit is worth in each market where the account has something, the order's own first.
void read_worths(PythonExposure &exposure, const RiskInstrument &own, nb::handle inputs, RiskFacts &facts) {
    const ExposureBook &book = exposure.core;
    const Names &n = names();
    const nb::object marks = n.marks.of(inputs), rates = n.rates.of(inputs);
    const nb::object mark_of = n.get.of(marks), rate_of = n.get.of(rates);
    std::vector<std::pair<std::string_view, MaybeExact>> known;
    const auto rate = [&](std::string_view asset) {
        for (const auto &[name, found] : known)
            if (name == asset) return found;
        known.emplace_back(asset, maybe_exact(rate_of(nb::str(asset.data(), asset.size()))));
        return known.back().second;
    };
    const auto add = [&](std::size_t at, nb::handle key, const Listing &listing, std::optional<std::int64_t> stated) {
        const nb::object found = mark_of(key);
        std::optional<std::int64_t> price;
        if (!found.is_none()) price = int64_in(found);
        if (stated) price = price ? std::max(*price, *stated) : stated;
        const MaybeExact worth = rate(listing.quote);
        std::optional<Exact> unit;
        if (price && worth) unit = Exact{*price, listing.notional_scale} * *worth;
        facts.worths.push_back({at, unit});
    };
    const OrderFacts &order = facts.order;
    std::optional<std::int64_t> stated = order.price;
    // A price of zero is none.
    if (stated.value_or(0) == 0) stated = facts.stop;
    // First, so that its name outlives the call.
    facts.quote_rate = rate(own.quote.text);
    add(0, PythonExposure::key_of(order.venue, order.symbol),
        {own.base.text, own.quote.text, own.price_scale + own.quantity_scale}, stated);
    const Market *own_market = book.find(order.account, order.venue, order.symbol);
    for (const std::size_t at : book.markets_of(order.account)) {
        const Market &market = book.market(at);
        if (&market == own_market || market.is_flat()) continue;
        if (market.listing.quote.empty()) throw Inexact{};
        add(at, exposure.key_of(at), market.listing, std::nullopt);
    }
}

void read_market(nb::handle market, RiskFacts &facts) {
    const Names &n = names();
    facts.bid = maybe_text(n.bid_price, market);
    facts.ask = maybe_text(n.ask_price, market);
    facts.mid = maybe_text(n.mid_price, market);
    facts.book_state = text_of(n.book_state, market);
    facts.book_age_ms = int64_of(n.book_age_ms, market);
    facts.mark = maybe_text(n.mark_price, market);
    if (!facts.mark || facts.mark->empty()) facts.mark = maybe_text(n.last_price, market);
}

void read_inputs(nb::handle inputs, const RiskInstrument &own, RiskFacts &facts) {
    const Names &n = names();
    facts.is_connected = is_true(n.venue_connected, inputs);
    facts.worst_price = maybe_exact(n.worst_price.of(inputs));
    facts.depth_quantity = maybe_exact(n.depth_quantity.of(inputs));
    facts.visible_quantity = maybe_exact(n.visible_quantity.of(inputs));
    const nb::object balances = n.balances.of(inputs);
    facts.knows_balances = !balances.is_none();
    if (!facts.knows_balances) return;
    const Literal &asset = facts.order.side == Side::kBuy ? own.quote : own.base;
    const nb::object total = n.total.of(balances);
    facts.total = maybe_exact(n.get.of(total)(nb::str(asset.text.data(), asset.text.size())));
    facts.balances_as_of_ns = int64_of(n.as_of_ns, balances);
}

// What an order that takes another one's place brings along: (how much of it rests on this side, filled quantity,
// what may still fill of the amended order or None, its price, what of the balance it has taken).
void read_replaced(nb::handle replaced, RiskFacts &facts) {
    if (replaced.is_none()) return;
    facts.replaced = int64_in(nb::object(replaced[0]));
    // One that is over holds no place any more.
    facts.adds_order = facts.replaced == 0;
    facts.filled = int64_in(nb::object(replaced[1]));
    const nb::object quantity = replaced[2], price = replaced[3];
    facts.given_back = *maybe_exact(nb::object(replaced[4]));
    facts.is_amendment = !quantity.is_none();
    if (!facts.is_amendment) return;
    facts.amended_quantity = int64_in(quantity);
    if (!price.is_none()) facts.amended_price = int64_in(price);
}

nb::object evaluate_risk(PythonExposure &exposure, const PythonActivity &activity, const PythonLimits &limits,
                         nb::handle intent, nb::handle market, nb::handle inputs, std::string_view kill_switch,
                         std::optional<std::string_view> frozen_reason, nb::handle equity, bool is_today,
                         std::int64_t now_ns, nb::handle reference_price, nb::handle max_deviation_bps,
                         nb::handle replaced, nb::handle margin) {
    const Names &n = names();
    try {
        RiskFacts facts;
        read_intent(intent, facts.order);
        const RiskInstrument &own = exposure.instrument(facts.order.venue, facts.order.symbol);
        facts.kind = kind_of(text_of(n.order_type, intent));
        facts.stop = maybe_int64(n.stop_price, intent);
        facts.activation = maybe_int64(n.activation_price, intent);
        facts.reduce_only = is_true(n.reduce_only, intent);
        facts.kill_switch = kill_switch;
        facts.frozen = frozen_reason;
        facts.now_ns = now_ns;
        facts.fingerprint = fingerprint_of(intent);
        read_market(market, facts);
        read_inputs(inputs, own, facts);
        read_worths(exposure, own, inputs, facts);
        if (!equity.is_none()) {
            facts.equity = maybe_exact(n.equity.of(equity));
            facts.day_start_equity = is_today ? maybe_exact(n.day_start_equity.of(equity)) : facts.equity;
            facts.peak_equity = maybe_exact(n.peak_equity.of(equity));
        }
        facts.reference_price = maybe_exact(reference_price);
        facts.most_deviation = maybe_exact(max_deviation_bps);
        read_replaced(replaced, facts);
        if (!margin.is_none())
            facts.margin = {maybe_exact(nb::object(margin[0])), maybe_exact(nb::object(margin[1])),
                            maybe_exact(nb::object(margin[2]))};
        const RiskOutcome outcome =
            evaluate(exposure.core, activity.times, activity.fingerprints, limits.core, own, facts);
        const nb::object refusal = outcome.refusal ? nb::object(nb::int_(*outcome.refusal)) : nb::none();
        const nb::object notional =
            outcome.notional ? nb::object(nb::str(veloz::text_of(*outcome.notional).c_str())) : nb::none();
        const std::string records = json_of(outcome.records);
        return nb::make_tuple(nb::bytes(records.data(), records.size()), refusal, notional);
    } catch (const Inexact &) {
        return nb::none();
    }
}

void bind_exposure(nb::module_ &module) {
    nb::class_<Resting>(module, "Resting", "What rests of one account in one market, at one moment.")
        .def_ro("orders", &Resting::orders)
        .def_prop_ro(
            "buy_quantity", [](const Resting &r) { return r.buy_quantity; }, nb::sig("def buy_quantity(self) -> int"))
        .def_prop_ro(
            "sell_quantity", [](const Resting &r) { return r.sell_quantity; },
            nb::sig("def sell_quantity(self) -> int"))
        .def(
            "quantity",
            [](const Resting &r, std::string_view side) { return side == "BUY" ? r.buy_quantity : r.sell_quantity; },
            "side"_a, nb::sig("def quantity(self, side: str) -> int"))
        .def(
            "unknown", [](const Resting &r, std::string_view side) { return r.unknown[side == "BUY" ? 0 : 1]; },
            "side"_a, "How many orders of a side have no known outcome.")
        .def(
            "opposite_price", [](const Resting &r, std::string_view side) { return r.best[side == "BUY" ? 1 : 0]; },
            "side"_a, "The best of our own prices that an order on this side could meet.");

    nb::class_<PythonExposure>(module, "ExposureBook",
                               "What rests, kept up with every order; core.risk.exposure is the oracle.")
        .def(nb::init<nb::object>(), "mandate_type"_a, nb::sig("def __init__(self, mandate_type: type) -> None"))
        .def("order_changed", &PythonExposure::order_changed, "old"_a.none(), "new"_a.none(),
             nb::sig("def order_changed(self, old: object, new: object) -> None"),
             "An Order before and after; None for none. The swapped call undoes it exactly.")
        .def("position_changed", &PythonExposure::position_changed, "account_id"_a, "venue"_a, "symbol"_a, "quantity"_a)
        .def("instrument_changed", &PythonExposure::instrument_changed, "instrument"_a,
             nb::sig("def instrument_changed(self, instrument: object) -> None"))
        .def(
            "resting",
            [](const PythonExposure &book, std::string_view account, std::string_view venue, std::string_view symbol) {
                const Market *market = book.core.find(account, venue, symbol);
                if (market == nullptr) return Resting{0, nb::int_(0), nb::int_(0), {}, {}};
                return Resting{market->orders,
                               int_from(market->quantity[0].value()),
                               int_from(market->quantity[1].value()),
                               market->unknown,
                               {market->best(Side::kBuy), market->best(Side::kSell)}};
            },
            "account_id"_a, "venue"_a, "symbol"_a)
        .def(
            "markets",
            [](const PythonExposure &book, std::string_view account) {
                nb::list found;
                for (const std::size_t at : book.core.markets_of(account)) {
                    const Market &market = book.core.market(at);
                    if (market.has_orders) found.append(nb::make_tuple(market.account, market.venue, market.symbol));
                }
                return nb::tuple(found);
            },
            "account_id"_a, nb::sig("def markets(self, account_id: str) -> tuple[tuple[str, str, str], ...]"),
            "Where the account has, or had, open orders.")
        .def(
            "open_orders",
            [](const PythonExposure &book, std::string_view account) { return book.core.open_orders(account); },
            "account_id"_a)
        .def(
            "reserved",
            [](PythonExposure &book, std::string_view asset, std::int64_t as_of_ns) -> std::optional<std::string> {
                try {
                    return veloz::text_of(book.core.reserved(asset, as_of_ns));
                } catch (const Inexact &) {
                    return std::nullopt;
                }
            },
            "asset"_a, "as_of_ns"_a,
            "What our orders take, as decimal text, of an asset that the venue told at as_of_ns; None where 128 bits "
            "don't "
            "hold it.")
        .def(
            "of_strategy",
            [](const PythonExposure &book, std::string_view account, std::string_view venue, std::string_view symbol,
               std::string_view strategy) {
                const auto [buys, sells] = book.core.of_strategy(account, venue, symbol, strategy);
                return nb::make_tuple(int_from(buys), int_from(sells));
            },
            "account_id"_a, "venue"_a, "symbol"_a, "strategy_id"_a,
            nb::sig(
                "def of_strategy(self, account_id: str, venue: str, symbol: str, strategy_id: str) -> tuple[int, int]"),
            "What a strategy's open orders, held ones too, may still buy and sell.")
        .def(
            "orders_of_mandate",
            [](const PythonExposure &book, std::string_view id) { return book.core.orders_of_mandate(id); },
            "mandate_id"_a, "Its open orders, held ones too.");
}

void bind_activity(nb::module_ &module) {
    const auto entries = [](const Windows &windows) {
        nb::list found;
        windows.visit([&](const std::string &key, const std::deque<std::int64_t> &times) {
            nb::list held;
            for (const std::int64_t time : times) held.append(time);
            found.append(nb::make_tuple(key, held));
        });
        return found;
    };
    nb::class_<PythonActivity>(module, "Activity", "How much was asked for lately; core.risk.activity is the oracle.")
        .def(nb::init<>())
        .def(
            "order_intended",
            [](PythonActivity &activity, nb::handle intent, std::int64_t ts_ns) {
                activity.note("order", intent, ts_ns);
                activity.fingerprints.note(fingerprint_of(intent), ts_ns);
            },
            "intent"_a, "ts_ns"_a, nb::sig("def order_intended(self, intent: object, ts_ns: int) -> None"))
        .def(
            "amend_requested",
            [](PythonActivity &activity, nb::handle intent, std::int64_t ts_ns) {
                activity.note("amend", intent, ts_ns);
            },
            "intent"_a, "ts_ns"_a, nb::sig("def amend_requested(self, intent: object, ts_ns: int) -> None"))
        .def(
            "cancel_requested",
            [](PythonActivity &activity, nb::handle intent, std::int64_t ts_ns) {
                activity.note("cancel", intent, ts_ns);
            },
            "intent"_a, "ts_ns"_a, nb::sig("def cancel_requested(self, intent: object, ts_ns: int) -> None"))
        .def(
            "count",
            [](const PythonActivity &activity, std::string_view kind, std::string_view key, std::int64_t window_ms,
               std::int64_t now_ns) {
                std::string whole(kind);
                whole.append(1, kBetween).append(key);
                return activity.times.count(whole, now_ns - window_ms * 1'000'000);
            },
            "kind"_a, "key"_a, "window_ms"_a, "now_ns"_a,
            "How many lie within the last window_ms; one that is exactly so old no longer does.")
        .def(
            "repeats",
            [](const PythonActivity &activity, std::string_view fingerprint, std::int64_t window_ms,
               std::int64_t now_ns) {
                return activity.fingerprints.count(fingerprint, now_ns - window_ms * 1'000'000);
            },
            "intent_fingerprint"_a, "window_ms"_a, "now_ns"_a,
            "How many orders of the same terms lie within the last window_ms.")
        .def(
            "times", [entries](const PythonActivity &activity) { return entries(activity.times); },
            nb::sig("def times(self) -> list[tuple[str, list[int]]]"),
            "By kind and key, with a zero byte between them.")
        .def(
            "fingerprints", [entries](const PythonActivity &activity) { return entries(activity.fingerprints); },
            nb::sig("def fingerprints(self) -> list[tuple[str, list[int]]]"))
        .def(
            "restore",
            [](PythonActivity &activity, const std::vector<std::pair<std::string, std::vector<std::int64_t>>> &times,
               const std::vector<std::pair<std::string, std::vector<std::int64_t>>> &fingerprints) {
                for (const auto &[key, held] : times)
                    for (const std::int64_t time : held) activity.times.note(key, time);
                for (const auto &[key, held] : fingerprints)
                    for (const std::int64_t time : held) activity.fingerprints.note(key, time);
            },
            "times"_a, "fingerprints"_a, "What times and fingerprints gave.");
}

}  // namespace

void bind_risk(nb::module_ &module) {
    nb::register_exception_translator([](const std::exception_ptr &thrown, void *) {
        try {
            std::rethrow_exception(thrown);
        } catch (const Inexact &) {
            PyErr_SetString(PyExc_OverflowError, "the value needs more bits than the books have");
        }
    });
    bind_exposure(module);
    bind_activity(module);
    nb::class_<PythonLimits>(module, "RiskLimits",
                             "What holds for one account, strategy and symbol, ready to be compared.")
        .def(
            "__init__",
            [](PythonLimits *self, const nb::dict &limits, const nb::dict &rates) {
                try {
                    new (self) PythonLimits(limits, rates);
                } catch (const Inexact &) {
                    throw nb::value_error("a limit needs more than 128 bits");
                }
            },
            "limits"_a, "rates"_a,
            nb::sig("def __init__(self, limits: dict[str, tuple[str, str]], "
                    "rates: dict[str, list[tuple[list[str], int, int, str]]]) -> None"),
            "limits: decimal text and source by name. rates: by name, of each what is counted, limit, window_ms and "
            "source. "
            "Raises ValueError for a limit that 128 bits don't hold.");
    module.def(
        "evaluate_risk", &evaluate_risk, "exposure"_a, "activity"_a, "limits"_a, "intent"_a, "market"_a, "inputs"_a,
        "kill_switch"_a, "frozen_reason"_a.none(), "equity"_a.none(), "is_today"_a, "now_ns"_a,
        "reference_price"_a.none(), "max_deviation_bps"_a.none(), "replaced"_a.none(), "margin"_a.none(),
        nb::sig(
            "def evaluate_risk(exposure: ExposureBook, activity: Activity, limits: RiskLimits, intent: object, "
            "market: object, inputs: object, kill_switch: str, frozen_reason: str | None, equity: object, "
            "is_today: bool, now_ns: int, reference_price: object, max_deviation_bps: object, "
            "replaced: tuple[int, int, int | None, int | None, object] | None, margin: tuple[object, object, object] | "
            "None) -> tuple[bytes, int | None, str | None] | None"),
        "Every built-in check: the records as their JSON, which of them is the first that didn't pass, and the order's "
        "worth as decimal text.\n\nNone where 128 bits don't hold a value exactly: core.kernel.decide_risk then "
        "decides in "
        "Python.");
}

}  // namespace veloz
