// Forks while other threads take and give blocks and share jobs; every child must be able to do both.

#include <atomic>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "memory.h"
#include "threads.h"

constexpr int FORKS = 300;
constexpr unsigned SECONDS = 20;  // after which a child is taken for dead

int main() {
    carsam::set_threads(2);
    std::atomic<bool> ends{false};
    std::vector<std::thread> others;
    for (int i = 0; i < 3; ++i) {
        others.emplace_back([&] {
            while (!ends) {
                carsam::give_block(carsam::take_block(1 << 12));
                carsam::parallel_for(2, 1, [](std::size_t) {});
            }
        });
    }
    int failed = 0;
    for (int i = 0; i < FORKS && !failed; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(SECONDS);
            carsam::give_block(carsam::take_block(1 << 12));
            carsam::parallel_for(2, 1, [](std::size_t) {});
            _exit(0);
        }
        int status = 1;
        waitpid(child, &status, 0);
        failed += status != 0;
    }
    ends = true;
    for (std::thread& other : others) other.join();
    return failed;
}
