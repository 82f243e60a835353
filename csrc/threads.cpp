#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace carsam {
namespace {

// How long a thread looks for the next job before it sleeps: decoding a box is a hundred jobs with
// some microseconds of Python between them, and waking a thread takes longer than most of the jobs.
constexpr std::chrono::microseconds AWAKE{100};
constexpr int LOOKS = 64;  // between two looks at the clock

void relax() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

class Pool {
  public:
    explicit Pool(std::size_t size) : size_(size) {
        try {
            while (workers_.size() + 1 < size) workers_.emplace_back([this] { work(); });
        } catch (const std::system_error&) {  // the system gives no more threads; fewer do
        }
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
            ++job_;
        }
        wake_.notify_all();
        for (std::thread& worker : workers_) worker.join();
    }

    void run(std::size_t count, std::size_t grain,
             const std::function<void(std::size_t)>& part) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            part_ = &part;
            count_ = count;
            grain_ = grain;
            error_ = nullptr;
            next_.store(0, std::memory_order_relaxed);
            open_ = true;
            job_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        do_parts();
        {
            std::lock_guard<std::mutex> lock(mutex_);
            open_ = false;  // a thread that wakes after this neither joins nor is waited for
        }
        while (busy_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
        if (error_) std::rethrow_exception(error_);
    }

    // Threads that were asked for, the caller's included.
    std::size_t size() const { return size_; }

  private:
    void work() {
        std::size_t seen = 0;
        for (;;) {
            look_for_job(seen);
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return job_.load() != seen; });
                seen = job_.load();
                if (stopping_) return;
                if (!open_) continue;
                busy_.fetch_add(1, std::memory_order_relaxed);
            }
            do_parts();
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    // Returns when there is a job after `seen`, or none has come for a while.
    void look_for_job(std::size_t seen) const {
        const auto end = std::chrono::steady_clock::now() + AWAKE;
        do {
            for (int look = 0; look < LOOKS; ++look) {
                if (job_.load(std::memory_order_acquire) != seen) return;
                relax();
            }
        } while (std::chrono::steady_clock::now() < end);
    }

    void do_parts() {
        try {
            for (;;) {
                const std::size_t first = next_.fetch_add(grain_, std::memory_order_relaxed);
                if (first >= count_) return;
                const std::size_t last = std::min(count_, first + grain_);
                for (std::size_t index = first; index < last; ++index) (*part_)(index);
            }
        } catch (...) {  // out of memory
            std::lock_guard<std::mutex> lock(mutex_);
            error_ = std::current_exception();
        }
    }

    const std::size_t size_;
    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<std::size_t> job_{0}, next_{0}, busy_{0};
    std::size_t count_ = 0, grain_ = 1;
    const std::function<void(std::size_t)>* part_ = nullptr;
    std::exception_ptr error_;
    bool open_ = false, stopping_ = false;
};

std::mutex* pool_mutex = new std::mutex;  // held while a job runs
Pool* pool = nullptr;  // never destroyed: threads must not be joined while a process ends
std::atomic<std::size_t> wanted_threads{1};

#if defined(__unix__) || defined(__APPLE__)
// The child of a fork has none of its parent's threads.
void forget_pool() {
    pool_mutex = new std::mutex;
    pool = nullptr;
}
const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
#endif

}  // namespace

void set_threads(std::size_t count) { wanted_threads = std::max<std::size_t>(count, 1); }

std::size_t threads() { return wanted_threads; }

void parallel_for(std::size_t count, std::size_t grain,
                  const std::function<void(std::size_t)>& part) {
    grain = std::max<std::size_t>(grain, 1);
    std::unique_lock<std::mutex> lock(*pool_mutex, std::try_to_lock);
    const std::size_t size = threads();
    if (count <= grain || size < 2 || !lock.owns_lock()) {
        for (std::size_t index = 0; index < count; ++index) part(index);
        return;
    }
    if (!pool || pool->size() != size) {
        delete pool;
        pool = nullptr;
        pool = new Pool(size);
    }
    pool->run(count, grain, part);
}

}  // namespace carsam
