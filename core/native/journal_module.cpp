// core._native: the bindings of the journal's groups.

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings.hpp"
#include "journal.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace veloz {
namespace {

constexpr int kLeastLastBits = 2;
constexpr std::size_t kPayloadLimitBytes = (std::size_t{1} << 24) - 1;

std::string_view bytes_of(nb::handle value) {
    if (!PyBytes_Check(value.ptr())) throw nb::type_error("a record is bytes");
    return {PyBytes_AS_STRING(value.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(value.ptr()))};
}

nb::bytes bytes_of(const Sha256::Digest &digest) {
    return nb::bytes(reinterpret_cast<const char *>(digest.data()), digest.size());
}

// The first of the payloads that no record can hold, or their number. core.storage.journal_format tells why.
std::size_t first_unfit(nb::sequence payloads, std::size_t limit_bytes) {
    std::size_t position = 0;
    for (nb::handle held : payloads) {
        const std::string_view payload = bytes_of(held);
        const bool fits = !payload.empty() && payload.size() <= limit_bytes &&
                          std::memchr(payload.data(), 0, payload.size()) == nullptr &&
                          std::popcount(static_cast<unsigned char>(payload.back())) >= kLeastLastBits;
        if (!fits) return position;
        ++position;
    }
    return position;
}

nb::tuple encode_group(nb::bytes previous, nb::sequence payloads) {
    Sha256::Digest hash;
    if (previous.size() != hash.size()) throw nb::value_error("a hash has 32 bytes");
    std::copy_n(previous.c_str(), hash.size(), reinterpret_cast<char *>(hash.data()));
    std::size_t size = 0;
    for (nb::handle payload : payloads) {
        const std::size_t length = bytes_of(payload).size();
        if (length > kPayloadLimitBytes) throw nb::value_error("a record's length has 24 bits");
        size += kRecordOverheadBytes + length;
    }
    // Its bytes are written where they stay: nobody else sees them before they are whole.
    nb::object group = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size)));
    if (!group.is_valid()) throw nb::python_error();
    char *out = PyBytes_AS_STRING(group.ptr());
    nb::list hashes;
    bool is_first = true;
    for (nb::handle payload : payloads) {
        out = write_record(out, bytes_of(payload), is_first, hash);
        is_first = false;
        hashes.append(bytes_of(hash));
    }
    return nb::make_tuple(group, hashes);
}

nb::list trading_messages(const std::string &engine_id, nb::bytes quoted_engine_id, std::int64_t epoch,
                          std::int64_t first_sequence, nb::sequence payloads, nb::sequence hashes) {
    const RecordsOf of{{quoted_engine_id.c_str(), quoted_engine_id.size()}, epoch};
    const std::size_t count = nb::len(payloads);
    if (nb::len(hashes) != count) throw nb::value_error("each record has a hash");
    nb::list messages;
    std::string body, subject, id;
    std::int64_t sequence = first_sequence;
    for (std::size_t i = 0; i < count; ++i, ++sequence) {
        const nb::object payload_held = payloads[i], hash_held = hashes[i];
        const std::string_view payload = bytes_of(payload_held), hash = bytes_of(hash_held),
                               kind = event_kind_of(payload);
        if (hash.size() != sizeof(Sha256::Digest)) throw nb::value_error("a hash has 32 bytes");
        if (kind.empty()) throw nb::value_error("a record begins with its kind");
        body.clear();
        append_published(body, of, sequence, hash, payload);
        subject.assign("trading.").append(engine_id).append(".").append(kind);
        id.assign(engine_id).append(":").append(std::to_string(sequence));
        messages.append(nb::make_tuple(nb::str(subject.data(), subject.size()), nb::bytes(body.data(), body.size()),
                                       nb::str(id.data(), id.size())));
    }
    return messages;
}

}  // namespace

void bind_journal(nb::module_ &module) {
    module.def("encode_group", &encode_group, "previous"_a, "payloads"_a,
               nb::sig("def encode_group(previous: bytes, payloads: collections.abc.Sequence[bytes]) -> tuple[bytes, "
                       "list[bytes]]"),
               "A group's bytes and each record's hash (core.storage.journal_format). The payloads have been checked.");
    module.def("first_unfit", &first_unfit, "payloads"_a, "limit_bytes"_a,
               nb::sig("def first_unfit(payloads: collections.abc.Sequence[bytes], limit_bytes: int) -> int"),
               "The position of the first payload that no record can hold (core.storage.journal_format.check_payload), "
               "or how many there are.");
    module.def("trading_messages", &trading_messages, "engine_id"_a, "quoted_engine_id"_a, "epoch"_a,
               "first_sequence"_a, "payloads"_a, "hashes"_a,
               nb::sig("def trading_messages(engine_id: str, quoted_engine_id: bytes, epoch: int, first_sequence: int, "
                       "payloads: collections.abc.Sequence[bytes], hashes: collections.abc.Sequence[bytes]) -> "
                       "list[tuple[str, bytes, str]]"),
               "What is published of records that follow each other, each as (subject, payload, message id).\n\n"
               "quoted_engine_id is the engine's id as JSON. Raises ValueError for a record that isn't an event's.");
    module.def(
        "crc32c", [](nb::bytes data, std::uint32_t before) { return crc32c({data.c_str(), data.size()}, before); },
        "data"_a, "before"_a = 0, "CRC32C; before: of the bytes that go ahead of these.");
    nb::class_<HmacSha256>(module, "HmacSha256", "HMAC-SHA256 under one key.")
        .def(
            "__init__", [](HmacSha256 *self, nb::bytes key) { new (self) HmacSha256({key.c_str(), key.size()}); },
            "key"_a)
        .def(
            "hex_of",
            [](const HmacSha256 &self, const std::string &payload) {
                std::string hex;
                const Sha256::Digest digest = self.sign(payload);
                append_hex(hex, digest, digest.size());
                return hex;
            },
            "payload"_a, "The signature of a text, as lower-case hex.");
}

}  // namespace veloz
