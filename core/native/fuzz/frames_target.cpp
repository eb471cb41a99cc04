// Fuzz target: any bytes are frames, one a line, decoded and applied in turn.
//
// What must hold: no read outside of a frame (each stands alone in memory), no undefined behaviour, nothing but
// FrameError; the same levels whether there is room to read ahead or not; and a book that equals two std::maps.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "../book.hpp"
#include "model.hpp"

namespace veloz::fuzz {
namespace {

constexpr std::string_view kSymbol = "BTCUSDT";
constexpr std::size_t kManyLevels = 1'000;

struct Outcome {
    std::string error;
    bool is_known = false;
    DepthLevels levels;
    std::int64_t last_update_id = 0;
};

template <typename Read> Outcome outcome_of(std::string_view line, std::size_t padding, Read read) {
    // A copy of its own, so that the sanitizer sees a single byte too far.
    const std::size_t size = line.size() + padding;
    const auto bytes = std::make_unique<char[]>(size);
    std::memcpy(bytes.get(), line.data(), line.size());
    std::memset(bytes.get() + line.size(), ' ', padding);
    Outcome outcome;
    try {
        read(std::string_view(bytes.get(), size), outcome);
    } catch (const FrameError &error) {
        outcome.error = error.what();
    }
    return outcome;
}

// Reads the line twice, so that its end is once at hand and once far away.
template <typename Read> Outcome read_both_ways(std::string_view line, Read read) {
    Outcome near = outcome_of(line, 0, read), far = outcome_of(line, 128, read);
    // The byte may differ: spaces after a frame that ends too early are skipped first.
    const auto words = [](const std::string &error) { return error.substr(0, error.find(" at byte ")); };
    const bool is_truncated = near.error.find("ends where") != std::string::npos;
    require(is_truncated || words(near.error) == words(far.error), "an error depends on what follows the frame");
    require(near.error.empty() == far.error.empty(), "whether a frame is taken depends on what follows it");
    require(near.levels.levels == far.levels.levels && near.levels.bid_count == far.levels.bid_count,
            "the levels depend on what follows the frame");
    return near;
}

}  // namespace

void run(std::string_view input) {
    // Scales and limits come from the length, so that each of them meets every kind of input.
    const int price_scale = static_cast<int>(input.size() % 5), quantity_scale = static_cast<int>(input.size() % 19);
    const std::size_t max_levels = input.size() % 2 ? 3 : kManyLevels;
    Decoder decoder;
    const Scales scales{DecimalScale(price_scale), DecimalScale(quantity_scale), 0};
    decoder.add(kSymbol, scales);
    Book book(max_levels);
    BookModel model(max_levels);
    while (!input.empty()) {
        const std::size_t end = std::min(input.find('\n'), input.size());
        const std::string_view line = input.substr(0, end);
        input.remove_prefix(std::min(end + 1, input.size()));
        const Outcome update = read_both_ways(line, [&](std::string_view frame, Outcome &outcome) {
            auto decoded = decoder.decode(frame);
            outcome.is_known = decoded.has_value();
            if (!decoded) return;
            outcome.last_update_id = decoded->message.last_update_id;
            outcome.levels = std::move(decoded->message);
        });
        if (update.error.empty() && update.is_known) {
            book.apply_update(update.levels, update.last_update_id);
            model.apply_update(update.levels);
        }
        const Outcome snapshot = read_both_ways(line, [&](std::string_view frame, Outcome &outcome) {
            SnapshotMessage message = decoder.decode_snapshot(frame, kSymbol, scales);
            outcome.last_update_id = message.last_update_id;
            outcome.levels = std::move(message);
        });
        if (snapshot.error.empty()) {
            const bool is_complete = line.size() % 2 == 0;
            book.apply_snapshot(snapshot.levels, snapshot.last_update_id, is_complete);
            model.apply_snapshot(snapshot.levels, is_complete);
        }
        model.compare(book, static_cast<std::int64_t>(line.size()) * 1'000);
    }
}

}  // namespace veloz::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    veloz::fuzz::run({reinterpret_cast<const char *>(data), size});
    return 0;
}
