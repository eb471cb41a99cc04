// core._native: walks over JSON-like values. core.text.canonical and core.text.redaction are the oracles.

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>

#include "bindings.hpp"
#include "forms.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace veloz {
namespace {

// What is known of a key; core.text.redaction has the same numbers.
constexpr long kIdentifierKey = 1, kFieldKey = 2, kRenamedKey = 4;

// The characters of an ASCII str. A str of another kind has none.
bool ascii_of(PyObject *text, std::string_view &characters) {
    if (!PyUnicode_IS_COMPACT_ASCII(text)) return false;
    characters = {reinterpret_cast<const char *>(PyUnicode_1BYTE_DATA(text)),
                  static_cast<std::size_t>(PyUnicode_GET_LENGTH(text))};
    return true;
}

bool is_text_only(PyObject *value, int left) {
    if (PyUnicode_CheckExact(value) || value == Py_None || PyBool_Check(value)) return true;
    if (left <= 0) return false;
    if (PyDict_CheckExact(value)) {
        PyObject *name = nullptr, *item = nullptr;
        for (Py_ssize_t at = 0; PyDict_Next(value, &at, &name, &item);)
            if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_ASCII(name) || !is_text_only(item, left - 1)) return false;
        return true;
    }
    if (!PyList_CheckExact(value) && !PyTuple_CheckExact(value)) return false;
    PyObject *const *items = PySequence_Fast_ITEMS(value);
    const Py_ssize_t count = PySequence_Fast_GET_SIZE(value);
    for (Py_ssize_t at = 0; at < count; ++at)
        if (!is_text_only(items[at], left - 1)) return false;
    return true;
}

// A text that is clean for all detectors is so where some are off: whoever asks for identifiers asks for both sets.
bool is_known(nb::handle known, PyObject *text) {
    const int found = PySet_Contains(known.ptr(), text);
    if (found < 0) throw nb::python_error();
    return found > 0;
}

// One pass over one value. What isn't known to stay as it is goes to the walk of core.text.redaction; a value that
// holds something else than dicts, lists, tuples, text, ints, floats, bools and None goes there as a whole.
class Walk {
public:
    Walk(nb::handle traits, nb::handle clean, nb::handle clean_identifiers, nb::handle slow, int depth_limit,
         Py_ssize_t nodes_limit)
        : traits_(traits), clean_(clean), clean_identifiers_(clean_identifiers), slow_(slow), depth_limit_(depth_limit),
          nodes_left_(nodes_limit) {}

    // Null when the value as a whole is for the other walk.
    nb::object visit(nb::handle value, nb::handle key, long traits, int depth) {
        if (depth > depth_limit_ || nodes_left_-- <= 0) return give_up();
        PyObject *given = value.ptr();
        if (given == Py_None || PyBool_Check(given)) return nb::borrow(value);
        if (traits & kFieldKey) return slow_.attr("visit")(value, path(), key, depth);
        if (PyUnicode_CheckExact(given)) return text(value, key, traits);
        if (PyLong_CheckExact(given) || PyFloat_CheckExact(given)) return nb::borrow(value);
        if (PyDict_CheckExact(given)) return dict(value, depth);
        if (PyList_CheckExact(given)) return items<true>(value, key, traits, depth);
        if (PyTuple_CheckExact(given)) return items<false>(value, key, traits, depth);
        return give_up();
    }

private:
    struct Step {
        nb::handle name;  // none: an index
        Py_ssize_t index;
    };

    static nb::object give_up() { return nb::object(); }

    nb::object text(nb::handle value, nb::handle key, long traits) {
        std::string_view characters;
        const bool is_ascii = ascii_of(value.ptr(), characters);
        const Kinds kinds = is_ascii ? kinds_of(characters) : Kinds{0};
        if (is_ascii && is_harmless(characters, kinds)) return nb::borrow(value);
        const bool as_identifier = is_ascii && (traits & kIdentifierKey) != 0 && is_identifier(characters, kinds);
        if (as_identifier && is_own_identifier(characters, kinds)) return nb::borrow(value);
        if (is_known(clean_, value.ptr()) || (as_identifier && is_known(clean_identifiers_, value.ptr())))
            return nb::borrow(value);
        return slow_.attr("visit_text")(value, path(), key);
    }

    nb::object dict(nb::handle value, int depth) {
        nb::object out = nb::steal(PyDict_New());
        if (!out.is_valid()) throw nb::python_error();
        PyObject *next_name = nullptr, *next_item = nullptr;
        for (Py_ssize_t at = 0; PyDict_Next(value.ptr(), &at, &next_name, &next_item);) {
            const nb::object name = nb::borrow(next_name), item = nb::borrow(next_item);
            if (!PyUnicode_CheckExact(name.ptr())) return give_up();
            const long traits = traits_of(name);
            const nb::object renamed = traits & kRenamedKey ? nb::object(slow_.attr("visit_key")(name)) : name;
            path_.push_back({name, 0});
            const nb::object visited = visit(item, name, traits, depth + 1);
            path_.pop_back();
            if (!visited.is_valid()) return give_up();
            if (PyDict_SetItem(out.ptr(), renamed.ptr(), visited.ptr()) != 0) throw nb::python_error();
        }
        return out;
    }

    template <bool is_list> nb::object items(nb::handle value, nb::handle key, long traits, int depth) {
        const Py_ssize_t count = PySequence_Fast_GET_SIZE(value.ptr());
        nb::object out = nb::steal(is_list ? PyList_New(count) : PyTuple_New(count));
        if (!out.is_valid()) throw nb::python_error();
        for (Py_ssize_t at = 0; at < count; ++at) {
            if (at >= PySequence_Fast_GET_SIZE(value.ptr())) return give_up();  // made shorter meanwhile
            const nb::object item = nb::borrow(PySequence_Fast_GET_ITEM(value.ptr(), at));
            path_.push_back({nb::handle(), at});
            nb::object visited = visit(item, key, traits, depth + 1);
            path_.pop_back();
            if (!visited.is_valid()) return give_up();
            if constexpr (is_list)
                PyList_SET_ITEM(out.ptr(), at, visited.release().ptr());
            else
                PyTuple_SET_ITEM(out.ptr(), at, visited.release().ptr());
        }
        return out;
    }

    long traits_of(nb::handle name) {
        PyObject *known = PyDict_GetItemWithError(traits_.ptr(), name.ptr());
        if (known == nullptr && PyErr_Occurred()) throw nb::python_error();
        return known != nullptr ? PyLong_AsLong(known) : nb::cast<long>(slow_.attr("learn")(name));
    }

    nb::object path() const {
        nb::object told = nb::str("$");
        for (const Step &step : path_)
            told = step.name.is_valid() ? told + nb::str(".") + step.name
                                        : told + nb::str(("[" + std::to_string(step.index) + "]").c_str());
        return told;
    }

    nb::handle traits_, clean_, clean_identifiers_, slow_;
    int depth_limit_;
    Py_ssize_t nodes_left_;
    std::vector<Step> path_;
};

// A value's RFC 8785 bytes where redaction leaves all of it as it is: one pass that copies nothing. It calls no Python,
// so nothing changes under it.
class CleanWriter {
public:
    CleanWriter(nb::handle traits, nb::handle clean, nb::handle clean_identifiers, int depth_limit,
                Py_ssize_t nodes_limit)
        : traits_(traits), clean_(clean), clean_identifiers_(clean_identifiers), depth_limit_(depth_limit),
          nodes_left_(nodes_limit) {
        out_.reserve(kUsualBytes);
    }

    // False when something is to be replaced, isn't known to stay, or isn't text written as it is.
    bool write(PyObject *value, long traits, int depth) {
        if (depth > depth_limit_ || nodes_left_-- <= 0) return false;
        if (value == Py_None) return put("null");
        if (PyBool_Check(value)) return put(value == Py_True ? "true" : "false");
        if (traits & kFieldKey) return false;
        if (PyUnicode_CheckExact(value)) return text(value, traits);
        if (PyDict_CheckExact(value)) return dict(value, depth);
        if (PyList_CheckExact(value) || PyTuple_CheckExact(value)) return items(value, traits, depth);
        return false;
    }

    const std::string &written() const { return out_; }

private:
    static constexpr std::size_t kUsualBytes = 2'048;

    struct Member {
        std::string_view name;
        PyObject *item;
        long traits;
    };

    bool put(std::string_view bytes) {
        out_.append(bytes);
        return true;
    }

    bool text(PyObject *value, long traits) {
        std::string_view characters;
        if (!ascii_of(value, characters)) return false;
        const Kinds kinds = kinds_of(characters);
        if (!is_harmless(characters, kinds)) {
            const bool as_identifier = (traits & kIdentifierKey) != 0 && is_identifier(characters, kinds);
            const bool is_own = as_identifier && is_own_identifier(characters, kinds);
            if (!is_own && !is_known(clean_, value) && !(as_identifier && is_known(clean_identifiers_, value)))
                return false;
        }
        return quoted(characters, kinds);
    }

    // What RFC 8785 escapes is left to the other way.
    bool quoted(std::string_view characters, Kinds kinds) {
        if ((kinds & kUnescaped) == 0) return false;
        out_.push_back('"');
        out_.append(characters);
        out_.push_back('"');
        return true;
    }

    bool dict(PyObject *value, int depth) {
        std::vector<Member> members;
        members.reserve(static_cast<std::size_t>(PyDict_GET_SIZE(value)));
        PyObject *name = nullptr, *item = nullptr;
        for (Py_ssize_t at = 0; PyDict_Next(value, &at, &name, &item);) {
            std::string_view characters;
            if (!PyUnicode_CheckExact(name) || !ascii_of(name, characters)) return false;
            PyObject *known = PyDict_GetItemWithError(traits_.ptr(), name);
            if (known == nullptr && PyErr_Occurred()) throw nb::python_error();
            const long traits = known != nullptr ? PyLong_AsLong(known) : kRenamedKey;
            if (traits & kRenamedKey) return false;
            members.push_back({characters, item, traits});
        }
        std::ranges::sort(members, {}, &Member::name);
        char before = '{';
        for (const Member &member : members) {
            out_.push_back(before);
            before = ',';
            if (!quoted(member.name, kinds_of(member.name))) return false;
            out_.push_back(':');
            if (!write(member.item, member.traits, depth + 1)) return false;
        }
        return put(members.empty() ? "{}" : "}");
    }

    bool items(PyObject *value, long traits, int depth) {
        PyObject *const *each = PySequence_Fast_ITEMS(value);
        const Py_ssize_t count = PySequence_Fast_GET_SIZE(value);
        out_.push_back('[');
        for (Py_ssize_t at = 0; at < count; ++at) {
            if (at != 0) out_.push_back(',');
            if (!write(each[at], traits, depth + 1)) return false;
        }
        return put("]");
    }

    nb::handle traits_, clean_, clean_identifiers_;
    int depth_limit_;
    Py_ssize_t nodes_left_;
    std::string out_;
};

nb::object clean_json(nb::handle value, const nb::dict &traits, const nb::set &clean, const nb::set &clean_identifiers,
                      int depth_limit, Py_ssize_t nodes_limit) {
    CleanWriter writer(traits, clean, clean_identifiers, depth_limit, nodes_limit);
    if (!writer.write(value.ptr(), 0, 0)) return nb::none();
    return nb::bytes(writer.written().data(), writer.written().size());
}

nb::object redacted(nb::handle value, nb::handle slow, const nb::dict &traits, const nb::set &clean,
                    const nb::set &clean_identifiers, int depth_limit, Py_ssize_t nodes_limit) {
    Walk walk(traits, clean, clean_identifiers, slow, depth_limit, nodes_limit);
    nb::object out = walk.visit(value, nb::str(""), 0, 0);
    return out.is_valid() ? out : nb::borrow(Py_NotImplemented);
}

}  // namespace

void bind_text(nb::module_ &module) {
    module.def(
        "is_text_only", [](nb::handle value, int depth_limit) { return is_text_only(value.ptr(), depth_limit); },
        "value"_a.none(), "depth_limit"_a, nb::sig("def is_text_only(value: object, depth_limit: int) -> bool"),
        "See core.text.canonical.is_text_only.");
    module.def("clean_json", &clean_json, "value"_a.none(), "traits"_a, "clean"_a, "clean_identifiers"_a,
               "depth_limit"_a, "nodes_limit"_a,
               nb::sig("def clean_json(value: object, traits: dict[str, int], clean: set[str], "
                       "clean_identifiers: set[str], depth_limit: int, nodes_limit: int) -> bytes | None"),
               "See core.text.redaction.Redactor.clean_json.");
    module.def("redacted", &redacted, "value"_a.none(), "slow"_a, "traits"_a, "clean"_a, "clean_identifiers"_a,
               "depth_limit"_a, "nodes_limit"_a,
               nb::sig("def redacted(value: object, slow: object, traits: dict[str, int], clean: set[str], "
                       "clean_identifiers: set[str], depth_limit: int, nodes_limit: int) -> typing.Any"),
               "What slow.visit makes of a value, which is asked for the parts alone that may not stay as they are; "
               "NotImplemented where it has to see the whole.");
}

}  // namespace veloz
