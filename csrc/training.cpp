// Drivers of training.h. Parts have sizes that do not depend on the number of threads, and their
// sums are added up in their order, so threads do not change bits.

#include <algorithm>
#include <vector>

#include "dispatch.h"
#include "drivers.h"
#include "threads.h"

namespace carsam {
namespace {

constexpr std::size_t ELEMENTS_AT_ONCE = 1 << 13;  // of a part; few enough for sums in float32
constexpr std::size_t PARTS_AT_ONCE = 4;           // fewer are not worth another thread

// Calls part(index, first, last) for parts of whole rows of `columns` elements.
template <class Part>
void for_parts(std::size_t elements, std::size_t columns, Part part) {
    const std::size_t size = std::max<std::size_t>(1, ELEMENTS_AT_ONCE / columns) * columns;
    parallel_for((elements + size - 1) / size, PARTS_AT_ONCE, [&](std::size_t index) {
        part(index, index * size, std::min(elements, (index + 1) * size));
    });
}

// Calls backward(sums, part, first, last), and adds up the `count` sums of all parts.
template <class Backward>
void add_up_parts(std::size_t elements, std::size_t columns, std::size_t count, double* total,
                  Backward backward) {
    const std::size_t size = std::max<std::size_t>(1, ELEMENTS_AT_ONCE / columns) * columns;
    std::vector<double> sums((elements + size - 1) / size * count, 0.0);
    for_parts(elements, columns, [&](std::size_t part, std::size_t first, std::size_t last) {
        backward(sums.data(), part, first, last);
    });
    std::fill_n(total, count, 0.0);
    for (std::size_t i = 0; i < sums.size(); ++i) total[i % count] += sums[i];
}

}  // namespace

void run_round_uniform(const RoundUniform& op, std::size_t elements) {
    const TrainingKernels& set = kernels().training;
    for_parts(elements, std::max<std::size_t>(op.columns, 1),
              [&](std::size_t, std::size_t first, std::size_t last) {
                  set.round_uniform(op, first, last);
              });
}

void run_round_uniform_backward(const RoundUniform& op, std::size_t elements) {
    const TrainingKernels& set = kernels().training;
    const std::size_t columns = std::max<std::size_t>(op.columns, 1);
    add_up_parts(elements, columns, columns, op.scale_gradient,
                 [&](double* sums, std::size_t part, std::size_t first, std::size_t last) {
                     RoundUniform own = op;
                     own.scale_gradient = sums;
                     set.round_uniform_backward(own, part, first, last);
                 });
}

void run_round_listed(const RoundListed& op, std::size_t elements) {
    const TrainingKernels& set = kernels().training;
    for_parts(elements, 1, [&](std::size_t, std::size_t first, std::size_t last) {
        set.round_listed(op, first, last);
    });
}

void run_round_listed_backward(const RoundListed& op, std::size_t elements) {
    const TrainingKernels& set = kernels().training;
    add_up_parts(elements, 1, op.count, op.table_gradient,
                 [&](double* sums, std::size_t part, std::size_t first, std::size_t last) {
                     RoundListed own = op;
                     own.table_gradient = sums;
                     set.round_listed_backward(own, part, first, last);
                 });
}

void run_place_sums(const PlaceSums& op, std::size_t groups) {
    const TrainingKernels& set = kernels().training;
    for_parts(groups * op.rows * op.keys, op.keys,
              [&](std::size_t, std::size_t first, std::size_t last) {
                  set.place_sums(op, first / op.keys, last / op.keys);
              });
}

void run_mix(const Mix& op, std::size_t elements) {
    const TrainingKernels& set = kernels().training;
    for_parts(elements, 1, [&](std::size_t, std::size_t first, std::size_t last) {
        set.mix(op, first, last);
    });
}

void run_gelu(const Gelu& op, std::size_t elements) {
    const TrainingKernels& set = kernels().training;
    for_parts(elements, 1, [&](std::size_t, std::size_t first, std::size_t last) {
        op.gradient ? set.gelu_backward(op, first, last) : set.gelu(op, first, last);
    });
}

void run_round_rows(const RoundRows& op, std::size_t rows) {
    const TrainingKernels& set = kernels().training;
    for_parts(rows * op.columns, op.columns,
              [&](std::size_t, std::size_t first, std::size_t last) {
                  const std::size_t row = first / op.columns, end = last / op.columns;
                  op.gradient ? set.round_rows_backward(op, row, end) : set.round_rows(op, row, end);
              });
}

void run_soft_rows(const SoftRows& op, std::size_t rows) {
    const TrainingKernels& set = kernels().training;
    for_parts(rows * op.columns, op.columns,
              [&](std::size_t, std::size_t first, std::size_t last) {
                  const std::size_t row = first / op.columns, end = last / op.columns;
                  op.gradient ? set.soft_rows_backward(op, row, end) : set.soft_rows(op, row, end);
              });
}

}  // namespace carsam
