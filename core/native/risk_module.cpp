// core._native: the bindings of exposure, activity and risk. Values are read straight from the kernel's frozen structs.

#include <optional>
#include <string>
#include <string_view>

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "bindings.hpp"
#include "risk_bindings.hpp"
#include "risk_facts.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace veloz {
namespace {

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
                         nb::handle intent, nb::handle inputs, std::string_view kill_switch,
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
        Moment fresh;
        Moment &moment = moment_of(inputs, fresh);
        moment.tell_market(facts);
        moment.tell_balance(own, facts);
        moment.tell_worths(exposure, own, facts);
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
        return nb::make_tuple(nb::bytes(outcome.records.data(), outcome.records.size()), refusal, notional);
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
    nb::class_<Moment>(module, "Moment", "What the native side has read of one DecisionInputs, for the next order.")
        .def(nb::init<>());
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
        "evaluate_risk", &evaluate_risk, "exposure"_a, "activity"_a, "limits"_a, "intent"_a, "inputs"_a,
        "kill_switch"_a, "frozen_reason"_a.none(), "equity"_a.none(), "is_today"_a, "now_ns"_a,
        "reference_price"_a.none(), "max_deviation_bps"_a.none(), "replaced"_a.none(), "margin"_a.none(),
        nb::sig(
            "def evaluate_risk(exposure: ExposureBook, activity: Activity, limits: RiskLimits, intent: object, "
            "inputs: object, kill_switch: str, frozen_reason: str | None, equity: object, "
            "is_today: bool, now_ns: int, reference_price: object, max_deviation_bps: object, "
            "replaced: tuple[int, int, int | None, int | None, object] | None, margin: tuple[object, object, object] | "
            "None) -> tuple[bytes, int | None, str | None] | None"),
        "Every built-in check: the records as their JSON, which of them is the first that didn't pass, and the order's "
        "worth as decimal text.\n\nNone where 128 bits don't hold a value exactly: core.kernel.decide_risk then "
        "decides in "
        "Python.");
}

}  // namespace veloz
