// Random orders through the books of exposure and through the checks: sums restored by undoing, equal to a plain
// recount, and nothing undefined at the largest values.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "../risk.hpp"
#include "model.hpp"

namespace veloz::fuzz {
namespace {

using Chance = std::mt19937_64;

constexpr std::int64_t kLargest = INT64_MAX;

std::size_t one_of(Chance &chance, std::size_t count) { return chance() % count; }

std::int64_t amount(Chance &chance) {
    const std::int64_t amounts[] = {1, 7, 1'000, kLargest / 3, kLargest};
    return amounts[one_of(chance, 5)];
}

OrderFacts random_order(Chance &chance) {
    static const std::string_view accounts[] = {"a", "b"}, symbols[] = {"BTCUSDT", "ETHUSDT"}, names[] = {"", "grid"},
                                  worths[] = {"1.5", "1E+3", "99999999999999999999999999999999999999999"};
    OrderFacts order;
    order.account = accounts[one_of(chance, 2)];
    order.venue = "paper";
    order.symbol = symbols[one_of(chance, 2)];
    order.strategy = order.mandate = names[one_of(chance, 2)];
    order.notional = worths[one_of(chance, 20) == 0 ? 2 : one_of(chance, 2)];
    order.side = one_of(chance, 2) == 0 ? Side::kBuy : Side::kSell;
    order.quantity = amount(chance);
    order.filled = one_of(chance, 2) == 0 ? 0 : order.quantity / 2;
    if (one_of(chance, 4) != 0) order.price = amount(chance);
    order.price_scale = 2;
    order.quantity_scale = 5;
    order.is_final = one_of(chance, 3) == 0;
    order.is_held = !order.is_final && one_of(chance, 5) == 0;
    order.is_rejected = order.is_final && one_of(chance, 3) == 0;
    order.is_unknown = !order.is_final && !order.is_held && one_of(chance, 4) == 0;
    order.is_unanswered = order.is_unknown;
    order.updated_ns = static_cast<std::int64_t>(one_of(chance, 20));
    return order;
}

void check_all(Chance &chance, ExposureBook &book, const OrderFacts &order) {
    static const Windows asked(100, 100), prints(100, 100);
    static const RiskLimits limits;
    RiskInstrument instrument;
    instrument.tick = instrument.lot = 1;
    instrument.price_scale = 2;
    instrument.quantity_scale = 5;
    instrument.base.text = "BTC";
    instrument.quote.text = "USDT";
    RiskFacts facts;
    facts.order = order;
    facts.kind = {order.price.has_value(), false, !order.price, order.price.has_value(), false};
    facts.kill_switch = "NORMAL";
    facts.book_state = "LIVE";
    facts.bid = facts.ask = facts.mid = "60000.5";
    facts.knows_balances = true;
    facts.balances_as_of_ns = static_cast<std::int64_t>(one_of(chance, 20));
    facts.equity = facts.peak_equity = facts.day_start_equity = Exact{amount(chance), 2};
    facts.quote_rate = Exact{1, 0};
    facts.worths.push_back({0, Exact{amount(chance), 7}});
    try {
        const RiskOutcome outcome = evaluate(book, asked, prints, limits, instrument, facts);
        require(outcome.checks != 0, "no check was made");
    } catch (const Inexact &) {
        // Python decides.
    }
}

}  // namespace

void trade(Chance &chance, std::size_t operations) {
    ExposureBook book;
    book.set_instrument("paper", "BTCUSDT", {"BTC", "USDT", 7});
    book.set_instrument("paper", "ETHUSDT", {"ETH", "USDT", 7});
    std::vector<OrderFacts> orders;
    for (std::size_t i = 0; i < operations; ++i) {
        if (!orders.empty() && one_of(chance, 3) == 0) {
            std::swap(orders[one_of(chance, orders.size())], orders.back());
            book.add(orders.back(), -1);
            orders.pop_back();
        } else {
            orders.push_back(random_order(chance));
            book.add(orders.back(), 1);
        }
        check_all(chance, book, random_order(chance));
        std::int64_t open = 0;
        for (const OrderFacts &order : orders) open += order.account == "a" && order.counts() ? 1 : 0;
        require(book.open_orders("a") == open, "open orders differ from a recount");
    }
    for (const OrderFacts &order : orders) book.add(order, -1);
    for (const char *asset : {"BTC", "ETH", "USDT"})
        require(book.reserved(asset, static_cast<std::int64_t>(one_of(chance, 20))).value == 0,
                "something stays reserved when all is undone");
    for (const char *account : {"a", "b"})
        for (const std::size_t at : book.markets_of(account))
            require(book.market(at).is_flat(), "something still rests");
}

}  // namespace veloz::fuzz
