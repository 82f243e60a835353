// Fake quantization for training, one pass forward and one backward; see training.h.
#pragma once

#include "linear_kernel.h"
#include "masks.h"
#include "training.h"

namespace CARSAM_NAMESPACE {

using carsam::Draw;
using carsam::RoundListed;
using carsam::RoundRows;
using carsam::RoundUniform;
using carsam::SoftRows;

// Calls function(column, count) for sixteen columns at a time.
template <class Function>
static CARSAM_INLINE void for_lanes(std::size_t columns, Function function) {
    for (std::size_t column = 0; column < columns; column += LANES) {
        const std::size_t left = columns - column;
        function(column, left < LANES ? left : std::size_t{LANES});
    }
}

static CARSAM_INLINE Floats nearest_integers(const Floats& value) {
    return (value + broadcast(ROUNDING)) - broadcast(ROUNDING);
}

// Between two bounds; NaN stays NaN.
static CARSAM_INLINE Floats between(const Floats& low, const Floats& high, const Floats& value) {
    return minimum(high, maximum(low, value));
}

template <bool DROPS>
static CARSAM_INLINE Ints where_rounded(const Draw& draw, std::size_t first) {
    return DROPS ? where_kept(draw, first) : broadcast(-1);
}

struct UniformLanes {
    Floats scale, inverse, low, high;
};

template <bool PER_COLUMN>
static CARSAM_INLINE UniformLanes uniform_lanes(const RoundUniform& op, std::size_t column,
                                                std::size_t count) {
    if (PER_COLUMN) {
        return {load_some(op.scale + column, count), load_some(op.inverse + column, count),
                load_some(op.low + column, count), load_some(op.high + column, count)};
    }
    return {broadcast(*op.scale), broadcast(*op.inverse), broadcast(*op.low), broadcast(*op.high)};
}

template <bool PER_COLUMN, bool DROPS>
static void round_uniform_with(const RoundUniform& op, std::size_t first, std::size_t last) {
    const std::size_t columns = PER_COLUMN ? op.columns : last - first;
    for (std::size_t start = first; start < last; start += columns) {
        for_lanes(columns, [&](std::size_t column, std::size_t count) {
            const UniformLanes grid = uniform_lanes<PER_COLUMN>(op, column, count);
            const std::size_t place = start + column;
            const Floats value = load_some(op.values + place, count);
            const Floats steps = nearest_integers(value * grid.inverse);
            const Floats rounded = between(grid.low, grid.high, steps) * grid.scale;
            const Ints kept = where_rounded<DROPS>(op.draw, place);
            store_some(op.result + place, choose(kept, rounded, value), count);
        });
    }
}

template <bool PER_COLUMN, bool DROPS>
static void round_uniform_backward_with(const RoundUniform& op, std::size_t part,
                                        std::size_t first, std::size_t last) {
    const std::size_t columns = PER_COLUMN ? op.columns : last - first;
    double* sums = op.scale_gradient + part * (PER_COLUMN ? columns : 1);
    Floats sum = broadcast(0.0f);
    for (std::size_t start = first; start < last; start += columns) {
        for_lanes(columns, [&](std::size_t column, std::size_t count) {
            const UniformLanes grid = uniform_lanes<PER_COLUMN>(op, column, count);
            const std::size_t place = start + column;
            const Floats gradient = load_some(op.gradient + place, count);
            const Floats exact = load_some(op.values + place, count) * grid.inverse;
            const Floats rounded = nearest_integers(exact);
            const Floats steps = between(grid.low, grid.high, rounded);
            const Ints inside = where_equal(steps, rounded);
            const Ints kept = where_rounded<DROPS>(op.draw, place);
            const Ints passes = DROPS ? inside | inverted(kept) : inside;
            store_some(op.values_gradient + place, only(passes, gradient), count);
            const Floats slope = only(kept, gradient) * (steps - only(inside, exact));
            if (PER_COLUMN) {
                float lanes[LANES];
                store(lanes, slope);
                for (std::size_t i = 0; i < count; ++i) sums[column + i] += lanes[i];
            } else {
                sum = sum + slope;
            }
        });
    }
    if (!PER_COLUMN) *sums = fold_sum(sum);
}

static void round_uniform(const RoundUniform& op, std::size_t first, std::size_t last) {
    if (op.columns) {
        if (op.draw.all) return round_uniform_with<true, false>(op, first, last);
        return round_uniform_with<true, true>(op, first, last);
    }
    if (op.draw.all) return round_uniform_with<false, false>(op, first, last);
    round_uniform_with<false, true>(op, first, last);
}

static void round_uniform_backward(const RoundUniform& op, std::size_t part, std::size_t first,
                                   std::size_t last) {
    if (op.columns) {
        if (op.draw.all) return round_uniform_backward_with<true, false>(op, part, first, last);
        return round_uniform_backward_with<true, true>(op, part, first, last);
    }
    if (op.draw.all) return round_uniform_backward_with<false, false>(op, part, first, last);
    round_uniform_backward_with<false, true>(op, part, first, last);
}

static void mix(const carsam::Mix& op, std::size_t first, std::size_t last) {
    for_lanes(last - first, [&](std::size_t column, std::size_t count) {
        const std::size_t place = first + column;
        const Floats mixed = choose(where_kept(op.draw, place), load_some(op.second + place, count),
                                    load_some(op.first + place, count));
        store_some(op.result + place, mixed, count);
    });
}

static void gelu_values(const carsam::Gelu& op, std::size_t first, std::size_t last) {
    for_lanes(last - first, [&](std::size_t column, std::size_t count) {
        const std::size_t place = first + column;
        store_some(op.result + place, gelu(load_some(op.values + place, count)), count);
    });
}

// The slope is Phi(x) + x phi(x), phi(x) = exp(-x^2 / 2) / sqrt(2 pi).
static void gelu_backward(const carsam::Gelu& op, std::size_t first, std::size_t last) {
    const Floats half = broadcast(0.5f), to_powers_of_2 = broadcast(-0.72134752f);
    const Floats density_at_0 = broadcast(0.39894228f), root = broadcast(0.70710678f);
    for_lanes(last - first, [&](std::size_t column, std::size_t count) {
        const std::size_t place = first + column;
        const Floats x = load_some(op.values + place, count);
        const Floats below = half + half * erf(x * root);
        const Floats density = density_at_0 * exp2(x * x * to_powers_of_2);
        const Floats gradient = load_some(op.gradient + place, count);
        store_some(op.values_gradient + place, gradient * (below + x * density), count);
    });
}

static void round_rows(const RoundRows& op, std::size_t first, std::size_t last) {
    const Floats bottom = broadcast(0.0f), top = broadcast(op.levels);
    for (std::size_t row = first; row < last; ++row) {
        const Floats scale = broadcast(op.scale[row]), zero = broadcast(op.zero[row]);
        for_lanes(op.columns, [&](std::size_t column, std::size_t count) {
            const std::size_t place = row * op.columns + column;
            const Floats code = between(bottom, top, load_some(op.codes + place, count));
            store_some(op.result + place, (nearest_integers(code) - zero) * scale, count);
        });
    }
}

static void round_rows_backward(const RoundRows& op, std::size_t first, std::size_t last) {
    const Floats bottom = broadcast(0.0f), top = broadcast(op.levels);
    for (std::size_t row = first; row < last; ++row) {
        const Floats scale = broadcast(op.scale[row]), zero = broadcast(op.zero[row]);
        Floats sum = broadcast(0.0f);
        for_lanes(op.columns, [&](std::size_t column, std::size_t count) {
            const std::size_t place = row * op.columns + column;
            const Floats gradient = load_some(op.gradient + place, count);
            const Floats code = load_some(op.codes + place, count);
            const Ints inside = where_within(code, bottom, top);
            store_some(op.codes_gradient + place, only(inside, gradient * scale), count);
            const Floats steps = nearest_integers(between(bottom, top, code)) - zero;
            sum = sum + gradient * steps;
        });
        op.scale_gradient[row] = fold_sum(sum);
    }
}

// AdaRound's stretched sigmoid, before it is cut off at 0 and 1.
static CARSAM_INLINE Floats stretched(const Floats& sigmoid) {
    return sigmoid * broadcast(1.2f) + broadcast(-0.1f);
}

static CARSAM_INLINE Floats share(const Floats& sigmoid) {
    return between(broadcast(0.0f), broadcast(1.0f), stretched(sigmoid));
}

static void soft_rows(const SoftRows& op, std::size_t first, std::size_t last) {
    const Floats bottom = broadcast(0.0f), top = broadcast(op.levels);
    for (std::size_t row = first; row < last; ++row) {
        const Floats scale = broadcast(op.scale[row]), zero = broadcast(op.zero[row]);
        for_lanes(op.columns, [&](std::size_t column, std::size_t count) {
            const std::size_t place = row * op.columns + column;
            const Floats floor = load_some(op.floor + place, count);
            const Floats code = (floor + share(load_some(op.sigmoid + place, count))) + zero;
            const Floats steps = between(bottom, top, code) - zero;
            store_some(op.result + place, steps * scale, count);
        });
    }
}

static void soft_rows_backward(const SoftRows& op, std::size_t first, std::size_t last) {
    const Floats bottom = broadcast(0.0f), top = broadcast(op.levels), one = broadcast(1.0f);
    const Floats span = broadcast(1.2f);
    for (std::size_t row = first; row < last; ++row) {
        const Floats scale = broadcast(op.scale[row]), zero = broadcast(op.zero[row]);
        for_lanes(op.columns, [&](std::size_t column, std::size_t count) {
            const std::size_t place = row * op.columns + column;
            const Floats sigmoid = load_some(op.sigmoid + place, count);
            const Floats code = (load_some(op.floor + place, count) + share(sigmoid)) + zero;
            const Ints inside = where_within(code, bottom, top) &
                                where_within(stretched(sigmoid), bottom, one);
            const Floats slope = scale * (sigmoid * (one - sigmoid)) * span;
            const Floats gradient = load_some(op.gradient + place, count);
            store_some(op.argument_gradient + place, only(inside, gradient * slope), count);
        });
    }
}

}  // namespace CARSAM_NAMESPACE
