// Rounding to listed values for training; see RoundListed of training.h.
#pragma once

#include <algorithm>

#include "training_kernel.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t FEW_VALUES = 32;  // up to here comparing with all is faster than searching

static CARSAM_INLINE Floats compared(const RoundListed& op, const Floats& value) {
    return op.factor != 0.0f ? nearest_integers(value * broadcast(op.factor)) : value;
}

static CARSAM_INLINE Floats nearest_listed(const RoundListed& op, const Floats& value) {
    const Floats number = compared(op, value);
    if (op.count <= FEW_VALUES) {
        Floats nearest = broadcast(op.table[0]);
        for (std::size_t i = 1; i < op.count; ++i) {
            const Ints above = where_above(number, broadcast(op.middles->numbers[i - 1]));
            nearest = choose(above, broadcast(op.table[i]), nearest);
        }
        return nearest;
    }
    float lanes[LANES];
    store(lanes, number);
    for (float& lane : lanes) lane = op.table[carsam::place_among(*op.middles, lane)];
    return load(lanes);
}

template <bool DROPS>
static void round_listed_with(const RoundListed& op, std::size_t first, std::size_t last) {
    for_lanes(last - first, [&](std::size_t column, std::size_t count) {
        const std::size_t place = first + column;
        const Floats value = load_some(op.values + place, count);
        const Ints kept = where_rounded<DROPS>(op.draw, place);
        store_some(op.result + place, choose(kept, nearest_listed(op, value), value), count);
    });
}

// Sums of gradients of the numbers above each middle, and of all: what a value of the table gets
// is the difference of two of them.
template <bool DROPS>
static void round_listed_backward_few(const RoundListed& op, std::size_t part, std::size_t first,
                                      std::size_t last) {
    Floats above[FEW_VALUES] = {};
    for_lanes(last - first, [&](std::size_t column, std::size_t count) {
        const std::size_t place = first + column;
        const Floats value = load_some(op.values + place, count);
        const Floats gradient = load_some(op.gradient + place, count);
        const Ints kept = where_rounded<DROPS>(op.draw, place);
        const Ints inside = where_within(value, broadcast(op.low), broadcast(op.high));
        const Ints passes = DROPS ? inside | inverted(kept) : inside;
        store_some(op.values_gradient + place, only(passes, gradient), count);
        const Floats number = compared(op, value), counted = only(kept, gradient);
        above[0] = above[0] + counted;
        for (std::size_t i = 1; i < op.count; ++i) {
            const Ints mask = where_above(number, broadcast(op.middles->numbers[i - 1]));
            above[i] = above[i] + only(mask, counted);
        }
    });
    double* sums = op.table_gradient + part * op.count;
    for (std::size_t i = 0; i < op.count; ++i) {
        const double next = i + 1 < op.count ? fold_sum(above[i + 1]) : 0.0;
        sums[i] = fold_sum(above[i]) - next;
    }
}

template <bool DROPS>
static void round_listed_backward_many(const RoundListed& op, std::size_t part, std::size_t first,
                                       std::size_t last) {
    double* sums = op.table_gradient + part * op.count;
    for_lanes(last - first, [&](std::size_t column, std::size_t count) {
        const std::size_t place = first + column;
        const Floats value = load_some(op.values + place, count);
        const Floats gradient = load_some(op.gradient + place, count);
        const Ints kept = where_rounded<DROPS>(op.draw, place);
        const Ints inside = where_within(value, broadcast(op.low), broadcast(op.high));
        const Ints passes = DROPS ? inside | inverted(kept) : inside;
        store_some(op.values_gradient + place, only(passes, gradient), count);
        float numbers[LANES], counted[LANES];
        store(numbers, compared(op, value));
        store(counted, only(kept, gradient));
        for (std::size_t i = 0; i < count; ++i) {
            sums[carsam::place_among(*op.middles, numbers[i])] += counted[i];
        }
    });
}

static void round_listed(const RoundListed& op, std::size_t first, std::size_t last) {
    if (op.draw.all) return round_listed_with<false>(op, first, last);
    round_listed_with<true>(op, first, last);
}

static void round_listed_backward(const RoundListed& op, std::size_t part, std::size_t first,
                                  std::size_t last) {
    if (op.count <= FEW_VALUES) {
        if (op.draw.all) return round_listed_backward_few<false>(op, part, first, last);
        return round_listed_backward_few<true>(op, part, first, last);
    }
    if (op.draw.all) return round_listed_backward_many<false>(op, part, first, last);
    round_listed_backward_many<true>(op, part, first, last);
}

static void place_sums(const carsam::PlaceSums& op, std::size_t first, std::size_t last) {
    const std::size_t size = (op.count + 1) * op.width;
    for (std::size_t row = first; row < last; ++row) {
        const float* numbers = op.numbers + row * op.keys;
        const float* values = op.values + row / op.rows * op.keys * op.width;
        float* sums = op.result + row * size;
        std::fill_n(sums, size, 0.0f);
        for (std::size_t key = 0; key < op.keys; ++key) {
            float* sum = sums + carsam::place_among(*op.middles, numbers[key]) * op.width;
            const float* value = values + key * op.width;
            for_lanes(op.width, [&](std::size_t column, std::size_t count) {
                store_some(sum + column,
                           load_some(sum + column, count) + load_some(value + column, count),
                           count);
            });
        }
    }
}

}  // namespace CARSAM_NAMESPACE
