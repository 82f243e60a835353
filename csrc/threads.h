// A pool of threads that share the parts of one job.
#pragma once

#include <cstddef>
#include <functional>

namespace carsam {

// Threads that a job may use, the caller's included: 1 until carsam/threads.py says more.
void set_threads(std::size_t count);
std::size_t threads();

// Calls part(index) for every index below `count`, on several threads, `grain` neighbours on one;
// returns when all are done. A second caller meanwhile does all parts itself.
void parallel_for(std::size_t count, std::size_t grain,
                  const std::function<void(std::size_t)>& part);

}  // namespace carsam
