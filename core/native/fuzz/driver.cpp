// Runs the fuzz target without libFuzzer: over files, over damaged copies of their lines, and the book over random
// operations. What it prints says how much was run; a fault aborts with the seed and the number that repeat it.
//
//   driver [--seed N] [--mutations N] [--operations N] FILE...

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "../book.hpp"
#include "model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace veloz::fuzz {

void trade(std::mt19937_64 &chance, std::size_t operations);
void talk(std::mt19937_64 &luck, std::size_t operations);

namespace {

using Random = std::mt19937_64;

constexpr std::size_t kMaxSeedBytes = 20'000;  // of a line that is damaged: long ones teach nothing new
constexpr std::size_t kOperationsPerBook = 2'000;
constexpr std::size_t kOrdersPerBook = 500;
constexpr const char *kTokens[] = {"\"",
                                   "[",
                                   "]",
                                   "{",
                                   "}",
                                   ",",
                                   ":",
                                   ".",
                                   "-",
                                   "0",
                                   "9",
                                   "e5",
                                   "null",
                                   "true",
                                   "\\",
                                   "\\u0041",
                                   "\\ud800",
                                   "\xff",
                                   "\n",
                                   " ",
                                   "NaN",
                                   "99999999999",
                                   "\"b\":",
                                   "\"a\":",
                                   "\"u\":1,",
                                   "\"data\":",
                                   "\"s\"",
                                   "[\"1\",\"1\"],",
                                   "[\"2.5\",\"0\"]"};

std::size_t below(Random &random, std::size_t limit) { return limit == 0 ? 0 : random() % limit; }

void damage(Random &random, std::string &text) {
    const std::size_t at = below(random, text.size() + 1), width = 1 + below(random, 12);
    const std::string_view token = kTokens[below(random, std::size(kTokens))];
    switch (below(random, 6)) {
    case 0:
        text.erase(at, width);
        return;
    case 1:
        text.insert(at, token);
        return;
    case 2:
        text.replace(at, std::min(width, text.size() - at), token);
        return;
    case 3:
        if (at < text.size()) text[at] = static_cast<char>(random());
        return;
    case 4:
        text.insert(at, text.substr(at, width));
        return;
    default:
        text.resize(at);
        return;
    }
}

void feed(const std::string &input) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t *>(input.data()), input.size());
}

std::string content_of(const char *path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::fprintf(stderr, "%s: can't be read\n", path);
        std::exit(2);
    }
    return {std::istreambuf_iterator<char>(file), {}};
}

DepthLevels random_levels(Random &random, std::int64_t middle, std::int64_t width) {
    DepthLevels message;
    const std::size_t count = below(random, 4) == 0 ? below(random, 400) : below(random, 12);
    const auto level = [&](bool is_bid) {
        const auto offset = static_cast<std::int64_t>(below(random, static_cast<std::size_t>(width)));
        const std::int64_t price = std::max<std::int64_t>(1, is_bid ? middle - offset : middle + offset);
        return Level{price, below(random, 3) == 0 ? 0 : static_cast<std::int64_t>(1 + below(random, 1'000'000))};
    };
    for (std::size_t i = 0; i < count; ++i) message.levels.push_back(level(true));
    message.bid_count = count;
    for (std::size_t i = 0; i < count; ++i) message.levels.push_back(level(false));
    const auto by_price = [](const Level &a, const Level &b) { return a.price < b.price; };
    if (below(random, 3) != 0) {
        std::sort(message.levels.begin(), message.levels.begin() + static_cast<std::ptrdiff_t>(count), by_price);
        std::sort(message.levels.begin() + static_cast<std::ptrdiff_t>(count), message.levels.end(), by_price);
    }
    return message;
}

// A book of random shape against its model, both of which get the same messages.
void operate(Random &random, std::size_t operations) {
    constexpr std::int64_t middles[] = {1, 1'000'000, std::int64_t{1} << 62};
    constexpr std::int64_t widths[] = {4, 300, 100'000};
    constexpr std::size_t limits[] = {1, 64, 500, kMaxLevelsPerSide};
    const std::int64_t middle = middles[below(random, 3)], width = widths[below(random, 3)];
    const std::size_t limit = limits[below(random, 4)];
    Book book(limit);
    BookModel model(limit);
    for (std::size_t i = 0; i < operations; ++i) {
        const DepthLevels levels = random_levels(random, middle, width);
        if (below(random, 100) == 0) {
            const bool is_complete = below(random, 2) == 0;
            book.apply_snapshot(levels, 1, is_complete);
            model.apply_snapshot(levels, is_complete);
        } else {
            book.apply_update(levels, 1);
            model.apply_update(levels);
        }
        if (i % 16 == 0) model.compare(book, static_cast<std::int64_t>(below(random, 10'000'000)));
    }
    model.compare(book, 1);
}

struct Options {
    std::uint64_t seed = 1;
    std::size_t mutations = 20'000;
    std::size_t operations = 20'000;
    std::vector<const char *> files;
};

Options options_of(int count, char **arguments) {
    Options options;
    for (int i = 1; i < count; ++i) {
        const std::string_view name = arguments[i];
        if (!name.starts_with("--")) {
            options.files.push_back(arguments[i]);
            continue;
        }
        std::uint64_t value = 0;
        const char *text = i + 1 < count ? arguments[++i] : "";
        const auto parsed = std::from_chars(text, text + std::strlen(text), value);
        if (parsed.ec != std::errc() || *parsed.ptr != '\0') {
            std::fprintf(stderr, "%s needs a whole number\n", arguments[i - 1]);
            std::exit(2);
        }
        if (name == "--seed")
            options.seed = value;
        else if (name == "--mutations")
            options.mutations = value;
        else if (name == "--operations")
            options.operations = value;
        else {
            std::fprintf(stderr, "%s: not an option\n", arguments[i - 1]);
            std::exit(2);
        }
    }
    return options;
}

int run(const Options &options) {
    std::vector<std::string> seeds;
    std::size_t frames = 0;
    for (const char *path : options.files) {
        const std::string content = content_of(path);
        std::fprintf(stderr, "file %s\n", path);
        feed(content);
        for (std::size_t start = 0; start < content.size();) {
            const std::size_t end = std::min(content.find('\n', start), content.size());
            if (end > start && end - start <= kMaxSeedBytes) seeds.push_back(content.substr(start, end - start));
            start = end + 1;
            ++frames;
        }
    }
    Random random(options.seed);
    std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(options.seed));
    for (std::size_t i = 0; !seeds.empty() && i < options.mutations; ++i) {
        std::string input = seeds[below(random, seeds.size())];
        if (below(random, 4) == 0) input += "\n" + seeds[below(random, seeds.size())];
        for (std::size_t times = 1 + below(random, 5); times > 0; --times) damage(random, input);
        feed(input);
    }
    for (std::size_t left = options.operations; left > 0;) {
        const std::size_t operations = std::min(left, kOperationsPerBook);
        operate(random, operations);
        trade(random, std::min(operations, kOrdersPerBook));
        talk(random, std::min(operations, kOrdersPerBook));
        left -= operations;
    }
    std::printf("%zu files with %zu frames, %zu damaged frames, %zu book operations: all sound\n", options.files.size(),
                frames, seeds.empty() ? 0 : options.mutations, options.operations);
    return 0;
}

}  // namespace
}  // namespace veloz::fuzz

int main(int count, char **arguments) { return veloz::fuzz::run(veloz::fuzz::options_of(count, arguments)); }
