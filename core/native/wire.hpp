// Order entry on the wire: a plain limit order as a frame of the venue's WebSocket API, and the frames that come back.
//
// core/venues/binance/ws_orders.py does the same in Python for whatever isn't plain, and is what tests hold this to.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace veloz {

// A frame that is longer is left to the library, which refuses it.
constexpr std::size_t kMaxAnswerBytes = 65'536;
constexpr std::size_t kMaxHeadBytes = 65'536;
// Counts of the venue's limits that one answer may tell.
constexpr std::size_t kMaxCounts = 16;
constexpr std::int64_t kMaxIntervals = 1'000'000;
// A count from here on is no count, nor is a negative one.
constexpr std::int64_t kCountBeyondBelief = 1'000'000'000;

// Words that need no escape in JSON and none in what is signed.
bool is_plain_word(std::string_view text);

// As core.types.money.scaled_text: `value` is not negative, `scale` from 0 to 18.
void append_scaled(std::string &text, std::int64_t value, int scale);

// A limit order without anything that its venue would have to be told beside its terms. All words are plain.
struct LimitOrder {
    std::string_view symbol, side, time_in_force, client_order_id;
    std::int64_t quantity = 0, price = 0;
    int quantity_scale = 0, price_scale = 0;
};

struct RequestTerms {
    std::string_view method, api_key;
    std::int64_t recv_window_ms = 0, timestamp_ms = 0;
};

// What the signature of a request covers: its parameters in the order of their names.
void append_signed_payload(std::string &text, const RequestTerms &terms, const LimitOrder &order);

// The request itself. signature: empty on a connection that has a session of its own.
void append_request(std::string &text, std::uint64_t id, const RequestTerms &terms, const LimitOrder &order,
                    std::string_view signature);

using Mask = std::array<std::uint8_t, 4>;

// Masks that nobody can foresee (RFC 6455, 5.3), from the system's generator, many at a time.
class Masks {
public:
    Mask next();

private:
    std::array<std::uint8_t, 256> block_{};
    std::size_t at_ = sizeof(block_);
};

// A text frame of a client: whole, masked.
void append_frame(std::string &frame, std::string_view payload, const Mask &mask);

// One entry of rateLimits.
struct RateCount {
    std::string kind;
    std::int64_t window_s = 0, count = 0;

    bool operator==(const RateCount &) const = default;
};

// The answer to an order that was taken: nothing but that is read here. The ids of requests from here are digits.
struct Acknowledgement {
    std::string id, symbol, client_order_id;
    std::int64_t order_id = 0;
    std::vector<RateCount> counts;

    bool operator==(const Acknowledgement &) const = default;
};

// None for any other message, also for one that isn't sound: others tell what is wrong with it.
std::optional<Acknowledgement> read_acknowledgement(std::string_view payload);

// The bytes of a connection from its first one on: acknowledgements are taken out, all else is handed on as it came,
// frame by frame, to who knows the whole protocol.
class AnswerStream {
public:
    // Appends what came to acknowledged, and what is to be handed on to rest, each in its order.
    void feed(std::string_view bytes, std::vector<Acknowledgement> &acknowledged, std::string &rest);

private:
    enum class State { kHead, kFrames, kPassing };

    // Each takes what it can off the front of bytes; false when more has to come first.
    bool take_head(std::string_view &bytes, std::string &rest);
    bool take_frame(std::string_view &bytes, std::vector<Acknowledgement> &acknowledged, std::string &rest);
    void pass_on(std::string_view &bytes, std::string &rest);

    State state_ = State::kHead;
    bool is_in_fragments_ = false;  // a message is being handed on of which frames are to come
    std::string kept_;              // the beginning of a frame
};

}  // namespace veloz
