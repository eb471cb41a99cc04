// A thread that writes and syncs, one request at a time, and touches nothing of Python's: who decides goes on
// meanwhile.
#pragma once

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

    // All of data at an offset, then one sync. data must live until it is over; false while one is on its way.
    bool begin(int descriptor, std::int64_t offset, const char *data, std::size_t size);

    // Whether it is over, or became so within the time.
    bool wait(std::chrono::nanoseconds timeout);

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
    WriteOutcome outcome_;
    std::thread thread_;
};

}  // namespace veloz
