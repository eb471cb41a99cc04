#include "wire.hpp"

#include <charconv>
#include <cstring>
#include <stdexcept>

#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>
#endif

#include "scanner.hpp"

namespace veloz {

namespace {

constexpr std::uint8_t kFin = 0x80, kReserved = 0x70, kMasked = 0x80, kOpcode = 0x0F, kControl = 0x08;
constexpr std::uint8_t kContinuation = 0, kText = 1;
constexpr std::size_t kShort = 126, kMiddle = 127;
constexpr std::string_view kSwitching = "HTTP/1.1 101";
constexpr std::int64_t kSuccess = 200;

void append_number(std::string &text, std::uint64_t value) {
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    text.append(digits, end);
}

void append_number(std::string &text, std::int64_t value) {
    if (value < 0) text += '-';
    append_number(text, value < 0 ? -static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value));
}

bool is_number(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::int64_t seconds_of(std::string_view interval) {
    if (interval == "SECOND") return 1;
    if (interval == "MINUTE") return 60;
    if (interval == "HOUR") return 3'600;
    if (interval == "DAY") return 86'400;
    return 0;
}

// What isn't an acknowledgement, or none that is understood here.
struct Other {};

// Each key counts once; a second one makes the message one for others to read.
void once(bool &seen) {
    if (seen) throw Other{};
    seen = true;
}

RateCount read_count(Scanner &scanner) {
    RateCount found;
    std::int64_t seconds = 0, intervals = 0;
    bool has_kind = false, has_interval = false, has_number = false, has_count = false;
    scanner.object("a rate limit", [&](std::string_view key) {
        if (key == "rateLimitType") {
            once(has_kind);
            found.kind = scanner.string("a rate limit's type");
        } else if (key == "interval") {
            once(has_interval);
            seconds = seconds_of(scanner.string("an interval"));
        } else if (key == "intervalNum") {
            once(has_number);
            intervals = scanner.integer("how many intervals");
        } else if (key == "count") {
            once(has_count);
            found.count = scanner.integer("a count");
        } else {
            scanner.skip_value(3);
        }
    });
    if (!has_kind || !has_interval || !has_number || !has_count || intervals > kMaxIntervals) throw Other{};
    found.window_s = seconds * intervals;
    return found;
}

void read_result(Scanner &scanner, Acknowledgement &found) {
    bool has_order = false, has_symbol = false, has_client_id = false;
    scanner.object("a result", [&](std::string_view key) {
        if (key == "orderId") {
            once(has_order);
            found.order_id = scanner.integer("an order's id");
        } else if (key == "symbol") {
            once(has_symbol);
            found.symbol = scanner.string("a symbol");
        } else if (key == "clientOrderId") {
            once(has_client_id);
            found.client_order_id = scanner.string("an order's own id");
        } else {
            scanner.skip_value(2);
        }
    });
    if (!has_order) throw Other{};
}

}  // namespace

bool is_plain_word(std::string_view text) {
    if (text.empty()) return false;
    for (const char byte : text) {
        const bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
        if (!is_letter && !(byte >= '0' && byte <= '9') && byte != '-' && byte != '_' && byte != '.') return false;
    }
    return true;
}

void append_scaled(std::string &text, std::int64_t value, int scale) {
    char digits[20];
    const char *end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    const auto places = static_cast<std::size_t>(scale);
    std::size_t count = static_cast<std::size_t>(end - digits);
    if (places == 0) {
        text.append(digits, count);
        return;
    }
    if (count > places)
        text.append(digits, count - places);
    else
        text += '0';
    std::size_t fraction = 0;  // how many of the last `places` digits are left when the zeros at the end are gone
    for (std::size_t i = 0; i < places; ++i) {
        const bool is_there = i < count;
        if (is_there && digits[count - 1 - i] != '0') {
            fraction = places - i;
            break;
        }
    }
    if (fraction == 0) return;
    text += '.';
    for (std::size_t i = places; i > places - fraction; --i) text += i <= count ? digits[count - i] : '0';
}

void append_signed_payload(std::string &text, const RequestTerms &terms, const LimitOrder &order) {
    text.append("apiKey=").append(terms.api_key);
    text.append("&newClientOrderId=").append(order.client_order_id);
    text.append("&newOrderRespType=ACK&price=");
    append_scaled(text, order.price, order.price_scale);
    text.append("&quantity=");
    append_scaled(text, order.quantity, order.quantity_scale);
    text.append("&recvWindow=");
    append_number(text, terms.recv_window_ms);
    text.append("&side=").append(order.side);
    text.append("&symbol=").append(order.symbol);
    text.append("&timeInForce=").append(order.time_in_force);
    text.append("&timestamp=");
    append_number(text, terms.timestamp_ms);
    text.append("&type=LIMIT");
}

void append_request(std::string &text, std::uint64_t id, const RequestTerms &terms, const LimitOrder &order,
                    std::string_view signature) {
    text.append(R"({"id":")");
    append_number(text, id);
    text.append(R"(","method":")").append(terms.method);
    text.append(R"(","params":{"symbol":")").append(order.symbol);
    text.append(R"(","side":")").append(order.side);
    text.append(R"(","type":"LIMIT","quantity":")");
    append_scaled(text, order.quantity, order.quantity_scale);
    text.append(R"(","newClientOrderId":")").append(order.client_order_id);
    text.append(R"(","newOrderRespType":"ACK","price":")");
    append_scaled(text, order.price, order.price_scale);
    text.append(R"(","timeInForce":")").append(order.time_in_force);
    text.append(R"(","recvWindow":)");
    append_number(text, terms.recv_window_ms);
    text.append(R"(,"timestamp":)");
    append_number(text, terms.timestamp_ms);
    if (!signature.empty()) {
        text.append(R"(,"apiKey":")").append(terms.api_key);
        text.append(R"(","signature":")").append(signature).append("\"");
    }
    text.append("}}");
}

Mask Masks::next() {
    if (at_ + sizeof(Mask) > block_.size()) {
        if (getentropy(block_.data(), block_.size()) != 0) throw std::runtime_error("the system gives no random bytes");
        at_ = 0;
    }
    Mask mask;
    std::memcpy(mask.data(), block_.data() + at_, sizeof mask);
    at_ += sizeof mask;
    return mask;
}

void append_frame(std::string &frame, std::string_view payload, const Mask &mask) {
    const std::size_t size = payload.size();
    frame += static_cast<char>(kFin | kText);
    const auto append_length = [&](std::size_t code, int bytes) {
        frame += static_cast<char>(kMasked | code);
        for (int i = bytes - 1; i >= 0; --i) frame += static_cast<char>(size >> (8 * i) & 0xFF);
    };
    if (size < kShort)
        append_length(size, 0);
    else if (size <= 0xFFFF)
        append_length(kShort, 2);
    else
        append_length(kMiddle, 8);
    frame.append(reinterpret_cast<const char *>(mask.data()), mask.size());
    std::size_t at = frame.size();
    frame.append(payload);
    std::uint64_t wide;
    std::memcpy(&wide, mask.data(), 4);
    std::memcpy(reinterpret_cast<char *>(&wide) + 4, mask.data(), 4);
    for (; at + 8 <= frame.size(); at += 8) {
        std::uint64_t word;
        std::memcpy(&word, frame.data() + at, 8);
        word ^= wide;
        std::memcpy(frame.data() + at, &word, 8);
    }
    for (std::size_t i = 0; at < frame.size(); ++at, ++i) frame[at] = static_cast<char>(frame[at] ^ mask[i % 4]);
}

std::optional<Acknowledgement> read_acknowledgement(std::string_view payload) {
    Acknowledgement found;
    bool has_id = false, has_status = false, has_result = false, has_counts = false;
    try {
        Scanner scanner(payload);
        scanner.object("a message", [&](std::string_view key) {
            if (key == "id") {
                once(has_id);
                found.id = scanner.string("a request's id");
                if (!is_number(found.id)) throw Other{};
            } else if (key == "status") {
                once(has_status);
                if (scanner.integer("a status") != kSuccess) throw Other{};
            } else if (key == "result") {
                once(has_result);
                read_result(scanner, found);
            } else if (key == "rateLimits") {
                once(has_counts);
                scanner.array("the rate limits", [&] {
                    if (found.counts.size() == kMaxCounts) throw Other{};
                    found.counts.push_back(read_count(scanner));
                });
            } else if (key == "error") {
                throw Other{};
            } else {
                scanner.skip_value(1);
            }
        });
        scanner.finish();
    } catch (const FrameError &) {
        return std::nullopt;
    } catch (const Other &) {
        return std::nullopt;
    }
    if (!has_id || !has_status || !has_result) return std::nullopt;
    return found;
}

void AnswerStream::feed(std::string_view bytes, std::vector<Acknowledgement> &acknowledged, std::string &rest) {
    std::string whole;
    if (!kept_.empty()) {
        whole = std::move(kept_);
        kept_.clear();
        whole.append(bytes);
        bytes = whole;
    }
    while (!bytes.empty()) {
        if (state_ == State::kPassing) {
            pass_on(bytes, rest);
            return;
        }
        const bool goes_on = state_ == State::kHead ? take_head(bytes, rest) : take_frame(bytes, acknowledged, rest);
        if (!goes_on) {
            kept_.assign(bytes);
            return;
        }
    }
}

void AnswerStream::pass_on(std::string_view &bytes, std::string &rest) {
    rest.append(bytes);
    bytes = {};
}

// The answer to the handshake is handed on at once, whatever it says; its end is where the frames begin.
bool AnswerStream::take_head(std::string_view &bytes, std::string &rest) {
    const std::size_t end = bytes.find("\r\n\r\n");
    if (end == std::string_view::npos) {
        if (bytes.size() > kMaxHeadBytes) state_ = State::kPassing;
        return state_ == State::kPassing;
    }
    state_ = bytes.starts_with(kSwitching) ? State::kFrames : State::kPassing;
    rest.append(bytes.substr(0, end + 4));
    bytes.remove_prefix(end + 4);
    return true;
}

bool AnswerStream::take_frame(std::string_view &bytes, std::vector<Acknowledgement> &acknowledged, std::string &rest) {
    if (bytes.size() < 2) return false;
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
    const std::uint8_t first = byte(0), opcode = first & kOpcode;
    std::size_t length = byte(1) & ~kMasked & 0xFF, head = 2;
    if (length == kShort) {
        if (bytes.size() < 4) return false;
        length = static_cast<std::size_t>(byte(2)) << 8 | byte(3);
        head = 4;
    }
    // What no venue sends, and what may be long, is the library's to judge: from here on it gets everything.
    if ((first & kReserved) != 0 || (byte(1) & kMasked) != 0 || length == kMiddle || length > kMaxAnswerBytes) {
        state_ = State::kPassing;
        return true;
    }
    const std::size_t end = head + length;
    if (bytes.size() < end) return false;
    const bool is_whole = (first & kFin) != 0;
    if (is_whole && opcode == kText && !is_in_fragments_) {
        if (auto found = read_acknowledgement(bytes.substr(head, length))) {
            acknowledged.push_back(std::move(*found));
            bytes.remove_prefix(end);
            return true;
        }
    }
    if ((opcode & kControl) == 0) is_in_fragments_ = !is_whole || (is_in_fragments_ && opcode != kContinuation);
    rest.append(bytes.substr(0, end));
    bytes.remove_prefix(end);
    return true;
}

}  // namespace veloz
