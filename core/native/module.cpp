// core._native: the bindings. What is computed lies in the files beside, which know nothing of Python.

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "bindings.hpp"
#include "book.hpp"
#include "decoder.hpp"
#include "money.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace veloz {
namespace {

struct DepthFrame {
    nb::object symbol;
    DepthMessage message;
    std::int64_t ts_init_ns;
};

struct SnapshotFrame {
    nb::object symbol;
    SnapshotMessage message;
    std::int64_t ts_init_ns;
    bool is_complete;

    std::int64_t ts_event_ns() const { return message.ts_event_ns.value_or(ts_init_ns); }
};

// A tuple of ints, as directly as Python can: this is asked for after every message.
nb::tuple ints_of(std::initializer_list<std::int64_t> values) {
    nb::tuple result = nb::steal<nb::tuple>(PyTuple_New(static_cast<Py_ssize_t>(values.size())));
    if (!result.is_valid()) throw nb::python_error();
    Py_ssize_t at = 0;
    for (const std::int64_t value : values) {
        PyObject *number = PyLong_FromLongLong(value);
        if (number == nullptr) throw nb::python_error();
        PyTuple_SET_ITEM(result.ptr(), at++, number);
    }
    return result;
}

nb::tuple tuple_of(const Level *levels, std::size_t count) {
    nb::tuple result = nb::steal<nb::tuple>(PyTuple_New(static_cast<Py_ssize_t>(count)));
    if (!result.is_valid()) throw nb::python_error();
    for (std::size_t i = 0; i < count; ++i)
        PyTuple_SET_ITEM(result.ptr(), static_cast<Py_ssize_t>(i),
                         ints_of({levels[i].price, levels[i].quantity}).release().ptr());
    return result;
}

std::string_view view_of(const nb::bytes &bytes) { return {bytes.c_str(), bytes.size()}; }

class DepthDecoder {
public:
    void add(std::string_view symbol, int price_scale, int quantity_scale) {
        for (const int scale : {price_scale, quantity_scale})
            if (scale < 0 || scale > kMaxScale)
                throw nb::value_error(
                    (std::string(symbol) + ": a scale must be 0 to 18, not " + std::to_string(scale)).c_str());
        const Scales *held = core_.find(symbol);
        const std::size_t slot = held != nullptr ? held->slot : free_slot();
        symbols_[slot] = nb::str(symbol.data(), symbol.size());
        core_.add(symbol, {DecimalScale(price_scale), DecimalScale(quantity_scale), slot});
    }

    void remove(std::string_view symbol) {
        const Scales *held = core_.find(symbol);
        if (held == nullptr) return;
        symbols_[held->slot].reset();
        core_.remove(symbol);
    }

    std::optional<DepthFrame> decode(const nb::bytes &frame, std::int64_t ts_init_ns) {
        auto decoded = core_.decode(view_of(frame));
        if (!decoded) return std::nullopt;
        return DepthFrame{symbols_[decoded->slot], std::move(decoded->message), ts_init_ns};
    }

    SnapshotFrame decode_snapshot(const nb::bytes &body, std::string_view symbol, std::int64_t limit_levels,
                                  std::int64_t ts_init_ns) {
        const Scales *scales = core_.find(symbol);
        if (scales == nullptr)
            throw nb::value_error(("'" + std::string(symbol) + "' was not added to this decoder").c_str());
        if (limit_levels < 1) throw nb::value_error("limit_levels must be at least 1");
        SnapshotMessage message = core_.decode_snapshot(view_of(body), symbol, *scales);
        const auto limit = static_cast<std::size_t>(limit_levels);
        const bool is_complete = message.bid_count < limit && message.ask_count() < limit;
        return {symbols_[scales->slot], std::move(message), ts_init_ns, is_complete};
    }

private:
    std::size_t free_slot() {
        for (std::size_t slot = 0; slot < symbols_.size(); ++slot)
            if (!symbols_[slot].is_valid()) return slot;
        symbols_.emplace_back();
        return symbols_.size() - 1;
    }

    Decoder core_;
    std::vector<nb::object> symbols_;
};

std::int64_t int64_of(nb::handle value, const char *what, std::int64_t lowest) {
    if (!PyLong_CheckExact(value.ptr()))
        throw nb::type_error(
            (std::string(what) + " must be an int, not " + nb::type_name(value.type()).c_str()).c_str());
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    if (overflow != 0 || number < lowest)
        throw nb::value_error((std::string(what) + " must be from " + std::to_string(lowest) + " to 2^63 - 1, not " +
                               nb::repr(value).c_str())
                                  .c_str());
    return number;
}

void append_levels(nb::handle side, std::vector<Level> &levels) {
    for (nb::handle item : nb::iter(side)) {
        const bool is_tuple = PyTuple_Check(item.ptr());
        if ((!is_tuple && !PyList_Check(item.ptr())) || nb::len(item) != 2)
            throw nb::type_error(
                (std::string("a level must be (price, quantity), not ") + nb::repr(item).c_str()).c_str());
        const auto element = [&](Py_ssize_t at) {
            return is_tuple ? PyTuple_GET_ITEM(item.ptr(), at) : PyList_GET_ITEM(item.ptr(), at);
        };
        levels.push_back({int64_of(element(0), "a level's price", 1), int64_of(element(1), "a level's quantity", 0)});
    }
}

DepthLevels levels_of(nb::handle message) {
    DepthLevels levels;
    append_levels(message.attr("bids"), levels.levels);
    levels.bid_count = levels.levels.size();
    append_levels(message.attr("asks"), levels.levels);
    return levels;
}

std::int64_t update_id_of(nb::handle message) {
    return int64_of(nb::object(message.attr("last_update_id")), "last_update_id", 0);
}

nb::int_ int_of(uint128_t value) {
    const auto low = static_cast<std::uint64_t>(value), high = static_cast<std::uint64_t>(value >> 64);
    if (high == 0) return nb::int_(low);
    return nb::int_((nb::int_(high) << nb::int_(64)) | nb::int_(low));
}

uint128_t notional_of(const nb::int_ &value) {
    constexpr std::uint64_t mask = ~std::uint64_t{0};
    const nb::int_ high_part(value >> nb::int_(64));
    int overflow = 0;
    const long long high = PyLong_AsLongLongAndOverflow(high_part.ptr(), &overflow);
    if (overflow != 0 || high < 0)
        throw nb::value_error(
            (std::string("a notional must be from 0 to 2^127 - 1, not ") + nb::repr(value).c_str()).c_str());
    const auto low = nb::cast<std::uint64_t>(value & nb::int_(mask));
    return static_cast<uint128_t>(static_cast<std::uint64_t>(high)) << 64 | low;
}

std::size_t count_of(std::int64_t count) {
    if (count < 0) throw nb::value_error("a number of levels can't be negative");
    return static_cast<std::size_t>(count);
}

nb::tuple tuple_of(const Sweep &sweep) {
    return nb::make_tuple(int_of(sweep.filled), int_of(sweep.notional), sweep.worst_price, sweep.levels);
}

nb::tuple tuple_of(const BookSide &side, std::size_t count) {
    nb::tuple result = nb::steal<nb::tuple>(PyTuple_New(static_cast<Py_ssize_t>(std::min(count, side.size()))));
    if (!result.is_valid()) throw nb::python_error();
    Py_ssize_t at = 0;
    side.visit(count, [&](std::int64_t price, std::int64_t quantity) {
        PyTuple_SET_ITEM(result.ptr(), at++, ints_of({price, quantity}).release().ptr());
    });
    return result;
}

using LevelArray = nb::ndarray<nb::numpy, const std::int64_t, nb::shape<-1, 2>>;

nb::object array_of(const BookSide &side, std::size_t count) {
    const std::size_t rows = std::min(count, side.size());
    auto *values = new std::int64_t[rows * 2 + 1];
    const nb::capsule owner(values, [](void *held) noexcept { delete[] static_cast<std::int64_t *>(held); });
    std::size_t at = 0;
    side.visit(rows, [&](std::int64_t price, std::int64_t quantity) {
        values[at++] = price;
        values[at++] = quantity;
    });
    return nb::cast(LevelArray(values, {rows, 2}, owner));
}

nb::object best_of(const BookSide &side) {
    const auto level = side.best();
    if (!level) return nb::none();
    return ints_of({level->price, level->quantity});
}

class OrderBook {
public:
    explicit OrderBook(std::int64_t max_levels_per_side) : core_(count_of(max_levels_per_side)) {
        if (max_levels_per_side < 1) throw nb::value_error("max_levels_per_side must be at least 1");
    }

    void apply_snapshot(nb::handle snapshot) {
        const SnapshotFrame *frame = nullptr;
        if (nb::try_cast(snapshot, frame) && frame != nullptr) {
            core_.apply_snapshot(frame->message, frame->message.last_update_id, frame->is_complete);
            return;
        }
        const DepthLevels levels = levels_of(snapshot);
        const std::int64_t update_id = update_id_of(snapshot);
        const nb::object is_complete = snapshot.attr("is_complete");
        if (!PyBool_Check(is_complete.ptr())) throw nb::type_error("is_complete must be a bool");
        core_.apply_snapshot(levels, update_id, is_complete.ptr() == Py_True);
    }

    void apply_update(nb::handle update) {
        const DepthFrame *frame = nullptr;
        if (nb::try_cast(update, frame) && frame != nullptr) {
            core_.apply_update(frame->message, frame->message.last_update_id);
            return;
        }
        const DepthLevels levels = levels_of(update);
        core_.apply_update(levels, update_id_of(update));
    }

    const Book &core() const { return core_; }
    const BookSide &opposite(bool is_buy) const { return is_buy ? core_.asks : core_.bids; }

private:
    Book core_;
};

void bind_frames(nb::module_ &module) {
    const char *levels_text = "(price, quantity) each, in the order of the message; built anew at each call.";
    nb::class_<DepthFrame>(
        module, "DepthFrame",
        "A decoded depth message (a core.types.market.DepthUpdateLike) whose levels stay native until "
        "they are asked for.\n\nTimes are ns; ts_event_ns is the venue's E.")
        .def_prop_ro(
            "symbol", [](const DepthFrame &frame) { return frame.symbol; }, nb::sig("def symbol(self) -> str"))
        .def_prop_ro("first_update_id", [](const DepthFrame &frame) { return frame.message.first_update_id; })
        .def_prop_ro("last_update_id", [](const DepthFrame &frame) { return frame.message.last_update_id; })
        .def_prop_ro("previous_update_id", [](const DepthFrame &frame) { return frame.message.previous_update_id; })
        .def_prop_ro("ts_event_ns", [](const DepthFrame &frame) { return frame.message.ts_event_ns; })
        .def_prop_ro("ts_init_ns", [](const DepthFrame &frame) { return frame.ts_init_ns; })
        .def_prop_ro("level_count", [](const DepthFrame &frame) { return frame.message.levels.size(); })
        .def_prop_ro(
            "bids", [](const DepthFrame &frame) { return tuple_of(frame.message.bids(), frame.message.bid_count); },
            nb::sig("def bids(self) -> tuple[tuple[int, int], ...]"), levels_text)
        .def_prop_ro(
            "asks", [](const DepthFrame &frame) { return tuple_of(frame.message.asks(), frame.message.ask_count()); },
            nb::sig("def asks(self) -> tuple[tuple[int, int], ...]"), levels_text);
    nb::class_<SnapshotFrame>(
        module, "SnapshotFrame",
        "A decoded depth snapshot (a core.types.market.DepthSnapshotLike).\n\nis_complete: both "
        "sides had fewer levels than were asked for, so it is the venue's whole book. ts_event_ns "
        "is ts_init_ns where the venue states no time.")
        .def_prop_ro(
            "symbol", [](const SnapshotFrame &frame) { return frame.symbol; }, nb::sig("def symbol(self) -> str"))
        .def_prop_ro("last_update_id", [](const SnapshotFrame &frame) { return frame.message.last_update_id; })
        .def_ro("is_complete", &SnapshotFrame::is_complete)
        .def_prop_ro("ts_event_ns", &SnapshotFrame::ts_event_ns)
        .def_prop_ro("ts_init_ns", [](const SnapshotFrame &frame) { return frame.ts_init_ns; })
        .def_prop_ro("level_count", [](const SnapshotFrame &frame) { return frame.message.levels.size(); })
        .def_prop_ro(
            "bids", [](const SnapshotFrame &frame) { return tuple_of(frame.message.bids(), frame.message.bid_count); },
            nb::sig("def bids(self) -> tuple[tuple[int, int], ...]"), levels_text)
        .def_prop_ro(
            "asks",
            [](const SnapshotFrame &frame) { return tuple_of(frame.message.asks(), frame.message.ask_count()); },
            nb::sig("def asks(self) -> tuple[tuple[int, int], ...]"), levels_text);
}

void bind_decoder(nb::module_ &module) {
    nb::class_<DepthDecoder>(
        module, "DepthDecoder",
        "Binance depth messages of the symbols that were added, from bytes to levels: spot, USD-M and "
        "COIN-M.\n\nA price with more places than its scale is an error; what a quantity has below its "
        "scale is cut off.")
        .def(nb::init<>())
        .def("add", &DepthDecoder::add, "symbol"_a, "price_scale"_a, "quantity_scale"_a,
             "Know a symbol, or change its scales. Raises ValueError for a scale that isn't 0 to 18.")
        .def("remove", &DepthDecoder::remove, "symbol"_a, "Forget a symbol; one that isn't known is no error.")
        .def("decode", &DepthDecoder::decode, "frame"_a, "ts_init_ns"_a,
             "A depthUpdate message, raw or in a combined stream's envelope; None when its symbol wasn't added.\n\n"
             "Raises FrameError for anything else.")
        .def("decode_snapshot", &DepthDecoder::decode_snapshot, "body"_a, "symbol"_a, "limit_levels"_a, "ts_init_ns"_a,
             "The body of a REST depth answer to a request for limit_levels levels a side.\n\n"
             "Raises FrameError for other bytes and for a body that names another symbol, ValueError for a symbol that "
             "wasn't added.");
}

void bind_book(nb::module_ &module) {
    nb::class_<OrderBook>(module, "OrderBook",
                          "The book of one instrument, equal in behaviour to core.market.book.OrderBook.\n\n"
                          "Beyond bid_floor and ask_ceiling nothing is known: updates there are ignored.")
        .def(nb::init<std::int64_t>(), "max_levels_per_side"_a = kMaxLevelsPerSide)
        .def_prop_ro(
            "last_update_id", [](const OrderBook &book) { return book.core().last_update_id; },
            "The last update id that the book includes (0: nothing yet).")
        .def_prop_ro(
            "bid_floor", [](const OrderBook &book) { return book.core().bids.known_to(); },
            "The lowest price whose bids are known; None when all are.")
        .def_prop_ro(
            "ask_ceiling", [](const OrderBook &book) { return book.core().asks.known_to(); },
            "The highest price whose asks are known; None when all are.")
        .def(
            "apply_snapshot", &OrderBook::apply_snapshot, "snapshot"_a,
            nb::sig("def apply_snapshot(self, snapshot: core.types.market.DepthSnapshotLike) -> None"),
            "Hold these levels and no others. Raises TypeError or ValueError for levels that are none, before anything "
            "changes.")
        .def("apply_update", &OrderBook::apply_update, "update"_a,
             nb::sig("def apply_update(self, update: core.types.market.DepthUpdateLike) -> None"),
             "Set the quantities of these levels; zero removes. Raises TypeError or ValueError for levels that are "
             "none, "
             "before anything changes.")
        .def(
            "best",
            [](const OrderBook &book) -> nb::object {
                const auto bid = book.core().bids.best(), ask = book.core().asks.best();
                if (!bid || !ask) return nb::none();
                return ints_of({bid->price, bid->quantity, ask->price, ask->quantity});
            },
            nb::sig("def best(self) -> tuple[int, int, int, int] | None"),
            "(bid price, bid quantity, ask price, ask quantity); None while either side is empty.")
        .def(
            "best_bid", [](const OrderBook &book) { return best_of(book.core().bids); },
            nb::sig("def best_bid(self) -> tuple[int, int] | None"), "(price, quantity)")
        .def(
            "best_ask", [](const OrderBook &book) { return best_of(book.core().asks); },
            nb::sig("def best_ask(self) -> tuple[int, int] | None"), "(price, quantity)")
        .def(
            "top",
            [](const OrderBook &book, std::int64_t count) {
                return nb::make_tuple(tuple_of(book.core().bids, count_of(count)),
                                      tuple_of(book.core().asks, count_of(count)));
            },
            "count"_a,
            nb::sig("def top(self, count: int) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]"),
            "Bids and asks as (price, quantity), best first, at most count each.")
        .def(
            "top_arrays",
            [](const OrderBook &book, std::int64_t count) {
                return nb::make_tuple(array_of(book.core().bids, count_of(count)),
                                      array_of(book.core().asks, count_of(count)));
            },
            "count"_a,
            nb::sig("def top_arrays(self, count: int) -> tuple[numpy.typing.NDArray[numpy.int64], "
                    "numpy.typing.NDArray[numpy.int64]]"),
            "Bids and asks as read-only (n, 2) arrays of price and quantity, best first, at most count each.\n\n"
            "They view native memory of this moment: a later update doesn't change them.")
        .def(
            "level_counts",
            [](const OrderBook &book) { return nb::make_tuple(book.core().bids.size(), book.core().asks.size()); },
            nb::sig("def level_counts(self) -> tuple[int, int]"), "(bids, asks)")
        .def(
            "is_crossed", [](const OrderBook &book) { return book.core().is_crossed(); },
            "True when the best bid is at or above the best ask: no venue's book is, so messages were lost.")
        .def(
            "sweep",
            [](const OrderBook &book, bool is_buy, const nb::int_ &quantity) {
                return tuple_of(book.opposite(is_buy).sweep(int64_of(quantity, "a quantity", 0)));
            },
            "is_buy"_a, "quantity"_a,
            nb::sig("def sweep(self, is_buy: bool, quantity: int) -> tuple[int, int, int | None, int]"),
            "(filled, notional, worst price, levels) of taking quantity from the other side, best first.\n\n"
            "filled below quantity means that the book ran out; the worst price is None when nothing was filled. "
            "Raises "
            "ValueError for a negative quantity.")
        .def(
            "sweep_notional",
            [](const OrderBook &book, bool is_buy, const nb::int_ &notional) {
                return tuple_of(book.opposite(is_buy).sweep_notional(notional_of(notional)));
            },
            "is_buy"_a, "notional"_a,
            nb::sig("def sweep_notional(self, is_buy: bool, notional: int) -> tuple[int, int, int | None, int]"),
            "As sweep, for the largest quantity whose notional is at most `notional` (price x quantity, at the sum of "
            "their "
            "scales).\n\nRaises ValueError for a negative notional.")
        .def(
            "imbalance",
            [](const OrderBook &book, std::int64_t levels) {
                return nb::make_tuple(int_of(book.core().bids.quantity_of(count_of(levels))),
                                      int_of(book.core().asks.quantity_of(count_of(levels))));
            },
            "levels"_a, nb::sig("def imbalance(self, levels: int) -> tuple[int, int]"),
            "(bid quantity, ask quantity) of the best `levels` a side.")
        .def(
            "microprice",
            [](const OrderBook &book) -> nb::object {
                const auto bid = book.core().bids.best(), ask = book.core().asks.best();
                if (!bid || !ask) return nb::none();
                const auto product = [](std::int64_t price, std::int64_t quantity) {
                    return static_cast<uint128_t>(price) * static_cast<uint128_t>(quantity);
                };
                return nb::make_tuple(
                    int_of(product(bid->price, ask->quantity) + product(ask->price, bid->quantity)),
                    int_of(static_cast<uint128_t>(bid->quantity) + static_cast<uint128_t>(ask->quantity)));
            },
            nb::sig("def microprice(self) -> tuple[int, int] | None"),
            "Best bid and offer, each weighted with the other's quantity, as (numerator, denominator) at the price's "
            "scale.\n\nExact; None while either side is empty.")
        .def(
            "canonical_bytes",
            [](const OrderBook &book) {
                const std::string bytes = book.core().canonical_bytes();
                return nb::bytes(bytes.data(), bytes.size());
            },
            "The last update id and every level; the format stands in core.market.book.")
        .def(
            "digest",
            [](const OrderBook &book) {
                const std::string bytes = book.core().canonical_bytes();
                const nb::object sha256 = nb::module_::import_("hashlib").attr("sha256");
                return nb::str(sha256(nb::bytes(bytes.data(), bytes.size())).attr("hexdigest")());
            },
            "Hex SHA-256 of canonical_bytes: equal books have equal digests.");
}

}  // namespace
}  // namespace veloz

NB_MODULE(_native, module) {
    module.doc() = "VeloZ's native core.";
    // What lives until the process ends is no leak.
    nb::set_leak_warnings(false);
    module.attr("MAX_FRAME_BYTES") = veloz::kMaxFrameBytes;
    module.attr("MAX_FRAME_LEVELS") = veloz::kMaxFrameLevels;
    module.attr("MAX_LEVELS_PER_SIDE") = veloz::kMaxLevelsPerSide;
    nb::exception<veloz::FrameError>(module, "FrameError", PyExc_ValueError).doc() =
        "Bytes that aren't the message they should be: what is wrong, and at which byte.";
    module.def("parse_scaled", &veloz::parse_scaled, "text"_a, "scale"_a,
               "Decimal text to an int at `scale` decimal places, exactly.\n\n"
               "Raises ValueError for text that isn't a plain decimal, has more places than the scale, or needs more "
               "than 63 bits.");
    veloz::bind_frames(module);
    veloz::bind_decoder(module);
    veloz::bind_book(module);
    veloz::bind_disk(module);
    veloz::bind_journal(module);
    veloz::bind_risk(module);
    veloz::bind_plain(module);
    veloz::bind_wire(module);
    veloz::bind_text(module);
    veloz::bind_cells(module);
}
