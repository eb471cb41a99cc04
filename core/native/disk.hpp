// A thread that writes and syncs, one request at a time, and touches nothing of Python's: who decides goes on
// meanwhile.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>

namespace veloz {

// errno of what failed, 0 where nothing did.
struct WriteOutcome {
    int write_error = 0, sync_error = 0;
};

class DiskThread {
public:
    DiskThread();
    ~DiskThread();
    DiskThread(const DiskThread &) = delete;
    DiskThread &operator=(const DiskThread &) = delete;

    // Something is about to begin: wakes the thread up, so that begin needn't. Nothing has to follow.
    void expect();

    // All of data at an offset, then one sync. data must live until it is over; false while one is on its way.
    bool begin(int descriptor, std::int64_t offset, const char *data, std::size_t size);

    // Whether it is over, or became so within the time. looking: for how long to stay awake at most, where the disk was
    // as quick the last time: being woken would take about as long again.
    bool wait(std::chrono::nanoseconds timeout, std::chrono::nanoseconds looking);

    // Have a byte written to the end of a pipe whose other end is descriptor(), once it is over; whether it is already.
    bool watch();
    int descriptor() const { return pipe_[0]; }
    // Take out what was written.
    void drain();

    // Of what is over.
    WriteOutcome outcome() const { return outcome_; }

private:
    enum class State { kIdle, kBegun, kOver, kStopping };

    struct Request {
        int descriptor = -1;
        std::int64_t offset = 0;
        const char *data = nullptr;
        std::size_t size = 0;
    };

    void run();

    std::atomic<State> state_{State::kIdle};
    std::mutex mutex_;
    std::condition_variable begun_, over_;
    Request request_;
    bool expected_ = false, watched_ = false;
    std::array<int, 2> pipe_{-1, -1};
    std::atomic<std::chrono::nanoseconds> last_took_{std::chrono::nanoseconds::max()};
    WriteOutcome outcome_;
    std::thread thread_;
};

}  // namespace veloz
