// Python's values as the native side reads them: attributes by interned names, whole numbers, decimals as text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <nanobind/nanobind.h>
#include <structmember.h>

#include "exact.hpp"

namespace veloz {

namespace nb = nanobind;

// The name of an attribute, interned once. Where the attribute is a slot of the owner's type, as the fields of structs
// are, the slot is read directly: an order asks for some sixty of them.
class Name {
public:
    explicit Name(const char *text) : object_(PyUnicode_InternFromString(text)) {}
    Name(const Name &) = delete;
    Name &operator=(const Name &) = delete;

    nb::object of(nb::handle owner) const {
        PyTypeObject *const type = Py_TYPE(owner.ptr());
        for (const Slot &slot : slots_) {
            if (slot.type != type) continue;
            PyObject *const held = *reinterpret_cast<PyObject **>(reinterpret_cast<char *>(owner.ptr()) + slot.offset);
            // One that was never set is told of as Python does.
            if (held != nullptr) return nb::borrow(held);
            break;
        }
        PyObject *found = PyObject_GetAttr(owner.ptr(), object_);
        if (found == nullptr) throw nb::python_error();
        learn(type);
        return nb::steal(found);
    }

private:
    // A type that is known here lives as long as the process, so that no other can take its place.
    struct Slot {
        PyTypeObject *type = nullptr;
        Py_ssize_t offset = 0;
    };

    static constexpr std::size_t kTypesKnown = 4;

    void learn(PyTypeObject *type) const {
        if (known_ == kTypesKnown || type->tp_getattro != PyObject_GenericGetAttr) return;
        PyObject *const descriptor = _PyType_Lookup(type, object_);
        if (descriptor == nullptr || !Py_IS_TYPE(descriptor, &PyMemberDescr_Type)) return;
        const PyMemberDef *const member = reinterpret_cast<PyMemberDescrObject *>(descriptor)->d_member;
        if (member->type != T_OBJECT_EX) return;
        Py_INCREF(reinterpret_cast<PyObject *>(type));
        slots_[known_++] = {type, member->offset};
    }

    PyObject *object_;  // for the life of the process
    mutable std::array<Slot, kTypesKnown> slots_{};
    mutable std::size_t known_ = 0;
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
        depth_quantity{"depth_quantity"}, visible_quantity{"visible_quantity"}, market{"market"}, marks{"marks"},
        rates{"rates"}, balances{"balances"}, total{"total"}, as_of_ns{"as_of_ns"}, equity{"equity"},
        day_start_equity{"day_start_equity"}, peak_equity{"peak_equity"}, base_asset{"base_asset"},
        quote_asset{"quote_asset"}, tick_size{"tick_size"}, lot_size{"lot_size"}, min_quantity{"min_quantity"},
        max_quantity{"max_quantity"}, min_notional{"min_notional"}, product{"product"}, get{"get"}, moment{"moment"},
        request_id{"request_id"}, trailing_offset_bps{"trailing_offset_bps"}, expires_ns{"expires_ns"},
        post_only{"post_only"}, mandate{"mandate"}, digest_hex{"digest_hex"}, installed_ns{"installed_ns"},
        orders_used{"orders_used"}, notional_used_quote{"notional_used_quote"}, revoked{"revoked"},
        signatures{"signatures"}, symbols{"symbols"}, expires_at_ns{"expires_at_ns"},
        max_order_notional_quote{"max_order_notional_quote"},
        max_position_notional_quote{"max_position_notional_quote"},
        max_total_notional_quote{"max_total_notional_quote"}, max_open_orders{"max_open_orders"},
        client_order_id{"client_order_id"}, ts_ns{"ts_ns"}, trace_id{"trace_id"}, is_held{"is_held"},
        group_id{"group_id"}, role{"role"}, parent_id{"parent_id"}, replaces{"replaces"},
        venue_order_id{"venue_order_id"}, pending_amend{"pending_amend"};
};

inline const Names &names() {
    static const Names held;
    return held;
}

// The text of a str, which lives as long as its owner does.
inline std::string_view text_in(nb::handle value) {
    Py_ssize_t size = 0;
    const char *text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
    if (text == nullptr) throw nb::python_error();
    return {text, static_cast<std::size_t>(size)};
}

inline std::string_view text_of(const Name &name, nb::handle owner) { return text_in(name.of(owner)); }

inline std::optional<std::string_view> maybe_text(const Name &name, nb::handle owner) {
    const nb::object value = name.of(owner);
    if (value.is_none()) return std::nullopt;
    return text_in(value);
}

inline std::int64_t int64_in(nb::handle value) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    if (number == -1 && PyErr_Occurred()) throw nb::python_error();
    if (overflow != 0) throw Inexact{};
    return number;
}

inline std::int64_t int64_of(const Name &name, nb::handle owner) { return int64_in(name.of(owner)); }

inline std::optional<std::int64_t> maybe_int64(const Name &name, nb::handle owner) {
    const nb::object value = name.of(owner);
    if (value.is_none()) return std::nullopt;
    return int64_in(value);
}

inline bool is_true(const Name &name, nb::handle owner) { return name.of(owner).is(nb::handle(Py_True)); }

// A Decimal, an int or decimal text; None is nothing.
inline MaybeExact maybe_exact(nb::handle value) {
    if (value.is_none()) return std::nullopt;
    if (PyUnicode_Check(value.ptr())) return exact_of(text_in(value));
    const nb::object text = nb::steal(PyObject_Str(value.ptr()));
    if (!text.is_valid()) throw nb::python_error();
    return exact_of(text_in(text));
}

inline nb::object int_from(int128 value) {
    if (value >= INT64_MIN && value <= INT64_MAX) return nb::int_(static_cast<std::int64_t>(value));
    return nb::steal(PyLong_FromString(veloz::text_of(Exact{value, 0}).c_str(), nullptr, 10));
}

}  // namespace veloz
