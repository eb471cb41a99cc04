// core._native: the bindings of the thread that writes.

#include <algorithm>
#include <chrono>
#include <utility>

#include <nanobind/nanobind.h>

#include "bindings.hpp"
#include "disk.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace veloz {
namespace {

class PythonDisk {
public:
    bool begin(int descriptor, std::int64_t offset, nb::bytes data) {
        if (!core_.begin(descriptor, offset, data.c_str(), data.size())) return false;
        data_ = std::move(data);
        return true;
    }

    void expect() { core_.expect(); }

    bool wait(double timeout_s, double looking_s) {
        const std::chrono::nanoseconds timeout = ns_of(timeout_s), looking = ns_of(looking_s);
        const nb::gil_scoped_release others_run;
        return core_.wait(timeout, looking);
    }

    bool watch() { return core_.watch(); }
    int descriptor() const { return core_.descriptor(); }
    void drain() { core_.drain(); }

    nb::tuple outcome() const {
        const auto [write_error, sync_error] = core_.outcome();
        return nb::make_tuple(write_error, sync_error);
    }

private:
    static constexpr double kLongestS = 1e6;

    static std::chrono::nanoseconds ns_of(double seconds) {
        const std::chrono::duration<double> bounded(std::clamp(seconds, 0.0, kLongestS));
        return std::chrono::duration_cast<std::chrono::nanoseconds>(bounded);
    }

    nb::object data_;  // what is being written lives until the next one
    DiskThread core_;  // ends before it
};

}  // namespace

void bind_disk(nb::module_ &module) {
    nb::class_<PythonDisk>(module, "DiskThread", "A thread that writes and syncs beside Python; one request at a time.")
        .def(nb::init<>())
        .def("begin", &PythonDisk::begin, "descriptor"_a, "offset"_a, "data"_a,
             "All of data at an offset, then one sync; False while another request is on its way.")
        .def("expect", &PythonDisk::expect, "Something is about to begin: wakes the thread up. Nothing has to follow.")
        .def("wait", &PythonDisk::wait, "timeout_s"_a, "looking_s"_a = 0.0,
             "Whether it is over, or became so within the time; for looking_s of it the caller stays awake.")
        .def("watch", &PythonDisk::watch,
             "Whether it is over; if not, descriptor can be read from once it is. drain before the next time.")
        .def_prop_ro("descriptor", &PythonDisk::descriptor)
        .def("drain", &PythonDisk::drain)
        .def("outcome", &PythonDisk::outcome, nb::sig("def outcome(self) -> tuple[int, int]"),
             "Of what is over: errno of the write and of the sync, 0 for what succeeded.");
}

}  // namespace veloz
