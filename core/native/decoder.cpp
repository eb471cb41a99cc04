#include "decoder.hpp"

#include <limits>

namespace veloz {
namespace {

constexpr std::int64_t kNsPerMs = 1'000'000;
constexpr std::int64_t kMaxEventMs = std::numeric_limits<std::int64_t>::max() / kNsPerMs;
constexpr std::size_t kMaxQuotedBytes = 48;  // of a faulty text in an error's message

enum Field : unsigned {
    kKind = 1 << 0,
    kEventTime = 1 << 1,
    kSymbol = 1 << 2,
    kFirstId = 1 << 3,
    kLastId = 1 << 4,
    kPreviousId = 1 << 5,
    kBids = 1 << 6,
    kAsks = 1 << 7,
    kData = 1 << 8,
    kTransactionTime = 1 << 9,
};

void take_once(const Scanner &scanner, unsigned &seen, Field field, const char *name) {
    if (seen & field) scanner.fail(std::string("the field ") + name + " stands twice");
    seen |= field;
}

void require(const Scanner &scanner, unsigned seen, Field field, const char *name) {
    if (!(seen & field)) scanner.fail(std::string("the field ") + name + " is missing");
}

std::int64_t read_event_ns(Scanner &scanner, const char *expected) {
    const char *first = scanner.position();
    const std::int64_t ms = scanner.integer(expected);
    if (ms > kMaxEventMs) scanner.fail_at(std::string(expected) + " is too far in the future", first);
    return ms * kNsPerMs;
}

std::int64_t read_quoted_decimal(Scanner &scanner, const char *what, const DecimalScale &decimal, Excess excess) {
    const int scale = static_cast<int>(decimal.places);
    const char *first = scanner.position();
    const std::string_view text = scanner.string(what);
    const auto is_digit = [](char byte) { return byte >= '0' && byte <= '9'; };
    const bool plain = !text.empty() && is_digit(text.front()) && is_digit(text.back());
    const Parsed parsed = plain ? parse_unsigned(text, scale, excess) : Parsed{0, "it is not a plain decimal"};
    if (parsed.why_not != nullptr) {
        scanner.fail_at(std::string(what) + " '" + std::string(text.substr(0, kMaxQuotedBytes)) + "' at scale " +
                            std::to_string(scale) + ": " + parsed.why_not,
                        first);
    }
    return parsed.value;
}

// One `["price","quantity"]`; the venue has sent further elements, which are left out.
Level read_level(Scanner &scanner, const Scales &scales) {
    Level level{};
    std::size_t elements = 0;
    const char *first = scanner.position();
    scanner.array("a level's '['", [&] {
        if (elements == 0) {
            const char *where = scanner.position();
            level.price = read_quoted_decimal(scanner, "a price", scales.price, Excess::kRefuse);
            if (level.price == 0) scanner.fail_at("a price is zero", where);
        } else if (elements == 1) {
            level.quantity = read_quoted_decimal(scanner, "a quantity", scales.quantity, Excess::kCut);
        } else {
            scanner.skip_value(4);
        }
        ++elements;
    });
    if (elements < 2) scanner.fail_at("a level needs a price and a quantity", first);
    return level;
}

// The most that a level in its usual form takes: `["`, a price, `","`, a quantity, `"]` and what follows it.
constexpr std::size_t kLevelLookahead = 2 + kDecimalLookahead + 3 + kDecimalLookahead + 3;

// Levels as the venue writes them, without spaces and with two elements, up to the first that is anything else or too
// near the end. Moves `at` there, an element's start; true when it is the side's closing ']' instead.
bool read_usual_levels(const char *&at, const char *end, const Scales &scales, std::vector<Level> &levels) {
    while (static_cast<std::size_t>(end - at) >= kLevelLookahead && levels.size() < kMaxFrameLevels) {
        if (at[0] != '[' || at[1] != '"') return false;
        Level level;
        const char *next = read_decimal<Excess::kRefuse>(at + 2, scales.price, level.price);
        if (next == nullptr || next[1] != ',' || next[2] != '"' || level.price == 0) return false;
        next = read_decimal<Excess::kCut>(next + 3, scales.quantity, level.quantity);
        if (next == nullptr || next[1] != ']') return false;
        const char separator = next[2];
        if (separator != ',' && separator != ']') return false;
        levels.push_back(level);
        at = next + 2;
        if (separator == ']') return true;
        ++at;
    }
    return false;
}

void read_side(Scanner &scanner, const Scales &scales, std::vector<Level> &levels) {
    scanner.array("a side's '['", [&] {
        if (kHasFastDigits) {
            const char *at = scanner.position();
            const bool is_closed = read_usual_levels(at, at + scanner.bytes_left(), scales, levels);
            scanner.move_to(at);
            if (is_closed) return;
            scanner.skip_space();
        }
        if (levels.size() == kMaxFrameLevels)
            scanner.fail("the message has more than " + std::to_string(kMaxFrameLevels) + " levels");
        levels.push_back(read_level(scanner, scales));
    });
}

// The two sides of a message, whose scales may only be known once the rest of it has been read.
class Sides {
public:
    explicit Sides(std::vector<Level> &scratch) : levels_(scratch) { levels_.clear(); }

    void on_bids(Scanner &scanner, const Scales *scales) {
        if (scales == nullptr) return defer(scanner, bids_);
        read_side(scanner, *scales, levels_);
        bid_count_ = levels_.size();
        bids_done_ = true;
    }

    void on_asks(Scanner &scanner, const Scales *scales) {
        if (scales == nullptr || !bids_done_) return defer(scanner, asks_);
        read_side(scanner, *scales, levels_);
        asks_done_ = true;
    }

    // Reads what was put off. The levels lie in the array given at first until it is used again.
    DepthLevels finish(Scanner &scanner, const Scales &scales) {
        const char *end = scanner.position();
        if (!bids_done_) {
            scanner.move_to(bids_);
            on_bids(scanner, &scales);
        }
        if (!asks_done_) {
            scanner.move_to(asks_);
            on_asks(scanner, &scales);
        }
        scanner.move_to(end);
        return {std::vector<Level>(levels_.begin(), levels_.end()), bid_count_};
    }

private:
    static void defer(Scanner &scanner, const char *&where) {
        where = scanner.position();
        scanner.skip_value(2);
    }

    std::vector<Level> &levels_;
    std::size_t bid_count_ = 0;
    const char *bids_ = nullptr;
    const char *asks_ = nullptr;
    bool bids_done_ = false;
    bool asks_done_ = false;
};

void check_size(std::string_view bytes) {
    if (bytes.size() > kMaxFrameBytes)
        throw FrameError("the message has more than " + std::to_string(kMaxFrameBytes) + " bytes", kMaxFrameBytes);
}

class UpdateReader {
public:
    UpdateReader(const Decoder &decoder, std::string_view frame, std::vector<Level> &scratch)
        : decoder_(decoder), scanner_(frame), sides_(scratch) {}

    std::optional<Decoder::Decoded> read() {
        scanner_.skip_space();
        scanner_.object("a message's '{'", [&](std::string_view key) { on_field(key, true); });
        const bool is_wrapped = seen_ & kData;
        if (is_wrapped && seen_ != kData) scanner_.fail("fields of a depth message stand beside 'data'");
        if (is_wrapped) seen_ = inner_seen_;
        require(scanner_, seen_, kKind, "e");
        require(scanner_, seen_, kEventTime, "E");
        require(scanner_, seen_, kSymbol, "s");
        require(scanner_, seen_, kFirstId, "U");
        require(scanner_, seen_, kLastId, "u");
        require(scanner_, seen_, kBids, "b");
        require(scanner_, seen_, kAsks, "a");
        if (message_.first_update_id > message_.last_update_id)
            scanner_.fail("the first update id U is above the last, u");
        scanner_.finish();
        if (scales_ == nullptr) return std::nullopt;
        static_cast<DepthLevels &>(message_) = sides_.finish(scanner_, *scales_);
        return Decoder::Decoded{scales_->slot, std::move(message_)};
    }

private:
    void on_field(std::string_view key, bool is_outer) {
        if (is_outer && key == "data") {
            take_once(scanner_, seen_, kData, "data");
            const unsigned outer = seen_;
            seen_ = 0;
            scanner_.object("the data's '{'", [&](std::string_view inner) { on_field(inner, false); });
            inner_seen_ = seen_;
            seen_ = outer;
            return;
        }
        if (key.size() == 1) {
            switch (key.front()) {
            case 'e':
                return on_kind();
            case 'E':
                take_once(scanner_, seen_, kEventTime, "E");
                message_.ts_event_ns = read_event_ns(scanner_, "the event time E");
                return;
            case 's':
                return on_symbol();
            case 'U':
                take_once(scanner_, seen_, kFirstId, "U");
                message_.first_update_id = scanner_.integer("the first update id U");
                return;
            case 'u':
                take_once(scanner_, seen_, kLastId, "u");
                message_.last_update_id = scanner_.integer("the last update id u");
                return;
            case 'b':
                take_once(scanner_, seen_, kBids, "b");
                sides_.on_bids(scanner_, scales_);
                return;
            case 'a':
                take_once(scanner_, seen_, kAsks, "a");
                sides_.on_asks(scanner_, scales_);
                return;
            default:
                break;
            }
        } else if (key == "pu") {
            take_once(scanner_, seen_, kPreviousId, "pu");
            message_.previous_update_id = scanner_.integer("the previous update id pu");
            return;
        }
        scanner_.skip_value(is_outer ? 1 : 2);
    }

    void on_kind() {
        take_once(scanner_, seen_, kKind, "e");
        const char *first = scanner_.position();
        const std::string_view kind = scanner_.string("the event's kind e");
        if (kind != "depthUpdate")
            scanner_.fail_at("e is '" + std::string(kind.substr(0, kMaxQuotedBytes)) + "', not 'depthUpdate'", first);
    }

    void on_symbol() {
        take_once(scanner_, seen_, kSymbol, "s");
        scales_ = decoder_.find(scanner_.string("the symbol s"));
    }

    const Decoder &decoder_;
    Scanner scanner_;
    const Scales *scales_ = nullptr;
    DepthMessage message_;
    Sides sides_;
    unsigned seen_ = 0;
    unsigned inner_seen_ = 0;
};

}  // namespace

void Decoder::add(std::string_view symbol, Scales scales) { scales_.insert_or_assign(std::string(symbol), scales); }

bool Decoder::remove(std::string_view symbol) {
    const auto found = scales_.find(symbol);
    if (found == scales_.end()) return false;
    scales_.erase(found);
    return true;
}

const Scales *Decoder::find(std::string_view symbol) const {
    const auto found = scales_.find(symbol);
    return found == scales_.end() ? nullptr : &found->second;
}

std::optional<Decoder::Decoded> Decoder::decode(std::string_view frame) {
    check_size(frame);
    return UpdateReader(*this, frame, scratch_).read();
}

SnapshotMessage Decoder::decode_snapshot(std::string_view body, std::string_view symbol, const Scales &scales) {
    check_size(body);
    Scanner scanner(body);
    SnapshotMessage message;
    Sides sides(scratch_);
    std::optional<std::int64_t> transaction_ns;
    unsigned seen = 0;
    scanner.skip_space();
    scanner.object("a snapshot's '{'", [&](std::string_view key) {
        if (key == "lastUpdateId") {
            take_once(scanner, seen, kLastId, "lastUpdateId");
            message.last_update_id = scanner.integer("lastUpdateId");
        } else if (key == "bids") {
            take_once(scanner, seen, kBids, "bids");
            sides.on_bids(scanner, &scales);
        } else if (key == "asks") {
            take_once(scanner, seen, kAsks, "asks");
            sides.on_asks(scanner, &scales);
        } else if (key == "E") {
            take_once(scanner, seen, kEventTime, "E");
            message.ts_event_ns = read_event_ns(scanner, "the event time E");
        } else if (key == "T") {
            take_once(scanner, seen, kTransactionTime, "T");
            transaction_ns = read_event_ns(scanner, "the transaction time T");
        } else if (key == "symbol") {
            take_once(scanner, seen, kSymbol, "symbol");
            const char *first = scanner.position();
            const std::string_view stated = scanner.string("a symbol");
            if (stated != symbol) {
                scanner.fail_at("the snapshot is of '" + std::string(stated.substr(0, kMaxQuotedBytes)) + "', not of " +
                                    std::string(symbol),
                                first);
            }
        } else {
            scanner.skip_value(1);
        }
    });
    require(scanner, seen, kLastId, "lastUpdateId");
    require(scanner, seen, kBids, "bids");
    require(scanner, seen, kAsks, "asks");
    scanner.finish();
    static_cast<DepthLevels &>(message) = sides.finish(scanner, scales);
    if (!message.ts_event_ns) message.ts_event_ns = transaction_ns;
    return message;
}

}  // namespace veloz
