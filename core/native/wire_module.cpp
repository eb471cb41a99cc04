// core._native: the bindings of order entry on the wire.

#include <utility>

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings.hpp"
#include "journal.hpp"
#include "wire.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace veloz {
namespace {

constexpr int kMaxScale = 18;

// The text of a str, or of a member of a StrEnum; empty for anything else. It lives as long as the object.
std::string_view text_of(nb::handle value) {
    if (!PyUnicode_Check(value.ptr())) return {};
    Py_ssize_t size = 0;
    const char *text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
    if (text == nullptr) {
        PyErr_Clear();
        return {};
    }
    return {text, static_cast<std::size_t>(size)};
}

// A whole number that isn't negative, or -1.
std::int64_t number_of(nb::handle value) {
    if (!PyLong_CheckExact(value.ptr())) return -1;
    int overflow = 0;
    const long long found = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    return overflow != 0 || found < 0 ? -1 : found;
}

class OrderRequests {
public:
    OrderRequests(std::string method, std::string api_key, std::int64_t recv_window_ms)
        : method_(std::move(method)), api_key_(std::move(api_key)), recv_window_ms_(recv_window_ms) {
        if (recv_window_ms_ < 0) throw nb::value_error("recv_window_ms is negative");
    }

    nb::dict frames(nb::list intents, std::uint64_t first_id, std::int64_t timestamp_ms, nb::object sign) {
        nb::dict made;
        for (std::size_t i = 0; i < intents.size(); ++i) {
            const std::uint64_t id = first_id + i;
            const nb::object intent = intents[i];
            const nb::object one = frame(intent, id, {method_, api_key_, recv_window_ms_, timestamp_ms}, sign);
            if (one.is_none()) continue;
            const std::string id_text = std::to_string(id);
            made[intent.attr("client_order_id")] = nb::make_tuple(nb::str(id_text.data(), id_text.size()), one);
        }
        return made;
    }

private:
    nb::object frame(nb::object intent, std::uint64_t id, const RequestTerms &terms, const nb::object &sign) {
        // The objects are the intent's own: frozen, and held by it.
        LimitOrder order;
        order.symbol = text_of(intent.attr("symbol"));
        order.side = text_of(intent.attr("side"));
        order.time_in_force = text_of(intent.attr("time_in_force"));
        order.client_order_id = text_of(intent.attr("client_order_id"));
        order.quantity = number_of(intent.attr("quantity"));
        order.price = number_of(intent.attr("price"));
        const std::int64_t quantity_scale = number_of(intent.attr("quantity_scale"));
        const std::int64_t price_scale = number_of(intent.attr("price_scale"));
        const std::string_view type = text_of(intent.attr("order_type"));
        const bool is_plain = type == "LIMIT" && is_plain_tif(order.time_in_force) && order.quantity >= 0 &&
                              order.price >= 0 && quantity_scale >= 0 && quantity_scale <= kMaxScale &&
                              price_scale >= 0 && price_scale <= kMaxScale && is_false(intent.attr("post_only")) &&
                              is_false(intent.attr("reduce_only")) && is_plain_word(terms.method) &&
                              is_plain_word(terms.api_key) && is_plain_word(order.symbol) &&
                              is_plain_word(order.side) && is_plain_word(order.client_order_id);
        if (!is_plain) return nb::none();
        order.quantity_scale = static_cast<int>(quantity_scale);
        order.price_scale = static_cast<int>(price_scale);
        text_.clear();
        nb::object signature;
        std::string_view signed_text;
        if (!sign.is_none()) {
            append_signed_payload(text_, terms, order);
            if (nb::isinstance<HmacSha256>(sign)) {
                const Sha256::Digest digest = nb::cast<const HmacSha256 &>(sign).sign(text_);
                hex_.clear();
                append_hex(hex_, digest, digest.size());
                signed_text = hex_;
            } else {
                signature = sign(nb::str(text_.data(), text_.size()));
                signed_text = text_of(signature);
                if (signed_text.empty()) throw nb::type_error("a signature is a text");
            }
            text_.clear();
        }
        append_request(text_, id, terms, order, signed_text);
        frame_.clear();
        append_frame(frame_, text_, masks_.next());
        return nb::bytes(frame_.data(), frame_.size());
    }

    static bool is_plain_tif(std::string_view text) { return text == "GTC" || text == "IOC" || text == "FOK"; }
    static bool is_false(const nb::object &value) { return value.ptr() == Py_False; }

    const std::string method_, api_key_;
    const std::int64_t recv_window_ms_;
    std::string text_, frame_, hex_;
    Masks masks_;
};

class Answers {
public:
    nb::tuple feed(nb::bytes data) {
        found_.clear();
        rest_.clear();
        stream_.feed({data.c_str(), data.size()}, found_, rest_);
        nb::list taken;
        for (const Acknowledgement &found : found_)
            taken.append(nb::make_tuple(text(found.id), found.order_id, text(found.symbol), text(found.client_order_id),
                                        counts_of(found)));
        return nb::make_tuple(taken, nb::bytes(rest_.data(), rest_.size()));
    }

private:
    static nb::str text(const std::string &value) { return nb::str(value.data(), value.size()); }

    static nb::dict counts_of(const Acknowledgement &found) {
        nb::dict counts;
        for (const RateCount &item : found.counts)
            if (item.count < kCountBeyondBelief) counts[nb::make_tuple(text(item.kind), item.window_s)] = item.count;
        return counts;
    }

    AnswerStream stream_;
    std::vector<Acknowledgement> found_;
    std::string rest_;
};

}  // namespace

void bind_wire(nb::module_ &module) {
    nb::class_<OrderRequests>(module, "OrderRequests", "Plain limit orders as signed, masked frames of one connection.")
        .def(nb::init<std::string, std::string, std::int64_t>(), "method"_a, "api_key"_a, "recv_window_ms"_a)
        .def("frames", &OrderRequests::frames, "intents"_a, "first_id"_a, "timestamp_ms"_a, "sign"_a.none(),
             nb::sig("def frames(self, intents: list[core.types.orders.OrderIntent], first_id: int, timestamp_ms: int, "
                     "sign: HmacSha256 | collections.abc.Callable[[str], str] | None) -> dict[str, tuple[str, bytes]]"),
             "Request id and frame of each by its clientOrderId, without those that aren't plain; the ids follow each\n"
             "other in the order of the intents, those left out have theirs as well. sign makes the\n"
             "signature of a payload; it is None where the connection has a session. Raises what sign raises.");
    nb::class_<Answers>(module, "Answers", "The acknowledgements among what comes on one connection.")
        .def(nb::init<>())
        .def(
            "feed", &Answers::feed, "data"_a,
            nb::sig("def feed(self, data: bytes) -> tuple[list[tuple[str, int, str, str, dict[tuple[str, int], int]]], "
                    "bytes]"),
            "Those that are whole by now, each as (request id, order id, symbol, clientOrderId, the venue's counts by\n"
            "kind and window in seconds); and the bytes of all else, in whole frames, for who knows the protocol.");
}

}  // namespace veloz
