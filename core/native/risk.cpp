#include "risk.hpp"

#include <algorithm>

namespace veloz {

namespace {

constexpr int kBpsPlaces = 4, kRatioPlaces = 4;
const Exact kZero{0, 0}, kBpsPerUnit{10'000, 0};

const Literal kNormal{"NORMAL"}, kReduceOnly{"REDUCE_ONLY"}, kInAgreement{"in agreement"}, kConnected{"connected"},
    kDisconnected{"disconnected"}, kLive{"LIVE"}, kResolved{"resolved"}, kUnresolved{"unresolved"}, kQuote{"quote"},
    kBase{"base"}, kBps{"bps"}, kMs{"ms"}, kOrders{"orders"}, kTimes{"times"}, kProposal{"proposal"}, kNought{"0"};

struct Measured {
    MaybeExact before, after;
};

// Gross and net over markets; nothing from the first market on whose worth isn't known.
class Sums {
public:
    MaybeExact add(int128 held, int128 buys, int128 sells, const std::optional<Exact> &unit) {
        if (held == 0 && buys == 0 && sells == 0) return kZero;
        if (!unit || !is_known_) {
            is_known_ = false;
            return std::nullopt;
        }
        const Exact high = Exact{plus(held, buys), 0} * *unit, low = Exact{plus(held, -sells), 0} * *unit;
        const Exact a = absolute(high), b = absolute(low), worst = compare(a, b) >= 0 ? a : b;
        gross_ = gross_ + worst;
        long_ = long_ + high;
        short_ = short_ + low;
        return worst;
    }
    MaybeExact gross() const { return is_known_ ? MaybeExact(gross_) : std::nullopt; }
    MaybeExact net() const {
        if (!is_known_) return std::nullopt;
        const Exact a = absolute(long_), b = absolute(short_);
        return compare(a, b) >= 0 ? a : b;
    }

private:
    bool is_known_ = true;
    Exact gross_, long_, short_;
};

class Evaluation {
public:
    Evaluation(ExposureBook &book, const Windows &asked, const Windows &fingerprints, const RiskLimits &limits,
               const RiskInstrument &instrument, const RiskFacts &facts)
        : book_(book), asked_(asked), fingerprints_(fingerprints), limits_(limits), instrument_(instrument),
          facts_(facts), order_(facts.order), is_buy_(facts.order.side == Side::kBuy),
          own_(book.find(order_.account, order_.venue, order_.symbol)) {
        if (order_.price_scale != instrument.price_scale || order_.quantity_scale != instrument.quantity_scale ||
            order_.quantity < 0 || instrument.tick <= 0 || instrument.lot <= 0)
            throw Inexact{};
        const auto at = static_cast<std::size_t>(order_.side);
        beside_ = (own_ == nullptr ? 0 : own_->quantity[at].value()) - facts.replaced;
        const int128 held = own_ == nullptr ? 0 : own_->position();
        reducible_ = std::max<int128>(is_buy_ ? -held : held, 0);
        const bool lowers =
            facts.is_amendment && order_.quantity <= facts.amended_quantity && order_.price == facts.amended_price;
        reduces_ = lowers || order_.quantity <= reducible_ - beside_;
        price_ = effective_price();
    }

    RiskOutcome run() {
        const Exact quantity = quantity_of(order_.quantity), whole = quantity_of(plus(order_.quantity, facts_.filled));
        MaybeExact value, whole_value;
        if (price_) {
            value = *price_ * quantity;
            whole_value = *price_ * whole;
            if (facts_.quote_rate) outcome_.notional = *whole_value * *facts_.quote_rate;
        }
        surroundings();
        filters(whole, whole_value);
        book_depth(quantity);
        per_order(whole);
        collars();
        balance(quantity, value);
        own_orders();
        rates();
        exposures();
        losses();
        outcome_.checks = records_.count();
        outcome_.records = records_.json();
        return std::move(outcome_);
    }

private:
    void record(const Literal &code, bool passed, const Word &limit, const Word &actual, const Word &unit = {},
                const Word &source = {}) {
        if (!passed && !outcome_.refusal) outcome_.refusal = records_.count();
        records_.add(code, passed, limit, actual, unit, source);
    }

    static Word word(const MaybeExact &value) { return value ? Word(*value) : Word(); }
    static MaybeExact read(const std::optional<std::string_view> &text) {
        return text ? MaybeExact(exact_of(*text)) : std::nullopt;
    }
    Exact quantity_of(int128 scaled) const { return {scaled, instrument_.quantity_scale}; }
    Exact price_of(std::int64_t scaled) const { return {scaled, instrument_.price_scale}; }

    MaybeExact effective_price() const {
        if (facts_.kind.has_limit_price) return order_.price ? MaybeExact(price_of(*order_.price)) : std::nullopt;
        if (facts_.stop) return price_of(*facts_.stop);
        if (facts_.worst_price) return facts_.worst_price;
        return read(is_buy_ ? facts_.ask : facts_.bid);
    }

    void surroundings() {
        static const Literal kill_switch{"RISK_KILL_SWITCH_ACTIVE"}, frozen{"RISK_ACCOUNT_FROZEN"},
            connected{"RISK_VENUE_DISCONNECTED"}, book{"MARKET_BOOK_STALE"};
        const bool lets = facts_.kill_switch == kNormal.text || (facts_.kill_switch == kReduceOnly.text && reduces_);
        record(kill_switch, lets, kNormal,
               facts_.kill_switch == kNormal.text ? Word(kNormal) : Word(facts_.kill_switch));
        record(frozen, !facts_.frozen, kInAgreement,
               facts_.frozen && !facts_.frozen->empty() ? Word(*facts_.frozen) : Word(kInAgreement));
        record(connected, facts_.is_connected, kConnected, facts_.is_connected ? kConnected : kDisconnected);
        if (facts_.book_state != kLive.text || !facts_.mid)
            record(book, false, kLive, facts_.book_state);
        else
            record(book, compare({facts_.book_age_ms, 0}, limits_.book_age.value) <= 0, limits_.book_age.text,
                   Word(facts_.book_age_ms), kMs);
    }

    void filters(const Exact &whole, const MaybeExact &whole_value) {
        static const Literal tick{"ORDER_TICK_SIZE_VIOLATED"}, lot{"ORDER_LOT_SIZE_VIOLATED"},
            least{"ORDER_QUANTITY_BELOW_MIN"}, most{"ORDER_QUANTITY_ABOVE_MAX"}, value{"ORDER_NOTIONAL_BELOW_MIN"},
            grows{"ORDER_WOULD_INCREASE_POSITION"};
        std::optional<std::int64_t> wrong, first;
        for (const auto &price : {order_.price, facts_.stop, facts_.activation}) {
            if (!price) continue;
            if (!first) first = price;
            if (!wrong && *price % instrument_.tick != 0) wrong = price;
        }
        if (first || facts_.kind.has_limit_price) {
            const auto shown = wrong ? wrong : first;
            record(tick, !wrong && (order_.price || !facts_.kind.has_limit_price), instrument_.tick_text,
                   shown ? Word(price_of(*shown)) : Word(), kQuote);
        }
        record(lot, whole.value % instrument_.lot == 0, instrument_.lot_text, whole, kBase);
        record(least, whole.value >= instrument_.min_quantity, instrument_.min_quantity_text, whole, kBase);
        record(most, whole.value <= instrument_.max_quantity, instrument_.max_quantity_text, whole, kBase);
        const Exact least_value{instrument_.min_notional, instrument_.price_scale + instrument_.quantity_scale};
        record(value, whole_value && compare(*whole_value, least_value) >= 0, instrument_.min_notional_text,
               word(whole_value), kQuote);
        if (facts_.reduce_only)
            record(grows, reduces_, quantity_of(reducible_ - beside_), quantity_of(order_.quantity), kBase);
    }

    void book_depth(const Exact &quantity) {
        static const Literal depth{"MARKET_DEPTH_INSUFFICIENT"}, share{"RISK_DEPTH_SHARE_EXCEEDED"};
        if (facts_.kind.is_market)
            record(depth, facts_.depth_quantity && compare(*facts_.depth_quantity, quantity) >= 0,
                   word(facts_.depth_quantity), quantity, kBase);
        if (!takes()) return;
        MaybeExact part;
        if (facts_.visible_quantity && facts_.visible_quantity->value != 0)
            part = quotient_up(quantity * kBpsPerUnit, *facts_.visible_quantity, kBpsPlaces);
        record_limit(share, part && compare(*part, limits_.depth_share.value) <= 0, limits_.depth_share, word(part),
                     kBps);
    }

    bool takes() const {
        if (facts_.kind.is_market) return true;
        if (!facts_.kind.is_limit || !order_.price) return false;
        const MaybeExact best = read(is_buy_ ? facts_.ask : facts_.bid);
        if (!best) return false;
        const int above = compare(price_of(*order_.price), *best);
        return is_buy_ ? above >= 0 : above <= 0;
    }

    void record_limit(const Literal &code, bool passed, const Limit &limit, const Word &actual, const Word &unit) {
        record(code, passed, limit.text, actual, unit, limit.source);
    }

    void per_order(const Exact &whole) {
        static const Literal size{"RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER"}, value{"RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER"};
        record_limit(size, compare(whole, limits_.quantity.value) <= 0, limits_.quantity, whole, kBase);
        record_limit(value, outcome_.notional && compare(*outcome_.notional, limits_.notional.value) <= 0,
                     limits_.notional, word(outcome_.notional), kQuote);
    }

    void collars() {
        static const Literal collar{"RISK_PRICE_OUTSIDE_COLLAR"}, mark_collar{"RISK_PRICE_OUTSIDE_MARK_COLLAR"},
            drift{"RISK_PRICE_DRIFT_EXCEEDS_MAX"};
        const MaybeExact mid = read(facts_.mid), mark = read(facts_.mark);
        const auto deviation = [&](const Literal &code, const MaybeExact &price, const MaybeExact &reference,
                                   const Exact &limit, const Word &limit_text, const Literal &source) {
            MaybeExact actual;
            if (price && reference)
                actual = quotient_up(absolute(*price - *reference) * kBpsPerUnit, *reference, kBpsPlaces);
            record(code, actual && compare(*actual, limit) <= 0, limit_text, word(actual), kBps, source);
        };
        if (!facts_.stop || facts_.kind.has_limit_price)
            deviation(collar, price_, facts_.stop ? MaybeExact(price_of(*facts_.stop)) : mid,
                      limits_.price_collar.value, limits_.price_collar.text, limits_.price_collar.source);
        if (!facts_.stop && (mark || instrument_.is_derivative))
            deviation(mark_collar, price_, mark, limits_.mark_collar.value, limits_.mark_collar.text,
                      limits_.mark_collar.source);
        if (!facts_.reference_price) return;
        const Limit &limit = limits_.deviation;
        if (facts_.most_deviation && compare(*facts_.most_deviation, limit.value) < 0)
            deviation(drift, mid, facts_.reference_price, *facts_.most_deviation, *facts_.most_deviation, kProposal);
        else
            deviation(drift, mid, facts_.reference_price, limit.value, limit.text, limit.source);
    }

    void balance(const Exact &quantity, const MaybeExact &value) {
        static const Literal code{"RISK_BALANCE_INSUFFICIENT"};
        if (instrument_.is_derivative) return;
        const Literal &asset = is_buy_ ? instrument_.quote : instrument_.base;
        const MaybeExact needed = is_buy_ ? value : MaybeExact(quantity);
        if (!facts_.knows_balances) return record(code, reduces_, kZero, word(needed), asset);
        Exact taken = book_.reserved(asset.text, facts_.balances_as_of_ns);
        const Exact free = facts_.total.value_or(kZero) - taken + facts_.given_back;
        record(code, needed && compare(*needed, free) <= 0, free, word(needed), asset);
    }

    void own_orders() {
        static const Literal unresolved{"RISK_INTENT_UNRESOLVED"}, self_trade{"RISK_SELF_TRADE"},
            repeated{"RISK_INTENT_REPEATED"}, open_orders{"RISK_OPEN_ORDERS_EXCEED_MAX"};
        const bool waits = own_ != nullptr && own_->unknown[static_cast<std::size_t>(order_.side)] > 0;
        record(unresolved, !waits, kResolved, waits ? kUnresolved : kResolved);
        if (!facts_.kind.is_conditional || facts_.kind.has_limit_price) {
            const auto best = own_ == nullptr ? std::nullopt : own_->best(opposite(order_.side));
            const MaybeExact own = best ? MaybeExact(price_of(*best)) : std::nullopt;
            const auto beyond = [&](const Exact &a, const Exact &b) {
                const int above = compare(a, b);
                return is_buy_ ? above >= 0 : above <= 0;
            };
            bool meets = own && (!price_ || beyond(*price_, *own));
            if (meets && facts_.kind.is_stop_limit && facts_.stop) meets = beyond(*own, price_of(*facts_.stop));
            record(self_trade, !meets, word(own), word(price_), kQuote);
        }
        if (!facts_.is_amendment) record_rate(repeated, limits_.repeats, fingerprints_, 1);
        if (facts_.adds_order) {
            const std::int64_t count = book_.open_orders(order_.account) + 1;
            record_limit(open_orders, compare({count, 0}, limits_.open_orders.value) <= 0, limits_.open_orders,
                         Word(count), kOrders);
        }
    }

    // The rate that is nearest to its limit, or beyond it; more is what this order adds.
    void record_rate(const Literal &code, const std::vector<RateLimit> &rates, const Windows &windows,
                     std::int64_t more) {
        const RateLimit *worst = nullptr;
        std::int64_t count = 0;
        for (const RateLimit &rate : rates) {
            std::int64_t found = 0;
            if (&windows == &fingerprints_)
                found = windows.count(facts_.fingerprint, facts_.now_ns - rate.window_ns);
            else
                for (const std::string &key : rate.keys) found += windows.count(key, facts_.now_ns - rate.window_ns);
            if (worst == nullptr || rate.limit - found < worst->limit - count) {
                worst = &rate;
                count = found;
            }
        }
        if (worst == nullptr) return;
        const std::int64_t actual = count + more;
        record(code, actual <= worst->limit || (more == 0 && reduces_), worst->text, Word(actual), worst->unit,
               worst->source);
    }

    void rates() {
        static const Literal order{"RISK_ORDER_RATE_EXCEEDED"}, amend{"RISK_AMEND_RATE_EXCEEDED"},
            cancel{"RISK_CANCEL_RATE_EXCEEDED"};
        if (facts_.is_amendment)
            record_rate(amend, limits_.amend_rates, asked_, 1);
        else
            record_rate(order, limits_.order_rates, asked_, 1);
        record_rate(cancel, limits_.cancel_rates, asked_, 0);
    }

    void exposures() {
        static const Literal position{"RISK_POSITION_EXCEEDS_MAX"}, gross{"RISK_GROSS_EXPOSURE_EXCEEDS_MAX"},
            net{"RISK_NET_EXPOSURE_EXCEEDS_MAX"}, leverage{"RISK_LEVERAGE_EXCEEDS_MAX"},
            margin{"RISK_MARGIN_INSUFFICIENT"};
        Sums before, after;
        Measured own;
        const auto more = static_cast<int128>(order_.quantity) - facts_.replaced;
        // The order's own market stands first.
        bool is_own = true;
        for (const MarketWorth &worth : facts_.worths) {
            const Market *market = is_own ? own_ : &book_.market(worth.market);
            const int128 held = market == nullptr ? 0 : market->position();
            int128 buys = market == nullptr ? 0 : market->quantity[0].value();
            int128 sells = market == nullptr ? 0 : market->quantity[1].value();
            const MaybeExact was = before.add(held, buys, sells, worth.unit);
            if (is_own) (is_buy_ ? buys : sells) = plus(is_buy_ ? buys : sells, more);
            const MaybeExact becomes = after.add(held, buys, sells, worth.unit);
            if (is_own) own = {was, becomes};
            is_own = false;
        }
        const Measured total{before.gross(), after.gross()};
        measure(position, own, limits_.position, kQuote);
        measure(gross, total, limits_.gross, kQuote);
        measure(net, {before.net(), after.net()}, limits_.net, kQuote);
        measure(leverage, {ratio(total.before), ratio(total.after)}, limits_.leverage, kTimes);
        if (!instrument_.is_derivative) return;
        const auto &[needed_before, needed_after, balance] = facts_.margin;
        if (!needed_after || !balance)
            return record(margin, false, balance ? word(balance) : Word(kNought), {}, instrument_.quote);
        const bool is_no_worse = reduces_ && needed_before && compare(*needed_after, *needed_before) <= 0;
        record(margin, compare(*needed_after, *balance) <= 0 || is_no_worse, word(balance), word(needed_after),
               instrument_.quote);
    }

    MaybeExact ratio(const MaybeExact &value) const {
        const MaybeExact &equity = facts_.equity;
        if (!value || !equity || equity->value <= 0) {
            if (value && value->value == 0 && equity) return kZero;
            return std::nullopt;
        }
        return quotient_up(*value, *equity, kRatioPlaces);
    }

    // What is beyond its limit can be brought down, and not turned into one as large on the other side.
    void measure(const Literal &code, const Measured &measured, const Limit &limit, const Literal &unit) {
        const auto &[before, after] = measured;
        const bool is_no_worse = reduces_ && after && before && compare(*after, *before) <= 0;
        record_limit(code, after && (compare(*after, limit.value) <= 0 || is_no_worse), limit, word(after), unit);
    }

    void losses() {
        static const Literal daily{"RISK_DAILY_LOSS_EXCEEDED"}, drawdown{"RISK_DRAWDOWN_EXCEEDED"};
        const MaybeExact &equity = facts_.equity;
        const auto lost = [&](const Exact &from) {
            const Exact loss = from - *equity;
            return loss.value > 0 ? loss : kZero;
        };
        MaybeExact loss, fall;
        if (equity && facts_.day_start_equity) loss = lost(*facts_.day_start_equity);
        if (equity && facts_.peak_equity && facts_.peak_equity->value > 0)
            fall = quotient_up(lost(*facts_.peak_equity) * kBpsPerUnit, *facts_.peak_equity, kBpsPlaces);
        for (const auto &[code, value, limit, unit] : {std::tuple{&daily, &loss, &limits_.daily_loss, &kQuote},
                                                       std::tuple{&drawdown, &fall, &limits_.drawdown, &kBps}})
            record_limit(*code, *value && (compare(**value, limit->value) < 0 || reduces_), *limit, word(*value),
                         *unit);
    }

    ExposureBook &book_;
    const Windows &asked_;
    const Windows &fingerprints_;
    const RiskLimits &limits_;
    const RiskInstrument &instrument_;
    const RiskFacts &facts_;
    const OrderFacts &order_;
    const bool is_buy_;
    const Market *own_;
    int128 beside_ = 0, reducible_ = 0;
    bool reduces_ = false;
    MaybeExact price_;
    Records records_;
    RiskOutcome outcome_;
};

}  // namespace

RiskOutcome evaluate(ExposureBook &book, const Windows &asked, const Windows &fingerprints, const RiskLimits &limits,
                     const RiskInstrument &instrument, const RiskFacts &facts) {
    return Evaluation(book, asked, fingerprints, limits, instrument, facts).run();
}

}  // namespace veloz
