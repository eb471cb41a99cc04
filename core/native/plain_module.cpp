// core._native: the plain order, decided and applied in one go each. core.kernel.decide_orders and core.kernel.kernel
// are the oracles: what isn't plain, what would be refused, and what 128 bits don't hold is left to them.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "bindings.hpp"
#include "risk_bindings.hpp"
#include "risk_facts.hpp"
#include "sha256.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace veloz {
namespace {

constexpr Py_ssize_t kRequestIdLongest = 128;
constexpr std::size_t kOrderIdBytes = 16, kShortIdBytes = 8;
constexpr std::string_view kOrderIdDomain{"veloz/requested-order-id/v1\0", 28};

nb::object called(nb::handle callable, PyObject *const *arguments, std::size_t count, nb::handle names = {}) {
    PyObject *made = PyObject_Vectorcall(callable.ptr(), arguments, count, names.ptr());
    if (made == nullptr) throw nb::python_error();
    return nb::steal(made);
}

nb::object text_from(std::string_view text) {
    PyObject *made = PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
    if (made == nullptr) throw nb::python_error();
    return nb::steal(made);
}

// None for what isn't there.
nb::handle found_in(nb::handle dict, nb::handle key) {
    PyObject *found = PyDict_GetItemWithError(dict.ptr(), key.ptr());
    if (found == nullptr && PyErr_Occurred()) throw nb::python_error();
    return found;
}

void put(nb::handle dict, nb::handle key, nb::handle value) {
    if (PyDict_SetItem(dict.ptr(), key.ptr(), value.ptr()) != 0) throw nb::python_error();
}

// As core.types.orders.requested_order_id.
std::string requested_order_id(std::string_view authority_id, std::string_view request_id) {
    Sha256 hash;
    hash.add(kOrderIdDomain).add(authority_id).add({"\0", 1}).add(request_id);
    std::string id("vz");
    append_hex(id, hash.digest(), kOrderIdBytes);
    return id;
}

// As core.kernel.holdings.short_id.
std::int64_t short_id(std::string_view order_id) {
    const auto digest = Sha256().add(order_id).digest();
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < kShortIdBytes; ++i) number = number << 8 | digest[i];
    return static_cast<std::int64_t>(number >> 1);
}

int128 int128_in(nb::handle value) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    if (overflow != 0) throw Inexact{};
    if (number == -1 && PyErr_Occurred()) throw nb::python_error();
    return number;
}

int128 distance(int128 value) { return value < 0 ? -value : value; }

// What holds for the orders of one account, strategy and instrument until something of it changes. Whoever keeps it
// sees to that.
struct PlainTerms {
    const PythonLimits *limits;
    nb::object limits_object, capabilities, price_scale, quantity_scale, rules_version;
    std::vector<std::string> times_in_force;
    std::string kill_switch;
    std::string venue;
    MaybeExact equity, day_start_equity, peak_equity;
    std::int64_t from_ns, until_ns;

    bool hold(std::int64_t now_ns, nb::handle their_capabilities) const {
        return from_ns <= now_ns && now_ns < until_ns && capabilities.is(their_capabilities);
    }
};

// The kernel's own tables, which stay what they are; the books follow them.
class PlainOrders {
public:
    PlainOrders(PythonExposure &exposure, PythonActivity &activity, const nb::dict &tables, const nb::dict &types)
        : exposure_(exposure), activity_(activity), orders_(tables["orders"]), retired_(tables["retired"]),
          mandates_(tables["mandates"]), strategy_positions_(tables["strategy_positions"]), open_(tables["open"]),
          open_by_market_(tables["open_by_market"]), final_(tables["final"]), children_(tables["children"]),
          replacements_(tables["replacements"]), intent_type_(types["intent"]), intended_type_(types["intended"]),
          order_type_(types["order"]), mandate_type_(types["mandate"]), mandate_state_type_(types["mandate_state"]),
          external_type_(types["external"]), checks_type_(types["checks"]), intended_(types["status_intended"]),
          accepted_(types["status_accepted"]), replace_(types["replace"]), no_trades_(nb::steal(PyTuple_New(0))) {
        const auto keywords = [](std::initializer_list<const char *> words) {
            nb::list made;
            for (const char *word : words) made.append(nb::steal(PyUnicode_InternFromString(word)));
            return nb::tuple(made);
        };
        intended_keywords_ = keywords(
            {"ts_ns", "trace_id", "intent", "authority", "notional_quote", "rules_version", "market", "checks"});
        accepted_keywords_ = keywords({"updated_ns", "status", "venue_order_id", "unresolved_since_ns", "refusal"});
    }

    nb::object decide(const PlainTerms &terms, nb::handle request, nb::handle authority, nb::handle inputs,
                      std::int64_t now_ns, nb::handle trace_id) {
        if (!authority.type().is(mandate_type_)) return nb::none();
        try {
            return decided(terms, request, authority, inputs, now_ns, trace_id);
        } catch (const Inexact &) {
            return nb::none();
        }
    }

    bool apply(nb::handle event, nb::handle undo) {
        try {
            return applied(event, undo);
        } catch (const Inexact &) {
            return false;
        }
    }

    bool apply_accepted(nb::handle event, nb::handle undo) {
        try {
            return accepted(event, undo);
        } catch (const Inexact &) {
            return false;
        }
    }

    nb::list retire(const nb::list &order_ids, nb::handle undo) {
        nb::list others;
        for (nb::handle order_id : order_ids)
            if (!retired(order_id, undo)) others.append(order_id);
        return others;
    }

private:
    nb::object decided(const PlainTerms &terms, nb::handle request, nb::handle authority, nb::handle inputs,
                       std::int64_t now_ns, nb::handle trace_id) {
        const Names &n = names();
        for (const Name *name : {&n.stop_price, &n.trailing_offset_bps, &n.activation_price, &n.expires_ns})
            if (!name->of(request).is_none()) return nb::none();
        const nb::object request_id = n.request_id.of(request), account = n.account_id.of(request),
                         venue = n.venue.of(request), symbol = n.symbol.of(request), side = n.side.of(request),
                         type = n.order_type.of(request), time = n.time_in_force.of(request),
                         quantity = n.quantity.of(request), price = n.price.of(request),
                         post_only = n.post_only.of(request), reduce_only = n.reduce_only.of(request),
                         strategy = n.strategy_id.of(request), own_account = n.account_id.of(inputs);
        if (text_in(type) != "LIMIT" || text_in(venue) != terms.venue) return nb::none();
        const std::string_view time_text = text_in(time);
        bool is_taken = false;
        for (const std::string &known : terms.times_in_force) is_taken = is_taken || known == time_text;
        if (!is_taken || (post_only.is(nb::handle(Py_True)) && time_text != "GTC")) return nb::none();
        const Py_ssize_t id_length = PyUnicode_GetLength(request_id.ptr());
        if (id_length < 1 || id_length > kRequestIdLongest) return nb::none();
        if (!PyLong_CheckExact(quantity.ptr()) || !PyLong_CheckExact(price.ptr())) return nb::none();
        if (!own_account.is_none() && text_in(own_account) != text_in(account)) return nb::none();

        RiskFacts facts;
        OrderFacts &order = facts.order;
        order.account = text_in(account);
        order.venue = text_in(venue);
        order.symbol = text_in(symbol);
        order.strategy = text_in(strategy);
        order.side = text_in(side) == "BUY" ? Side::kBuy : Side::kSell;
        order.quantity = int64_in(quantity);
        order.price = int64_in(price);
        if (order.quantity <= 0 || *order.price <= 0) return nb::none();
        order.price_scale = static_cast<int>(int64_in(terms.price_scale));
        order.quantity_scale = static_cast<int>(int64_in(terms.quantity_scale));
        const nb::object mandate_id = n.mandate_id.of(authority);
        const nb::object order_id = text_from(requested_order_id(text_in(mandate_id), text_in(request_id)));
        if (is_known(order_id)) return nb::none();

        const RiskInstrument &own = exposure_.instrument(order.venue, order.symbol);
        facts.kind = kind_of("LIMIT");
        facts.reduce_only = reduce_only.is(nb::handle(Py_True));
        facts.kill_switch = terms.kill_switch;
        facts.now_ns = now_ns;
        facts.fingerprint = fingerprint(order, text_in(side), time_text);
        Moment fresh;
        Moment &moment = moment_of(inputs, fresh);
        moment.tell_market(facts);
        moment.tell_balance(own, facts);
        moment.tell_worths(exposure_, own, facts);
        facts.equity = terms.equity;
        facts.day_start_equity = terms.day_start_equity;
        facts.peak_equity = terms.peak_equity;
        const RiskOutcome outcome =
            evaluate(exposure_.core, activity_.times, activity_.fingerprints, terms.limits->core, own, facts);
        if (outcome.refusal || !outcome.notional) return nb::none();
        if (!is_covered(authority, mandate_id, order, account, venue, symbol, strategy, *outcome.notional, now_ns))
            return nb::none();

        const nb::object nothing = nb::none();
        const std::array<PyObject *, 18> intent_fields{account.ptr(),
                                                       venue.ptr(),
                                                       symbol.ptr(),
                                                       side.ptr(),
                                                       type.ptr(),
                                                       time.ptr(),
                                                       quantity.ptr(),
                                                       price.ptr(),
                                                       terms.price_scale.ptr(),
                                                       terms.quantity_scale.ptr(),
                                                       order_id.ptr(),
                                                       post_only.ptr(),
                                                       reduce_only.ptr(),
                                                       nothing.ptr(),
                                                       nothing.ptr(),
                                                       nothing.ptr(),
                                                       nothing.ptr(),
                                                       strategy.ptr()};
        const nb::object intent = called(intent_type_, intent_fields.data(), intent_fields.size());
        const nb::object json_bytes = nb::bytes(outcome.records.data(), outcome.records.size());
        const std::array<PyObject *, 1> checks_fields{json_bytes.ptr()};
        const nb::object checks = called(checks_type_, checks_fields.data(), checks_fields.size());
        const nb::object ts_ns = nb::int_(now_ns), notional = text_from(veloz::text_of(*outcome.notional));
        const std::array<PyObject *, 8> event_fields{ts_ns.ptr(),           trace_id.ptr(), intent.ptr(),
                                                     authority.ptr(),       notional.ptr(), terms.rules_version.ptr(),
                                                     moment.market().ptr(), checks.ptr()};
        return called(intended_type_, event_fields.data(), 0, intended_keywords_);
    }

    bool is_known(nb::handle order_id) const {
        if (found_in(orders_, order_id).ptr() != nullptr) return true;
        return PyDict_Size(retired_.ptr()) != 0 &&
               found_in(retired_, nb::int_(short_id(text_in(order_id)))).ptr() != nullptr;
    }

    // As core.risk.activity.fingerprint.
    static std::string fingerprint(const OrderFacts &order, std::string_view side, std::string_view time) {
        std::string print;
        const auto append = [&](std::string_view text) { print.append(text).push_back(kBetween); };
        append(order.account);
        append(order.venue);
        append(order.symbol);
        append(side);
        append("LIMIT");
        append(time);
        append(std::to_string(order.quantity));
        append(std::to_string(*order.price));
        append("None");
        return print.append(order.strategy);
    }

    // As core.kernel.decide_authority.mandate_order_refusal and core.authority.mandate.mandate_refusal.
    bool is_covered(nb::handle authority, nb::handle mandate_id, const OrderFacts &order, nb::handle account,
                    nb::handle venue, nb::handle symbol, nb::handle strategy, const Exact &notional,
                    std::int64_t now_ns) const {
        const Names &n = names();
        if (text_of(n.strategy_id, authority) != order.strategy) return false;
        const nb::handle state = found_in(mandates_, mandate_id);
        if (state.ptr() == nullptr || is_true(n.revoked, state)) return false;
        const nb::object terms = n.mandate.of(state);
        const auto limit = [&](const Name &name) { return exact_of(text_of(name, terms)); };
        if (compare({now_ns, 0}, limit(n.expires_at_ns)) >= 0) return false;
        if (text_of(n.strategy_id, terms) != order.strategy || text_of(n.account_id, terms) != order.account ||
            text_of(n.venue, terms) != order.venue)
            return false;
        const nb::object symbols = n.symbols.of(terms);
        bool is_named = false;
        for (nb::handle name : symbols) is_named = is_named || text_in(name) == order.symbol;
        if (!is_named) return false;
        int128 held = 0;
        if (PyDict_Size(strategy_positions_.ptr()) != 0) {
            const nb::tuple key = nb::make_tuple(account, venue, symbol, strategy);
            const nb::handle position = found_in(strategy_positions_, key);
            if (position.ptr() != nullptr) held = int128_in(n.quantity.of(position));
        }
        auto [buys, sells] = exposure_.core.of_strategy(order.account, order.venue, order.symbol, order.strategy);
        (order.side == Side::kBuy ? buys : sells) += order.quantity;
        const int128 most = std::max(distance(plus(held, buys)), distance(plus(held, -sells)));
        if (compare(notional, limit(n.max_order_notional_quote)) > 0) return false;
        // Of a position as many times as large as the order; without a division nothing is rounded.
        const Exact position_limit = limit(n.max_position_notional_quote);
        const bool is_within = most == order.quantity
                                   ? compare(notional, position_limit) <= 0
                                   : compare(notional * Exact{most, 0}, position_limit * Exact{order.quantity, 0}) <= 0;
        if (!is_within) return false;
        if (compare(exact_of(text_of(n.notional_used_quote, state)) + notional, limit(n.max_total_notional_quote)) > 0)
            return false;
        const std::int64_t open = 1 + exposure_.core.orders_of_mandate(text_in(mandate_id));
        return compare({open, 0}, limit(n.max_open_orders)) <= 0;
    }

    // A row's former value is told before it changes.
    static void note(nb::handle table, nb::handle key, nb::handle old, nb::handle undo) {
        if (undo.is_none()) return;
        const nb::object change = nb::steal(PyTuple_Pack(3, table.ptr(), key.ptr(), old.ptr()));
        if (!change.is_valid() || PyList_Append(undo.ptr(), change.ptr()) != 0) throw nb::python_error();
    }

    static void set(nb::handle table, nb::handle key, nb::handle old, nb::handle value, nb::handle undo) {
        note(table, key, old, undo);
        put(table, key, value);
    }

    // As core.kernel.kernel.Kernel._retire, of a final order that stands alone: none of the books counts it any more.
    bool retired(nb::handle order_id, nb::handle undo) {
        const Names &n = names();
        const nb::object order = nb::borrow(found_in(orders_, order_id));
        if (!order.is_valid() || n.authority.of(order).type().is(external_type_)) return false;
        for (const Name *name : {&n.group_id, &n.parent_id, &n.replaces})
            if (!name->of(order).is_none()) return false;
        for (nb::handle index : {nb::handle(children_), nb::handle(replacements_)})
            if (found_in(index, order_id).ptr() != nullptr) return false;
        const nb::object key = nb::int_(short_id(text_in(order_id))), nothing = nb::none();
        const nb::handle before = found_in(retired_, key);
        note(orders_, order_id, order, undo);
        if (PyDict_DelItem(orders_.ptr(), order_id.ptr()) != 0) throw nb::python_error();
        if (PyDict_DelItem(final_.ptr(), order_id.ptr()) != 0) throw nb::python_error();
        set(retired_, key, before.is_valid() ? before : nb::handle(nothing), nb::handle(Py_True), undo);
        return true;
    }

    bool applied(nb::handle event, nb::handle undo) {
        const Names &n = names();
        const nb::object authority = n.authority.of(event);
        if (!authority.type().is(mandate_type_) || is_true(n.is_held, event)) return false;
        for (const Name *name : {&n.group_id, &n.role, &n.parent_id, &n.replaces})
            if (!name->of(event).is_none()) return false;
        const nb::object intent = n.intent.of(event), order_id = n.client_order_id.of(intent),
                         ts_ns = n.ts_ns.of(event), trace_id = n.trace_id.of(event),
                         notional = n.notional_quote.of(event), mandate_id = n.mandate_id.of(authority);
        if (is_known(order_id) || found_in(replacements_, order_id).ptr() != nullptr) return false;
        const nb::handle mandate = found_in(mandates_, mandate_id);
        if (mandate.ptr() == nullptr) return false;
        OrderFacts facts;
        read_intent(intent, facts);
        facts.is_unanswered = true;
        facts.updated_ns = int64_in(ts_ns);
        facts.notional = text_in(notional);
        facts.mandate = text_in(mandate_id);
        const nb::object used = with_order(mandate, exact_of(facts.notional));
        const nb::object nothing = nb::none(), nought = nb::int_(0), no = nb::bool_(false);
        const std::array<PyObject *, 15> fields{intent.ptr(),  intended_.ptr(), ts_ns.ptr(),      ts_ns.ptr(),
                                                nothing.ptr(), trace_id.ptr(),  notional.ptr(),   nothing.ptr(),
                                                nought.ptr(),  nought.ptr(),    no_trades_.ptr(), nothing.ptr(),
                                                no.ptr(),      nothing.ptr(),   authority.ptr()};
        const nb::object order = called(order_type_, fields.data(), fields.size());
        const nb::tuple market = nb::make_tuple(n.account_id.of(intent), n.venue.of(intent), n.symbol.of(intent));
        nb::object in_market = nb::borrow(found_in(open_by_market_, market));
        if (!in_market.is_valid()) {
            in_market = nb::dict();
            put(open_by_market_, market, in_market);
        }
        // From here on nothing is left undecided.
        set(mandates_, mandate_id, mandate, used, undo);
        set(orders_, order_id, nothing, order, undo);
        exposure_.core.add(facts, 1);
        put(open_, order_id, nothing);
        put(in_market, order_id, nothing);
        activity_.note("order", intent, facts.updated_ns);
        activity_.fingerprints.note(fingerprint_of(intent), facts.updated_ns);
        return true;
    }

    // As core.authority.state.MandateState.with_order.
    nb::object with_order(nb::handle state, const Exact &worth) const {
        const Names &n = names();
        const nb::object mandate = n.mandate.of(state), digest = n.digest_hex.of(state),
                         installed = n.installed_ns.of(state), revoked = n.revoked.of(state),
                         signatures = n.signatures.of(state);
        const nb::object orders = nb::int_(int64_of(n.orders_used, state) + 1);
        const nb::object sum = text_from(veloz::text_of(exact_of(text_of(n.notional_used_quote, state)) + worth));
        const std::array<PyObject *, 7> fields{mandate.ptr(), digest.ptr(),  installed.ptr(), orders.ptr(),
                                               sum.ptr(),     revoked.ptr(), signatures.ptr()};
        return called(mandate_state_type_, fields.data(), fields.size());
    }

    // The venue's first answer for an order that stands alone: core.orders.machine.transition of INTENDED.
    bool accepted(nb::handle event, nb::handle undo) {
        const Names &n = names();
        const nb::object order_id = n.client_order_id.of(event);
        const nb::object order = nb::borrow(found_in(orders_, order_id));
        if (!order.is_valid() || !n.status.of(order).is(intended_)) return false;
        for (const Name *name : {&n.group_id, &n.replaces, &n.pending_amend, &n.venue_order_id})
            if (!name->of(order).is_none()) return false;
        if (found_in(replacements_, order_id).ptr() != nullptr) return false;
        const nb::object ts_ns = n.ts_ns.of(event), venue_order_id = n.venue_order_id.of(event), nothing = nb::none();
        OrderFacts before = *exposure_.read(order), after = before;
        after.updated_ns = int64_in(ts_ns);
        after.is_unanswered = false;
        const std::array<PyObject *, 6> fields{order.ptr(),          ts_ns.ptr(),   accepted_.ptr(),
                                               venue_order_id.ptr(), nothing.ptr(), nothing.ptr()};
        const nb::object changed = called(replace_, fields.data(), 1, accepted_keywords_);
        set(orders_, order_id, order, changed, undo);
        exposure_.core.add(before, -1);
        exposure_.core.add(after, 1);
        return true;
    }

    PythonExposure &exposure_;
    PythonActivity &activity_;
    nb::object orders_, retired_, mandates_, strategy_positions_, open_, open_by_market_, final_, children_,
        replacements_, intent_type_, intended_type_, order_type_, mandate_type_, mandate_state_type_, external_type_,
        checks_type_, intended_, accepted_, replace_, no_trades_;
    nb::tuple intended_keywords_, accepted_keywords_;
};

}  // namespace

void bind_plain(nb::module_ &module) {
    nb::class_<PlainTerms>(module, "PlainTerms", "What holds for plain orders of one account, strategy and instrument.")
        .def(
            "__init__",
            [](PlainTerms *self, nb::object limits, nb::object capabilities, std::string venue, nb::object price_scale,
               nb::object quantity_scale, nb::object rules_version, std::vector<std::string> times_in_force,
               std::string kill_switch, nb::handle equity, nb::handle day_start_equity, nb::handle peak_equity,
               std::int64_t from_ns, std::int64_t until_ns) {
                try {
                    new (self) PlainTerms{nb::inst_ptr<PythonLimits>(limits),
                                          limits,
                                          std::move(capabilities),
                                          std::move(price_scale),
                                          std::move(quantity_scale),
                                          std::move(rules_version),
                                          std::move(times_in_force),
                                          std::move(kill_switch),
                                          std::move(venue),
                                          maybe_exact(equity),
                                          maybe_exact(day_start_equity),
                                          maybe_exact(peak_equity),
                                          from_ns,
                                          until_ns};
                } catch (const Inexact &) {
                    throw nb::value_error("an equity needs more than 128 bits");
                }
            },
            "limits"_a, "capabilities"_a, "venue"_a, "price_scale"_a, "quantity_scale"_a, "rules_version"_a,
            "times_in_force"_a, "kill_switch"_a, "equity"_a.none(), "day_start_equity"_a.none(), "peak_equity"_a.none(),
            "from_ns"_a, "until_ns"_a,
            nb::sig("def __init__(self, limits: RiskLimits, capabilities: object, venue: str, price_scale: int, "
                    "quantity_scale: int, rules_version: int, times_in_force: list[str], kill_switch: str, "
                    "equity: object, day_start_equity: object, peak_equity: object, from_ns: int, until_ns: int) -> "
                    "None"),
            "Raises ValueError for an equity that 128 bits don't hold.")
        .def("hold", &PlainTerms::hold, "now_ns"_a, "capabilities"_a,
             nb::sig("def hold(self, now_ns: int, capabilities: object) -> bool"));
    nb::class_<PlainOrders>(module, "PlainOrders",
                            "A limit order under a mandate that nothing speaks against: decided, applied and "
                            "answered on the kernel's own tables.")
        .def(nb::init<PythonExposure &, PythonActivity &, const nb::dict &, const nb::dict &>(), "exposure"_a,
             "activity"_a, "tables"_a, "types"_a, nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>(),
             nb::sig("def __init__(self, exposure: ExposureBook, activity: Activity, "
                     "tables: dict[str, dict[typing.Any, typing.Any]], types: dict[str, object]) -> None"))
        .def("decide", &PlainOrders::decide, "terms"_a, "request"_a, "authority"_a, "inputs"_a, "now_ns"_a,
             "trace_id"_a.none(),
             nb::sig("def decide(self, terms: PlainTerms, request: object, authority: object, inputs: object, "
                     "now_ns: int, trace_id: str | None) -> typing.Any"),
             "The OrderIntended, or None where core.kernel.decide_orders is to decide. Changes nothing.")
        .def("apply", &PlainOrders::apply, "event"_a, "undo"_a.none(),
             nb::sig("def apply(self, event: object, undo: list[typing.Any] | None) -> bool"),
             "Take in an OrderIntended as core.kernel.kernel does; False, and nothing has changed, where that is to do "
             "it. "
             "undo: what State.rollback goes by, where changes can be undone.")
        .def("apply_accepted", &PlainOrders::apply_accepted, "event"_a, "undo"_a.none(),
             nb::sig("def apply_accepted(self, event: object, undo: list[typing.Any] | None) -> bool"),
             "The same for an OrderAccepted.")
        .def("retire", &PlainOrders::retire, "order_ids"_a, "undo"_a.none(),
             nb::sig("def retire(self, order_ids: list[str], undo: list[typing.Any] | None) -> list[str]"),
             "Let go of final orders that stand alone, as core.kernel.kernel does; the others, which are left to it.");
}

}  // namespace veloz
