#include "disk.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace veloz {

namespace {

// To be woken by another thread takes longer than this; who waits gives way to whoever else wants the processor.
constexpr std::chrono::microseconds kLookingBefore{50};
// What is expected is decided in less.
constexpr std::chrono::microseconds kLookingWhenExpected{500};

template <class Ready> bool look(Ready ready, std::chrono::nanoseconds atmost) {
    const auto until = std::chrono::steady_clock::now() + atmost;
    while (!ready()) {
        if (std::chrono::steady_clock::now() >= until) return false;
        std::this_thread::yield();
    }
    return true;
}

int write_all(int descriptor, std::int64_t offset, const char *data, std::size_t size) {
    while (size > 0) {
        const ssize_t written = ::pwrite(descriptor, data, size, static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return errno;
        if (written == 0) return EIO;
        data += written;
        offset += written;
        size -= static_cast<std::size_t>(written);
    }
    return 0;
}

int sync_all(int descriptor) {
#ifdef F_FULLFSYNC
    // On macOS fsync leaves data in the drive's cache.
    return ::fcntl(descriptor, F_FULLFSYNC) == -1 ? errno : 0;
#else
    return ::fdatasync(descriptor) == -1 ? errno : 0;
#endif
}

}  // namespace

DiskThread::DiskThread() {
    if (::pipe(pipe_.data()) != 0) throw std::system_error(errno, std::generic_category(), "a pipe");
    for (const int end : pipe_) {
        ::fcntl(end, F_SETFD, FD_CLOEXEC);
        ::fcntl(end, F_SETFL, O_NONBLOCK);
    }
    thread_ = std::thread([this] { run(); });
}

DiskThread::~DiskThread() {
    {
        std::unique_lock lock(mutex_);
        over_.wait(lock, [&] { return state_ != State::kBegun; });
        state_ = State::kStopping;
    }
    begun_.notify_one();
    thread_.join();
    for (const int end : pipe_) ::close(end);
}

void DiskThread::expect() {
    {
        const std::lock_guard lock(mutex_);
        if (state_ == State::kBegun || state_ == State::kStopping) return;
        expected_ = true;
    }
    begun_.notify_one();
}

bool DiskThread::begin(int descriptor, std::int64_t offset, const char *data, std::size_t size) {
    {
        const std::lock_guard lock(mutex_);
        if (state_ == State::kBegun) return false;
        request_ = {descriptor, offset, data, size};
        state_ = State::kBegun;
    }
    begun_.notify_one();
    return true;
}

bool DiskThread::wait(std::chrono::nanoseconds timeout, std::chrono::nanoseconds looking) {
    const auto over = [&] { return state_.load(std::memory_order_acquire) != State::kBegun; };
    if (looking < last_took_.load(std::memory_order_relaxed)) looking = kLookingBefore;
    if (look(over, std::min<std::chrono::nanoseconds>(timeout, looking))) return true;
    std::unique_lock lock(mutex_);
    return over_.wait_for(lock, timeout, over);
}

bool DiskThread::watch() {
    const std::lock_guard lock(mutex_);
    watched_ = state_ == State::kBegun;
    return !watched_;
}

void DiskThread::drain() {
    std::array<char, 64> taken;
    while (::read(pipe_[0], taken.data(), taken.size()) > 0) continue;
}

void DiskThread::run() {
    const auto called = [&] {
        const State state = state_.load(std::memory_order_acquire);
        return state == State::kBegun || state == State::kStopping;
    };
    auto looking = kLookingBefore;
    while (true) {
        look(called, looking);
        {
            std::unique_lock lock(mutex_);
            begun_.wait(lock, [&] { return called() || expected_; });
            expected_ = false;
            if (state_ == State::kStopping) return;
            looking = called() ? kLookingBefore : kLookingWhenExpected;
            if (!called()) continue;
        }
        const auto began = std::chrono::steady_clock::now();
        WriteOutcome outcome;
        outcome.write_error = write_all(request_.descriptor, request_.offset, request_.data, request_.size);
        // After a failed write nothing is to be confirmed.
        if (outcome.write_error == 0) outcome.sync_error = sync_all(request_.descriptor);
        last_took_.store(std::chrono::steady_clock::now() - began, std::memory_order_relaxed);
        bool is_watched = false;
        {
            const std::lock_guard lock(mutex_);
            outcome_ = outcome;
            state_.store(State::kOver, std::memory_order_release);
            std::swap(is_watched, watched_);
        }
        over_.notify_all();
        // A pipe that is full has been told already.
        while (is_watched && ::write(pipe_[1], "", 1) < 0 && errno == EINTR) continue;
    }
}

}  // namespace veloz
