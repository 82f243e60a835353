// Arrays of carsam/grids/fused.py in, into arrays that it made: all contiguous, of any shape, whose
// elements are counted here once more.

#include "training_module.h"

#include <optional>
#include <vector>

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include "checks.h"
#include "drivers.h"

namespace nb = nanobind;
using namespace carsam;

using Elements = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Results = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Sums = nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Keys = std::optional<nb::tuple>;  // (seed of 64 bits, bound of 32 bits)

template <class... Arrays>
static void require_sizes(std::size_t count, const Arrays&... arrays) {
    require(((arrays.size() == count) && ...), "arrays of as many elements");
}

static Draw read_draw(const Keys& keys) {
    if (!keys) return {true, 0, 0, 0};
    require(keys->size() == 2, "a draw of a seed and a bound");
    const auto seed = nb::cast<std::uint64_t>((*keys)[0]);
    return {false, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
            nb::cast<std::int32_t>((*keys)[1])};
}

// One grid, or one per column: what the kernels need of it.
struct UniformGrids {
    std::vector<float> inverse, low, high;
    RoundUniform op{};

    UniformGrids(const Elements& values, const Numbers& scale, const Numbers& zero, int levels,
                 const Keys& keys) {
        const std::size_t count = scale.size();
        require(count && zero.size() == count, "a zero point for every scale");
        require(count == 1 || (values.ndim() && values.shape(values.ndim() - 1) == count),
                "one grid, or one for every column");
        for (std::size_t i = 0; i < count; ++i) {
            inverse.push_back(1.0f / scale.data()[i]);
            low.push_back(-zero.data()[i]);
            high.push_back(static_cast<float>(levels) - zero.data()[i]);
        }
        op.values = values.data();
        op.columns = count == 1 ? 0 : count;
        op.scale = scale.data();
        op.inverse = inverse.data();
        op.low = low.data();
        op.high = high.data();
        op.draw = read_draw(keys);
    }
};

static void round_uniform(const Elements& values, const Numbers& scale, const Numbers& zero,
                          int levels, const Keys& draw, Results result) {
    UniformGrids grids(values, scale, zero, levels, draw);
    require_sizes(values.size(), result);
    grids.op.result = result.data();
    nb::gil_scoped_release release;
    run_round_uniform(grids.op, values.size());
}

static void round_uniform_backward(const Elements& values, const Numbers& scale,
                                   const Numbers& zero, int levels, const Keys& draw,
                                   const Elements& gradient, Results values_gradient,
                                   Sums scale_gradient) {
    UniformGrids grids(values, scale, zero, levels, draw);
    require_sizes(values.size(), gradient, values_gradient);
    require_sizes(scale.size(), scale_gradient);
    grids.op.gradient = gradient.data();
    grids.op.values_gradient = values_gradient.data();
    grids.op.scale_gradient = scale_gradient.data();
    nb::gil_scoped_release release;
    run_round_uniform_backward(grids.op, values.size());
}

// A grid of listed values: what the kernels need of it.
struct ListedGrid {
    Middles middles;
    RoundListed op{};

    ListedGrid(const Elements& values, const Numbers& table, const Numbers& between, float factor,
               float low, float high, const Keys& draw) {
        require(table.size() && table.size() <= 256, "a table of 1 to 256 values");
        require_sizes(table.size() - 1, between);
        middles = Middles(between.data(), between.size());
        op.values = values.data();
        op.table = table.data();
        op.middles = &middles;
        op.count = table.size();
        op.factor = factor;
        op.low = low;
        op.high = high;
        op.draw = read_draw(draw);
    }
};

static void round_listed(const Elements& values, const Numbers& table, const Numbers& middles,
                         float factor, float low, float high, const Keys& draw, Results result) {
    ListedGrid grid(values, table, middles, factor, low, high, draw);
    require_sizes(values.size(), result);
    grid.op.result = result.data();
    nb::gil_scoped_release release;
    run_round_listed(grid.op, values.size());
}

static void round_listed_backward(const Elements& values, const Numbers& table,
                                  const Numbers& middles, float factor, float low, float high,
                                  const Keys& draw, const Elements& gradient,
                                  Results values_gradient, Sums table_gradient) {
    ListedGrid grid(values, table, middles, factor, low, high, draw);
    require_sizes(values.size(), gradient, values_gradient);
    require_sizes(table.size(), table_gradient);
    grid.op.gradient = gradient.data();
    grid.op.values_gradient = values_gradient.data();
    grid.op.table_gradient = table_gradient.data();
    nb::gil_scoped_release release;
    run_round_listed_backward(grid.op, values.size());
}

static void place_sums(const Elements& numbers, const Numbers& middles, const Elements& values,
                       Results result) {
    require(numbers.ndim() == 3 && values.ndim() == 3, "groups of rows, and of values");
    const std::size_t groups = numbers.shape(0), rows = numbers.shape(1), keys = numbers.shape(2);
    const std::size_t width = values.shape(2);
    require(values.shape(0) == groups && values.shape(1) == keys, "values of every key");
    require(rows && keys, "rows and keys");
    require_sizes(groups * rows * (middles.size() + 1) * width, result);
    require(middles.size() <= Middles::MOST, "at most 65535 middles");
    const Middles between(middles.data(), middles.size());
    const PlaceSums op{numbers.data(), rows,          keys,  &between,
                       middles.size(), values.data(), width, result.data()};
    nb::gil_scoped_release release;
    run_place_sums(op, groups);
}

static void mix(const Elements& first, const Elements& second, const Keys& draw, Results result) {
    require_sizes(first.size(), second, result);
    require(draw.has_value(), "a draw");
    const Mix op{first.data(), second.data(), read_draw(draw), result.data()};
    nb::gil_scoped_release release;
    run_mix(op, first.size());
}

static void gelu(const Elements& values, const std::optional<Elements>& gradient, Results result) {
    require_sizes(values.size(), result);
    Gelu op{};
    op.values = values.data();
    if (gradient) {
        require_sizes(values.size(), *gradient);
        op.gradient = gradient->data();
        op.values_gradient = result.data();
    } else {
        op.result = result.data();
    }
    nb::gil_scoped_release release;
    run_gelu(op, values.size());
}

static void require_rows(const Elements& weight, const Numbers& scale, const Numbers& zero) {
    require(weight.ndim() == 2 && weight.shape(1) > 0, "rows of a weight");
    require_sizes(weight.shape(0), scale, zero);
}

static void round_rows(const Elements& codes, const Numbers& scale, const Numbers& zero, int levels,
                       const std::optional<Elements>& gradient, Results result,
                       std::optional<Sums> scale_gradient) {
    require_rows(codes, scale, zero);
    require_sizes(codes.size(), result);
    require(gradient.has_value() == scale_gradient.has_value(), "both gradients or none");
    RoundRows op{};
    op.codes = codes.data();
    op.columns = codes.shape(1);
    op.scale = scale.data();
    op.zero = zero.data();
    op.levels = static_cast<float>(levels);
    if (gradient) {
        require_sizes(codes.size(), *gradient);
        require_sizes(codes.shape(0), *scale_gradient);
        op.gradient = gradient->data();
        op.codes_gradient = result.data();
        op.scale_gradient = scale_gradient->data();
    } else {
        op.result = result.data();
    }
    nb::gil_scoped_release release;
    run_round_rows(op, codes.shape(0));
}

static void soft_rows(const Elements& floor, const Elements& sigmoid, const Numbers& scale,
                      const Numbers& zero, int levels, const std::optional<Elements>& gradient,
                      Results result) {
    require_rows(floor, scale, zero);
    require_sizes(floor.size(), sigmoid, result);
    SoftRows op{};
    op.floor = floor.data();
    op.sigmoid = sigmoid.data();
    op.columns = floor.shape(1);
    op.scale = scale.data();
    op.zero = zero.data();
    op.levels = static_cast<float>(levels);
    if (gradient) {
        require_sizes(floor.size(), *gradient);
        op.gradient = gradient->data();
        op.argument_gradient = result.data();
    } else {
        op.result = result.data();
    }
    nb::gil_scoped_release release;
    run_soft_rows(op, floor.shape(0));
}

void bind_training(nb::module_& module) {
    module.def("round_uniform", &round_uniform, nb::arg("values").noconvert(),
               nb::arg("scale").noconvert(), nb::arg("zero").noconvert(), nb::arg("levels"),
               nb::arg("draw").none(), nb::arg("result").noconvert());
    module.def("round_uniform_backward", &round_uniform_backward, nb::arg("values").noconvert(),
               nb::arg("scale").noconvert(), nb::arg("zero").noconvert(), nb::arg("levels"),
               nb::arg("draw").none(), nb::arg("gradient").noconvert(),
               nb::arg("values_gradient").noconvert(), nb::arg("scale_gradient").noconvert());
    module.def("round_listed", &round_listed, nb::arg("values").noconvert(),
               nb::arg("table").noconvert(), nb::arg("middles").noconvert(), nb::arg("factor"),
               nb::arg("low"), nb::arg("high"), nb::arg("draw").none(),
               nb::arg("result").noconvert());
    module.def("round_listed_backward", &round_listed_backward, nb::arg("values").noconvert(),
               nb::arg("table").noconvert(), nb::arg("middles").noconvert(), nb::arg("factor"),
               nb::arg("low"), nb::arg("high"), nb::arg("draw").none(),
               nb::arg("gradient").noconvert(), nb::arg("values_gradient").noconvert(),
               nb::arg("table_gradient").noconvert());
    module.def("place_sums", &place_sums, nb::arg("numbers").noconvert(),
               nb::arg("middles").noconvert(), nb::arg("values").noconvert(),
               nb::arg("result").noconvert());
    module.def("mix", &mix, nb::arg("first").noconvert(), nb::arg("second").noconvert(),
               nb::arg("draw"), nb::arg("result").noconvert());
    module.def("gelu", &gelu, nb::arg("values").noconvert(),
               nb::arg("gradient").noconvert().none(), nb::arg("result").noconvert());
    module.def("round_rows", &round_rows, nb::arg("codes").noconvert(),
               nb::arg("scale").noconvert(), nb::arg("zero").noconvert(), nb::arg("levels"),
               nb::arg("gradient").noconvert().none(), nb::arg("result").noconvert(),
               nb::arg("scale_gradient").noconvert().none());
    module.def("soft_rows", &soft_rows, nb::arg("floor").noconvert(),
               nb::arg("sigmoid").noconvert(), nb::arg("scale").noconvert(),
               nb::arg("zero").noconvert(), nb::arg("levels"),
               nb::arg("gradient").noconvert().none(), nb::arg("result").noconvert());
}
