// Random frames, sound and damaged, through the stream of answers: what comes out doesn't depend on how the bytes were
// cut, nothing is lost or made up, and no byte outside of what was given is read.

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "../journal.hpp"
#include "../wire.hpp"
#include "model.hpp"

namespace veloz::fuzz {
namespace {

using Luck = std::mt19937_64;

constexpr std::string_view kHead = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";

struct Read {
    std::vector<Acknowledgement> acknowledged;
    std::string rest;
};

std::string random_payload(Luck &luck) {
    std::string payload = R"({"id":")" + std::to_string(luck() % 1'000) + R"(","status":)" +
                          (luck() % 8 == 0 ? "400" : "200") + R"(,"result":{"symbol":"BTCUSDT","orderId":)" +
                          std::to_string(luck()) + R"(,"clientOrderId":"vz\u0031"},"rateLimits":[{"rateLimitType":)" +
                          R"("ORDERS","interval":"DAY","intervalNum":1,"limit":9,"count":7}]})";
    if (luck() % 3 == 0) payload.resize(luck() % payload.size());
    if (luck() % 3 == 0 && !payload.empty()) payload[luck() % payload.size()] = static_cast<char>(luck());
    return payload;
}

std::string random_frame(Luck &luck) {
    static const std::uint8_t firsts[] = {0x81, 0x81, 0x81, 0x81, 0x01, 0x80, 0x00, 0x89, 0x88, 0x82, 0xC1};
    const std::string payload = random_payload(luck);
    std::string frame(1, static_cast<char>(firsts[luck() % 11]));
    if (luck() % 50 == 0) return frame + static_cast<char>(luck()) + payload;
    if (payload.size() < 126) return frame + static_cast<char>(payload.size()) + payload;
    frame += static_cast<char>(126);
    frame += static_cast<char>(payload.size() >> 8);
    frame += static_cast<char>(payload.size() & 0xFF);
    return frame + payload;
}

Read read_in_pieces(Luck &luck, std::string_view bytes, std::size_t longest) {
    AnswerStream stream;
    Read read;
    while (!bytes.empty()) {
        const std::size_t size = std::min(bytes.size(), 1 + static_cast<std::size_t>(luck() % longest));
        // A copy of its own, so that the sanitizer sees a single byte too far.
        const auto piece = std::make_unique<char[]>(size);
        std::memcpy(piece.get(), bytes.data(), size);
        stream.feed({piece.get(), size}, read.acknowledged, read.rest);
        bytes.remove_prefix(size);
    }
    return read;
}

void answer(Luck &luck) {
    std::string bytes(kHead);
    for (std::size_t frames = luck() % 20; frames > 0; --frames) bytes += random_frame(luck);
    const Read whole = read_in_pieces(luck, bytes, bytes.size() * 2), cut = read_in_pieces(luck, bytes, 40);
    require(whole.acknowledged == cut.acknowledged, "what is acknowledged depends on how the bytes were cut");
    require(whole.rest == cut.rest, "what is handed on depends on how the bytes were cut");
    require(whole.rest.starts_with(kHead), "the answer to the handshake is handed on");
    require(whole.rest.size() <= bytes.size(), "more is handed on than came");
}

void ask(Luck &luck) {
    LimitOrder order{"BTCUSDT",
                     "BUY",
                     "GTC",
                     "vz1",
                     static_cast<std::int64_t>(luck() >> 1),
                     static_cast<std::int64_t>(luck() >> 1 >> luck() % 63),
                     static_cast<int>(luck() % 19),
                     static_cast<int>(luck() % 19)};
    const RequestTerms terms{"order.place", "key", 5'000, 1};
    std::string payload, frame;
    append_request(payload, luck(), terms, order, luck() % 2 ? "" : "signature");
    Masks masks;
    const Mask mask = masks.next();
    append_frame(frame, payload, mask);
    const std::size_t head = payload.size() < 126 ? 6 : 8;
    require(frame.size() == head + payload.size(), "a frame's length");
    for (std::size_t i = 0; i < payload.size(); ++i)
        require(static_cast<char>(frame[head + i] ^ mask[i % 4]) == payload[i], "a frame's masked bytes");
}

// Records of any length, one behind the other: a checksum of parts is that of the whole, and so is a signature's text.
void keep(Luck &luck) {
    const std::string payload(luck() % 300, 'x'), head(1 + luck() % 9, 'y');
    require(crc32c(payload, crc32c(head)) == crc32c(head + payload), "a checksum goes on from the one before");
    Sha256::Digest previous{};
    const std::size_t size = 2 * kRecordOverheadBytes + head.size() + payload.size();
    const auto group = std::make_unique<char[]>(size);
    char *end = write_record(write_record(group.get(), head, true, previous), payload, false, previous);
    require(end == group.get() + size, "a group's length");
    const std::string event = R"({"kind":")" + head + "\"}";
    require(event_kind_of(event) == head && event_kind_of(payload).empty(), "an event's kind");
    std::string body;
    append_published(body, {"\"e\"", 1}, static_cast<std::int64_t>(luck()), std::string(32, '\xff'), event);
    require(body.ends_with(event + "}"), "what is published ends with the event");
    const std::string key(luck() % 130, 'k');
    require(HmacSha256(key).sign(payload) == HmacSha256(key).sign(payload), "a signature is a function of both");
}

}  // namespace

void talk(std::mt19937_64 &luck, std::size_t operations) {
    for (std::size_t i = 0; i < operations; ++i) {
        answer(luck);
        ask(luck);
        keep(luck);
    }
}

}  // namespace veloz::fuzz
