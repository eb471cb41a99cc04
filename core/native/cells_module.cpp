// core._native: a tool's output as cells of text. pydantic's own serialisation is the oracle, tools.cells its caller.

#include <string_view>

#include <nanobind/nanobind.h>

#include "bindings.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace veloz {
namespace {

// What isn't one of those that tools.cells looked at gives up, and the value as a whole is for pydantic.
class CellWriter {
public:
    CellWriter(nb::handle shapes, nb::handle decimal, nb::handle decimal_text)
        : shapes_(shapes), decimal_(decimal), decimal_text_(decimal_text),
          fields_of_instance_(nb::steal(PyUnicode_InternFromString("__dict__"))) {}

    // Null when it gives up.
    nb::object visit(nb::handle value, int left) {
        PyObject *given = value.ptr();
        if (given == Py_None || PyBool_Check(given) || PyUnicode_CheckExact(given)) return nb::borrow(value);
        if (PyLong_CheckExact(given)) return text_of(value);
        if (value.type().is(decimal_)) return decimal(value);
        if (left <= 0) return give_up();
        if (PyList_CheckExact(given)) return list(value, left);
        if (PyDict_CheckExact(given)) return dict(value, left);
        return model(value, left);
    }

private:
    static nb::object give_up() { return nb::object(); }

    static nb::object text_of(nb::handle value) {
        PyObject *text = PyObject_Str(value.ptr());
        if (text == nullptr) throw nb::python_error();
        return nb::steal(text);
    }

    // As core.types.money.decimal_text.
    nb::object decimal(nb::handle value) const {
        nb::object text = text_of(value);
        if (!PyUnicode_IS_COMPACT_ASCII(text.ptr())) return decimal_text_(value);
        const std::string_view written(reinterpret_cast<const char *>(PyUnicode_1BYTE_DATA(text.ptr())),
                                       static_cast<std::size_t>(PyUnicode_GET_LENGTH(text.ptr())));
        if (written.find('E') != std::string_view::npos || written == "-0") return decimal_text_(value);
        if (written.find('.') == std::string_view::npos) return text;
        std::string_view kept = written.substr(0, written.find_last_not_of('0') + 1);
        if (kept.ends_with('.')) kept.remove_suffix(1);
        if (kept == "-0") kept = "0";
        if (kept.size() == written.size()) return text;
        PyObject *made = PyUnicode_FromStringAndSize(kept.data(), static_cast<Py_ssize_t>(kept.size()));
        if (made == nullptr) throw nb::python_error();
        return nb::steal(made);
    }

    nb::object list(nb::handle value, int left) {
        const Py_ssize_t count = PyList_GET_SIZE(value.ptr());
        nb::object out = nb::steal(PyList_New(count));
        if (!out.is_valid()) throw nb::python_error();
        for (Py_ssize_t at = 0; at < count; ++at) {
            if (at >= PyList_GET_SIZE(value.ptr())) return give_up();  // made shorter meanwhile
            nb::object cell = visit(nb::borrow(PyList_GET_ITEM(value.ptr(), at)), left - 1);
            if (!cell.is_valid()) return give_up();
            PyList_SET_ITEM(out.ptr(), at, cell.release().ptr());
        }
        return out;
    }

    nb::object dict(nb::handle value, int left) {
        nb::object out = new_dict();
        PyObject *next_name = nullptr, *next_item = nullptr;
        for (Py_ssize_t at = 0; PyDict_Next(value.ptr(), &at, &next_name, &next_item);) {
            if (!PyUnicode_CheckExact(next_name)) return give_up();
            const nb::object name = nb::borrow(next_name);
            if (!put(out, name, nb::borrow(next_item), left)) return give_up();
        }
        return out;
    }

    nb::object model(nb::handle value, int left) {
        PyObject *shape = PyDict_GetItemWithError(shapes_.ptr(), value.type().ptr());
        if (shape == nullptr) {
            if (PyErr_Occurred()) throw nb::python_error();
            return give_up();
        }
        const nb::handle fields = PyTuple_GET_ITEM(shape, 0), computed = PyTuple_GET_ITEM(shape, 1);
        const nb::object held = nb::getattr(value, fields_of_instance_);
        if (!PyDict_CheckExact(held.ptr()) || PyDict_GET_SIZE(held.ptr()) != PyTuple_GET_SIZE(fields.ptr()))
            return give_up();
        nb::object out = new_dict();
        for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(fields.ptr()); ++at) {
            const nb::handle name = PyTuple_GET_ITEM(fields.ptr(), at);
            PyObject *item = PyDict_GetItemWithError(held.ptr(), name.ptr());
            if (item == nullptr && PyErr_Occurred()) throw nb::python_error();
            if (item == nullptr || !put(out, name, nb::borrow(item), left)) return give_up();
        }
        for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(computed.ptr()); ++at) {
            const nb::handle name = PyTuple_GET_ITEM(computed.ptr(), at);
            if (!put(out, name, nb::getattr(value, name), left)) return give_up();
        }
        return out;
    }

    bool put(nb::handle out, nb::handle name, const nb::object &item, int left) {
        const nb::object cell = visit(item, left - 1);
        if (!cell.is_valid()) return false;
        if (PyDict_SetItem(out.ptr(), name.ptr(), cell.ptr()) != 0) throw nb::python_error();
        return true;
    }

    static nb::object new_dict() {
        nb::object made = nb::steal(PyDict_New());
        if (!made.is_valid()) throw nb::python_error();
        return made;
    }

    nb::handle shapes_, decimal_, decimal_text_;
    nb::object fields_of_instance_;
};

nb::object cells(nb::handle value, const nb::dict &shapes, nb::handle decimal, nb::handle decimal_text,
                 int depth_limit) {
    nb::object out = CellWriter(shapes, decimal, decimal_text).visit(value, depth_limit);
    return out.is_valid() ? out : nb::borrow(Py_NotImplemented);
}

}  // namespace

void bind_cells(nb::module_ &module) {
    module.def("cells", &cells, "value"_a.none(), "shapes"_a, "decimal"_a, "decimal_text"_a, "depth_limit"_a,
               nb::sig("def cells(value: object, shapes: dict[type, tuple[tuple[str, ...], tuple[str, ...]]], "
                       "decimal: object, decimal_text: object, depth_limit: int) -> typing.Any"),
               "See tools.cells. shapes tells of each model the names of its fields and of what it computes; "
               "NotImplemented where the value holds anything else.");
}

}  // namespace veloz
