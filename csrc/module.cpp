// carsam.runtime._kernels: numpy arrays in, into numpy arrays that the caller made. The caller,
// carsam/runtime/native.py, has made all shapes fit; this file checks types and contiguity.

#include <optional>
#include <string>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "dispatch.h"
#include "drivers.h"
#include "memory.h"
#include "threads.h"

namespace nb = nanobind;
using namespace carsam;

template <class Number, int DIMENSIONS>
using In = nb::ndarray<const Number, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
template <class Number, int DIMENSIONS = 2>
using Out = nb::ndarray<Number, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::device::cpu>;  // may be apart
using FloatVector = In<float, 1>;
using FloatMatrix = In<float, 2>;
using Indices = In<std::int32_t, 2>;
using Values = std::optional<Out<float>>;
using Codes = std::optional<Out<std::uint8_t>>;

template <class Array> static auto pointer(const std::optional<Array>& array) {
    return array ? array->data() : nullptr;
}

// (scale, inverse scale, zero point, highest code)
static Grid read_grid(const nb::tuple& grid) {
    return {nb::cast<float>(grid[0]), nb::cast<float>(grid[1]), nb::cast<int>(grid[2]),
            nb::cast<int>(grid[3])};
}

static std::size_t stride_of(const Rows& rows) {
    if (rows.shape(1) > 1 && rows.stride(1) != 1) throw nb::value_error("rows must be contiguous");
    return static_cast<std::size_t>(rows.stride(0));
}

static void linear(const Rows& codes, const nb::tuple& grid, const In<std::uint8_t, 2>& packed,
                   int bits, const FloatVector& scale, const In<std::int32_t, 1>& weight_zero,
                   const std::optional<FloatVector>& bias, int activation,
                   const std::optional<FloatMatrix>& residual, const Values& values,
                   const Codes& output, const std::optional<FloatVector>& output_inverse_scale,
                   const std::optional<FloatVector>& output_zero,
                   const std::optional<FloatVector>& output_maximum) {
    Linear op{};
    op.codes = codes.data();
    op.rows = codes.shape(0);
    op.stride = stride_of(codes);
    op.grid = read_grid(grid);
    op.weight = {packed.data(), packed.shape(1), packed.shape(0), codes.shape(1), bits};
    op.scale = scale.data();
    op.bias = pointer(bias);
    op.weight_zero = weight_zero.data();
    op.activation = static_cast<Activation>(activation);
    op.residual = pointer(residual);
    op.residual_rows = residual ? residual->shape(0) : 1;
    op.values = pointer(values);
    op.output = pointer(output);
    op.output_inverse_scale = pointer(output_inverse_scale);
    op.output_zero = pointer(output_zero);
    op.output_maximum = pointer(output_maximum);
    nb::gil_scoped_release release;
    run_linear(op);
}

static void layer_norm(const FloatMatrix& values, const FloatVector& weight,
                       const FloatVector& bias, float epsilon, int activation,
                       const Values& result, const Codes& output, const std::optional<nb::tuple>& grid) {
    LayerNorm op{};
    op.values = values.data();
    op.columns = values.shape(1);
    op.weight = weight.data();
    op.bias = bias.data();
    op.epsilon = epsilon;
    op.activation = static_cast<Activation>(activation);
    op.result = pointer(result);
    op.output = pointer(output);
    if (grid) op.grid = read_grid(*grid);
    nb::gil_scoped_release release;
    run_layer_norm(op, values.shape(0));
}

static void activate(const FloatMatrix& values, const FloatVector& bias, int activation,
                     Out<float> result) {
    const Activate op{values.data(), values.shape(1), bias.data(),
                      static_cast<Activation>(activation), result.data()};
    nb::gil_scoped_release release;
    run_activate(op, values.shape(0));
}

static void quantize(const FloatMatrix& values, const std::optional<FloatMatrix>& addend,
                     const std::optional<nb::tuple>& grid,
                     const std::optional<FloatVector>& inverse_scale,
                     const std::optional<FloatVector>& zero,
                     const std::optional<FloatVector>& maximum, Out<std::uint8_t> output) {
    Quantize op{};
    op.values = values.data();
    op.columns = values.shape(1);
    op.addend = pointer(addend);
    op.addend_rows = addend ? addend->shape(0) : 1;
    if (grid) op.grid = read_grid(*grid);
    op.inverse_scale = pointer(inverse_scale);
    op.zero = pointer(zero);
    op.maximum = pointer(maximum);
    op.output = output.data();
    nb::gil_scoped_release release;
    run_quantize(op, values.shape(0));
}

// (values, middles, bits); no values for None
static ValueTable read_table(const std::optional<nb::tuple>& table) {
    if (!table) return {};
    return {nb::cast<FloatVector>((*table)[0]).data(), nb::cast<FloatVector>((*table)[1]).data(),
            nb::cast<int>((*table)[2])};
}

static void round_to_table(const FloatMatrix& numbers, const nb::tuple& table, Out<float> result) {
    const RoundToTable op{numbers.data(), read_table(table), result.data()};
    nb::gil_scoped_release release;
    run_round_to_table(op, numbers.size());
}

static void attention(const Rows& query, const Rows& key, const Rows& value,
                      const nb::tuple& grids, const Indices& query_rows, const Indices& key_rows,
                      const Indices& output_rows, std::size_t heads, const nb::tuple& scales,
                      const std::optional<In<std::uint8_t, 1>>& numerators,
                      const std::optional<nb::tuple>& table,
                      const std::optional<FloatMatrix>& relative_rows,
                      const std::optional<FloatMatrix>& relative_columns, std::size_t lines,
                      const Values& values, const Codes& output,
                      const std::optional<nb::tuple>& output_grid) {
    Attention op{};
    op.query = query.data();
    op.key = key.data();
    op.value = value.data();
    op.query_stride = stride_of(query);
    op.key_stride = stride_of(key);
    op.value_stride = stride_of(value);
    op.query_grid = read_grid(grids[0]);
    op.key_grid = read_grid(grids[1]);
    op.probability_grid = read_grid(grids[2]);
    op.value_grid = read_grid(grids[3]);
    op.query_rows = query_rows.data();
    op.key_rows = key_rows.data();
    op.output_rows = output_rows.data();
    op.groups = query_rows.shape(0);
    op.queries = query_rows.shape(1);
    op.keys = key_rows.shape(1);
    op.heads = heads;
    op.head_dim = query.shape(1) / heads;
    op.score_scale = nb::cast<float>(scales[0]);
    op.value_scale = nb::cast<float>(scales[1]);
    op.relative_scale = nb::cast<float>(scales[2]);
    op.numerators = pointer(numerators);
    op.table = read_table(table);
    op.relative_rows = pointer(relative_rows);
    op.relative_columns = pointer(relative_columns);
    op.relative_stride = relative_rows ? relative_rows->shape(1) : 0;
    op.lines = lines;
    op.line_length = op.keys / lines;
    op.values = pointer(values);
    op.output = pointer(output);
    if (output_grid) op.output_grid = read_grid(*output_grid);
    nb::gil_scoped_release release;
    run_attention(op);
}

static void upscale(const In<float, 3>& image, std::size_t size, const In<float, 3>& panels1,
                    const FloatVector& bias1, const FloatVector& norm_weight,
                    const FloatVector& norm_bias, float epsilon, const In<float, 3>& panels2,
                    const FloatVector& bias2, const In<float, 3>& kernels, Out<float, 4> result) {
    Upscale op{};
    op.image = image.data();
    op.size = size;
    op.channels = image.shape(2);
    op.panels1 = panels1.data();
    op.bias1 = bias1.data();
    op.channels1 = norm_weight.shape(0);
    op.norm_weight = norm_weight.data();
    op.norm_bias = norm_bias.data();
    op.epsilon = epsilon;
    op.panels2 = panels2.data();
    op.bias2 = bias2.data();
    op.channels2 = kernels.shape(2);
    op.kernels = kernels.data();
    op.masks = kernels.shape(1);
    op.result = result.data();
    nb::gil_scoped_release release;
    run_upscale(op, image.shape(0));
}

static nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>> empty(std::size_t bytes) {
    void* block = take_block(bytes);
    nb::capsule owner(block, [](void* memory) noexcept { give_block(memory); });
    return {static_cast<std::uint8_t*>(block), {bytes}, owner};
}

static void use_set_or_throw(const std::string& name) {
    if (!use_set(name)) throw nb::value_error(("instruction set " + name).c_str());
}

NB_MODULE(_kernels, module) {
    module.def("linear", &linear, nb::arg("codes"), nb::arg("grid"), nb::arg("packed"),
               nb::arg("bits"), nb::arg("scale"), nb::arg("weight_zero"),
               nb::arg("bias").none(), nb::arg("activation"), nb::arg("residual").none(),
               nb::arg("values").none(), nb::arg("output").none(),
               nb::arg("output_inverse_scale").none(), nb::arg("output_zero").none(),
               nb::arg("output_maximum").none());
    module.def("layer_norm", &layer_norm, nb::arg("values"), nb::arg("weight"), nb::arg("bias"),
               nb::arg("epsilon"), nb::arg("activation"), nb::arg("result").none(), nb::arg("output").none(),
               nb::arg("grid").none());
    module.def("activate", &activate, nb::arg("values"), nb::arg("bias"), nb::arg("activation"),
               nb::arg("result"));
    module.def("quantize", &quantize, nb::arg("values"), nb::arg("addend").none(), nb::arg("grid").none(),
               nb::arg("inverse_scale").none(), nb::arg("zero").none(), nb::arg("maximum").none(),
               nb::arg("output"));
    module.def("round_to_table", &round_to_table, nb::arg("numbers"), nb::arg("table"),
               nb::arg("result"));
    module.def("attention", &attention, nb::arg("query"), nb::arg("key"), nb::arg("value"),
               nb::arg("grids"), nb::arg("query_rows"), nb::arg("key_rows"),
               nb::arg("output_rows"), nb::arg("heads"), nb::arg("scales"),
               nb::arg("numerators").none(), nb::arg("table").none(),
               nb::arg("relative_rows").none(), nb::arg("relative_columns").none(), nb::arg("lines"), nb::arg("values").none(), nb::arg("output").none(),
               nb::arg("output_grid").none());
    module.def("upscale", &upscale, nb::arg("image"), nb::arg("size"), nb::arg("panels1"),
               nb::arg("bias1"), nb::arg("norm_weight"), nb::arg("norm_bias"),
               nb::arg("epsilon"), nb::arg("panels2"), nb::arg("bias2"), nb::arg("kernels"),
               nb::arg("result"));
    module.def("empty", &empty, nb::arg("bytes"));
    module.def("compiled_sets", &compiled_sets);
    module.def("usable_sets", &usable_sets);
    module.def("current_set", [] { return std::string(kernels().name); });
    module.def("use_set", &use_set_or_throw, nb::arg("name"));
    module.def("threads", &threads);
    module.def("set_threads", &set_threads, nb::arg("count"));
}
