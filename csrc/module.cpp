// carsam.runtime._kernels: numpy arrays in, into numpy arrays that the caller made. The caller,
// carsam/runtime/native.py, has made all shapes fit; here they are checked once more.

#include <optional>
#include <string>
#include <type_traits>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "checks.h"
#include "dispatch.h"
#include "drivers.h"
#include "memory.h"
#include "threads.h"
#include "training_module.h"

namespace nb = nanobind;
using namespace carsam;

template <class Number, int DIMENSIONS>
using In = nb::ndarray<const Number, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
template <class Number, int DIMENSIONS = 2>
using Out = nb::ndarray<Number, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::device::cpu>;  // of any stride
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
    require(grid.size() == 4, "a grid of four numbers");
    const Grid read{nb::cast<float>(grid[0]), nb::cast<float>(grid[1]), nb::cast<int>(grid[2]),
                    nb::cast<int>(grid[3])};
    require(read.maximum >= 1 && read.maximum <= 255 && !(read.maximum & (read.maximum + 1)),
            "a highest code of 1 to 8 bits, all of them 1");
    require(read.zero_point >= 0 && read.zero_point <= read.maximum, "a zero point among the codes");
    return read;
}

template <class Rows> static std::size_t stride_of(const Rows& rows) {
    require(rows.shape(1) < 2 || rows.stride(1) == 1, "rows that are contiguous");
    require(rows.shape(0) < 2 || rows.stride(0) >= 0, "rows in ascending order");
    return static_cast<std::size_t>(rows.stride(0));
}

// The norm of (rows, columns) `values`, which may be its result, and codes of it: (what is added first or
// None, whether it is subtracted again, grid, table or None, codes) each.
static NormOnGrids read_norm_on_grids(const float* values, std::size_t rows, std::size_t columns,
                                      const FloatVector& weight, const FloatVector& bias,
                                      float epsilon, float* result,
                                      const std::vector<nb::tuple>& outputs) {
    require(weight.shape(0) == columns && bias.shape(0) == columns,
            "a weight and a bias for every column");
    NormOnGrids op{};
    op.norm.values = values;
    op.norm.columns = columns;
    op.norm.weight = weight.data();
    op.norm.bias = bias.data();
    op.norm.epsilon = epsilon;
    op.norm.result = result;
    for (const nb::tuple& output : outputs) {
        require(output.size() == 5, "what is added, whether it is undone, a grid, a table and codes");
        const auto addend = nb::cast<std::optional<FloatMatrix>>(output[0], false);
        const auto table = nb::cast<std::optional<In<std::uint8_t, 1>>>(output[3], false);
        const auto codes = nb::cast<Out<std::uint8_t>>(output[4], false);
        require_repeated(addend, rows, columns);
        require_count(table, 256, "a table of 256 bytes");
        require_shape(codes, rows, columns, "codes of the values' shape");
        Quantize quantize{};
        quantize.values = result;
        quantize.columns = columns;
        quantize.addend = pointer(addend);
        quantize.addend_rows = addend ? addend->shape(0) : 1;
        quantize.undone = nb::cast<bool>(output[1]);
        quantize.grid = read_grid(nb::cast<nb::tuple>(output[2]));
        quantize.output = codes.data();
        op.codes.push_back(quantize);
        if (table) op.tables.push_back({codes.data(), columns, columns, byte_table(table->data())});
    }
    return op;
}

static void norm_on_grids(const FloatMatrix& values, const FloatVector& weight,
                          const FloatVector& bias, float epsilon, Out<float> result,
                          const std::vector<nb::tuple>& outputs) {
    const std::size_t rows = values.shape(0), columns = values.shape(1);
    require_shape(result, rows, columns, "a result of the values' shape");
    const NormOnGrids op = read_norm_on_grids(values.data(), rows, columns, weight, bias, epsilon,
                                              result.data(), outputs);
    if (!columns) return;
    nb::gil_scoped_release release;
    run_norm_on_grids(op, rows);
}

static void linear(const Rows& codes, const nb::tuple& grid, const In<std::uint8_t, 2>& packed,
                   int bits, const FloatVector& scale, const In<std::int32_t, 1>& weight_zero,
                   const std::optional<FloatVector>& bias, int activation,
                   const std::optional<FloatMatrix>& residual, const Values& values,
                   const Codes& output, const std::optional<FloatVector>& output_inverse_scale,
                   const std::optional<FloatVector>& output_zero,
                   const std::optional<FloatVector>& output_maximum,
                   const std::optional<nb::tuple>& norm) {
    const std::size_t outputs = packed.shape(0), columns = codes.shape(1);
    const std::size_t padded = rounded_up(outputs, PANEL);
    require(bits >= 1 && bits <= 8, "1 to 8 bits");
    require(columns && columns <= MOST_COLUMNS, "1 to 32768 columns");
    require(packed.shape(1) == (columns * bits + 7) / 8, "packed rows of as many codes");
    require(scale.shape(0) == padded && weight_zero.shape(0) == padded,
            "a scale and a zero point for every padded output column");
    require_count(bias, padded, "a bias for every padded output column");
    require_repeated(residual, codes.shape(0), outputs);
    require_result(values, output, codes.shape(0), outputs);
    for (std::size_t i = 0; i < padded; ++i) {
        require(-(1 << (bits - 1)) <= weight_zero.data()[i] &&
                    weight_zero.data()[i] < 1 << (bits - 1),
                "zero points among the signed weight codes");
    }
    for (const auto& numbers : {&output_inverse_scale, &output_zero, &output_maximum}) {
        require(output.has_value() == numbers->has_value(), "grids of the result with codes");
        require_count(*numbers, padded, "a grid for every padded output column");
    }
    if (!codes.shape(0) || !outputs) return;
    Linear op{};
    op.codes = codes.data();
    op.rows = codes.shape(0);
    op.stride = stride_of(codes);
    op.grid = read_grid(grid);
    require_codes(codes, op.grid);
    op.weight = {packed.data(), packed.shape(1), packed.shape(0), codes.shape(1), bits};
    op.scale = scale.data();
    op.bias = pointer(bias);
    op.weight_zero = weight_zero.data();
    op.activation = read_activation(activation);
    op.residual = pointer(residual);
    op.residual_rows = residual ? residual->shape(0) : 1;
    op.values = pointer(values);
    op.output = pointer(output);
    op.output_inverse_scale = pointer(output_inverse_scale);
    op.output_zero = pointer(output_zero);
    op.output_maximum = pointer(output_maximum);
    std::optional<NormOnGrids> then;
    if (norm) {
        require(norm->size() == 4 && values, "weight, bias, epsilon and outputs of a norm of values");
        then = read_norm_on_grids(
            op.values, op.rows, outputs, nb::cast<FloatVector>((*norm)[0], false),
            nb::cast<FloatVector>((*norm)[1], false), nb::cast<float>((*norm)[2]), op.values,
            nb::cast<std::vector<nb::tuple>>((*norm)[3]));
    }
    nb::gil_scoped_release release;
    run_linear(op, then ? &*then : nullptr);
}

template <class Number>
static void float_product(const FloatMatrix& values, const In<Number, 2>& weight,
                          Out<float> result) {
    require(weight.shape(1) == values.shape(1), "a weight of as many columns as the values");
    require_shape(result, values.shape(0), weight.shape(0), "a result of rows times rows");
    FloatProduct op{values.data(), values.shape(0), values.shape(1), weight.shape(0), nullptr,
                    nullptr,       result.data()};
    if constexpr (std::is_same_v<Number, double>) {
        op.weight_in_double = weight.data();
    } else {
        op.weight = weight.data();
    }
    nb::gil_scoped_release release;
    run_float_product(op);
}

static void layer_norm(const FloatMatrix& values, const FloatVector& weight,
                       const FloatVector& bias, float epsilon, int activation,
                       const Values& result, const Codes& output, const std::optional<nb::tuple>& grid) {
    const std::size_t columns = values.shape(1);
    require(weight.shape(0) == columns && bias.shape(0) == columns,
            "a weight and a bias for every column");
    require_result(result, output, values.shape(0), columns);
    require(output.has_value() == grid.has_value(), "a grid of the result with codes");
    if (!columns) return;
    LayerNorm op{};
    op.values = values.data();
    op.columns = values.shape(1);
    op.weight = weight.data();
    op.bias = bias.data();
    op.epsilon = epsilon;
    op.activation = read_activation(activation);
    op.result = pointer(result);
    op.output = pointer(output);
    if (grid) op.grid = read_grid(*grid);
    nb::gil_scoped_release release;
    run_layer_norm(op, values.shape(0));
}

static void activate(const FloatMatrix& values, const std::optional<FloatVector>& bias,
                     int activation, const std::optional<FloatMatrix>& residual,
                     Out<float> result) {
    require_count(bias, values.shape(1), "a bias for every column");
    require_repeated(residual, values.shape(0), values.shape(1));
    require_shape(result, values.shape(0), values.shape(1), "a result of the values' shape");
    const Activate op{values.data(),     values.shape(1),
                      pointer(bias),     read_activation(activation),
                      pointer(residual), residual ? residual->shape(0) : 0,
                      result.data()};
    nb::gil_scoped_release release;
    run_activate(op, values.shape(0));
}

static void quantize(const FloatMatrix& values, const std::optional<FloatMatrix>& addend,
                     bool undone, const std::optional<nb::tuple>& grid,
                     const std::optional<FloatVector>& inverse_scale,
                     const std::optional<FloatVector>& zero,
                     const std::optional<FloatVector>& maximum, Out<std::uint8_t> output) {
    require_repeated(addend, values.shape(0), values.shape(1));
    require_shape(output, values.shape(0), values.shape(1), "codes of the values' shape");
    for (const auto& numbers : {&inverse_scale, &zero, &maximum}) {
        require(grid.has_value() != numbers->has_value(), "either one grid or one per column");
        require_count(*numbers, rounded_up(values.shape(1), PANEL),
                      "a grid for every padded column");
    }
    Quantize op{};
    op.values = values.data();
    op.columns = values.shape(1);
    op.addend = pointer(addend);
    op.addend_rows = addend ? addend->shape(0) : 1;
    op.undone = undone;
    if (grid) op.grid = read_grid(*grid);
    op.inverse_scale = pointer(inverse_scale);
    op.zero = pointer(zero);
    op.maximum = pointer(maximum);
    op.output = output.data();
    nb::gil_scoped_release release;
    run_quantize(op, values.shape(0));
}

static void look_up(nb::ndarray<std::uint8_t, nb::ndim<2>, nb::device::cpu> codes,
                    const In<std::uint8_t, 1>& table) {
    require(table.shape(0) == 256, "a table of 256 bytes");
    if (!codes.size()) return;
    LookUp op{};
    op.codes = codes.data();
    op.columns = codes.shape(1);
    op.stride = stride_of(codes);
    op.table = byte_table(table.data());
    const std::size_t rows = codes.shape(0);
    nb::gil_scoped_release release;
    run_look_up(op, rows);
}

// (values, middles, bits); no values for None
static ValueTable read_table(const std::optional<nb::tuple>& table) {
    if (!table) return {};
    require(table->size() == 3, "a table of values, middles and bits");
    const auto values = nb::cast<FloatVector>((*table)[0], false);
    const auto middles = nb::cast<FloatVector>((*table)[1], false);
    const int bits = nb::cast<int>((*table)[2]);
    require(bits >= 1 && bits <= 8, "a table of 1 to 8 bits");
    require(values.size() == std::size_t(1) << bits && middles.size() + 1 == values.size(),
            "a value for every code of the table, and what lies between them");
    return {values.data(), Middles(middles.data(), middles.size()), bits};
}

static void round_to_table(const FloatMatrix& numbers, const nb::tuple& table, Out<float> result) {
    require_shape(result, numbers.shape(0), numbers.shape(1), "a result of the numbers' shape");
    const RoundToTable op{numbers.data(), read_table(table), result.data()};
    nb::gil_scoped_release release;
    run_round_to_table(op, numbers.size());
}

static void weighted_rows(const FloatMatrix& values, const Indices& rows,
                          const FloatMatrix& weights, Out<float> result) {
    require_shape(weights, rows.shape(0), rows.shape(1), "a weight for every row");
    require_shape(result, rows.shape(0), values.shape(1), "a result row for every list of rows");
    require_indices(rows, 0, values.shape(0));
    const WeightedRows op{values.data(),  values.shape(1), rows.data(),
                          weights.data(), rows.shape(1),   result.data()};
    nb::gil_scoped_release release;
    run_weighted_rows(op, rows.shape(0));
}

static void rotate(const FloatMatrix& values, const In<std::int32_t, 1>& cells,
                   const FloatMatrix& cosines, const FloatMatrix& sines, Out<float> result) {
    const std::size_t rows = values.shape(0), columns = values.shape(1), pairs = cosines.shape(1);
    require(pairs && columns % (2 * pairs) == 0, "columns in whole heads of twice as many pairs");
    require_shape(sines, cosines.shape(0), pairs, "a sine for every cosine");
    require(cells.shape(0) == rows, "a cell for every row");
    require_shape(result, rows, columns, "a result of the values' shape");
    require_indices(cells, -1, cosines.shape(0));
    const Rotate op{values.data(),  columns,      pairs,        cells.data(),
                    cosines.data(), sines.data(), result.data()};
    nb::gil_scoped_release release;
    run_rotate(op, rows);
}

static void depthwise(const In<std::uint8_t, 3>& codes, int zero_point,
                      const In<std::int32_t, 2>& weights, const FloatVector& scale,
                      const std::optional<FloatVector>& bias, Out<float, 3> result) {
    const std::size_t channels = codes.shape(2), taps = weights.shape(0);
    std::size_t side = 1;
    while (side * side < taps) side += 2;
    require(side * side == taps && side <= 15, "the taps of an odd side up to 15");
    require(zero_point >= 0 && zero_point <= 255, "a zero point among the codes");
    require(weights.shape(1) == channels && scale.shape(0) == channels,
            "weights and a scale for every channel");
    for (std::size_t i = 0; i < weights.size(); ++i) {
        require(weights.data()[i] >= -255 && weights.data()[i] <= 255, "weights of 8 bits");
    }
    require_count(bias, channels, "a bias for every channel");
    require(result.shape(0) == codes.shape(0) && result.shape(1) == codes.shape(1) &&
                result.shape(2) == channels,
            "a result of the image's shape");
    if (!codes.size()) return;
    const Depthwise op{codes.data(), codes.shape(0), codes.shape(1), channels,      side,
                       zero_point,   weights.data(), scale.data(),   pointer(bias), result.data()};
    nb::gil_scoped_release release;
    run_depthwise(op);
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
    const std::size_t columns = query.shape(1), keys = key_rows.shape(1);
    require(grids.size() == 4 && scales.size() == 3, "four grids and three scales");
    require(heads && columns && columns % heads == 0, "heads that divide the columns");
    require(key.shape(1) == columns && value.shape(1) == columns,
            "query, key and value of as many columns");
    require(key.shape(0) == value.shape(0), "a value for every key");
    require(keys && lines && keys % lines == 0, "lines that divide the keys");
    require(key_rows.shape(0) == query_rows.shape(0), "keys for every group");
    require_shape(output_rows, query_rows.shape(0), query_rows.shape(1), "a place per query");
    require(values.has_value() != output.has_value(), "either values or codes");
    const std::size_t outputs = values ? values->shape(0) : output->shape(0);
    require_result(values, output, outputs, columns);
    require(output.has_value() == output_grid.has_value(), "a grid of the result with codes");
    require_indices(query_rows, -1, query.shape(0));
    require_indices(key_rows, 0, key.shape(0));
    require_indices(output_rows, -1, outputs);
    for (std::size_t i = 0; i < query_rows.size(); ++i) {
        require(query_rows.data()[i] < 0 || output_rows.data()[i] >= 0, "a place per query");
    }
    require_count(numerators, 256, "256 numerators");
    require(!numerators || numerators->data()[255] == 0, "0 for what lies farthest below");
    require(relative_rows.has_value() == relative_columns.has_value(),
            "relative positions of rows and columns");
    require(relative_rows || lines == 1, "one line without relative positions");
    if (relative_rows) {
        require(lines * lines == keys && keys == query_rows.shape(1), "a square of tokens");
        require(relative_rows->shape(1) >= lines - 1 + rounded_up(lines, PANEL),
                "relative positions of every pair");
        for (const auto& positions : {&relative_rows, &relative_columns}) {
            require_shape(**positions, columns / heads, relative_rows->shape(1),
                          "relative positions of every channel of a head");
        }
    }
    if (!query_rows.size()) return;
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
    require_codes(query, op.query_grid);
    require_codes(key, op.key_grid);
    require_codes(value, op.value_grid);
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
    op.numerators = byte_table(pointer(numerators));
    op.table = read_table(table);
    require(!numerators || op.probability_grid.maximum == 255, "numerators with a grid of 8 bits");
    require(!(numerators || table) || op.probability_grid.zero_point == 0,
            "no zero point of listed probabilities");
    require_sum(op.head_dim, op.query_grid.maximum, op.key_grid.maximum,
                "as many channels of a head as 32-bit sums hold");
    // Of listed probabilities the values of each are summed apart, without a factor. The products of
    // others are added up in parts, which leaves sums of codes alone, unless they have a zero point.
    const int most = table ? 1 : op.probability_grid.maximum;
    require_sum(keys, op.probability_grid.zero_point ? most : 1, op.value_grid.maximum,
                "as many keys as 32-bit sums hold");
    require_sum(keys, most, 1, "as many keys as 32-bit sums hold");
    op.keys_at_once = LARGEST_SUM / (std::size_t(most) * op.value_grid.maximum) / 1024 * 1024;
    op.relative_rows = pointer(relative_rows);
    op.relative_columns = pointer(relative_columns);
    op.relative_stride = relative_rows ? relative_rows->shape(1) : 0;
    op.lines = lines;
    op.line_length = op.keys / lines;
    require_sum(op.padded_keys(), 1, op.value_grid.maximum, "as many keys as 32-bit sums hold");
    op.values = pointer(values);
    op.output = pointer(output);
    if (output_grid) op.output_grid = read_grid(*output_grid);
    nb::gil_scoped_release release;
    run_attention(op);
}

static void upscale(const In<float, 3>& image, std::size_t size, const In<float, 3>& panels1,
                    const FloatVector& bias1, const FloatVector& norm_weight,
                    const FloatVector& norm_bias, float epsilon, const In<float, 3>& panels2,
                    const FloatVector& bias2, const In<float, 3>& kernels,
                    const std::optional<In<float, 3>>& finer,
                    const std::optional<In<float, 3>>& finest, Out<float, 4> result) {
    const std::size_t channels = image.shape(2), prompts = image.shape(0);
    const std::size_t channels1 = norm_weight.shape(0), channels2 = kernels.shape(2);
    require(channels1 && channels1 % PANEL == 0 && channels2 && channels2 % PANEL == 0,
            "channels in whole panels");
    require(image.shape(1) == size * size && kernels.shape(0) == prompts,
            "a square image and kernels for every prompt");
    require(panels1.shape(0) == 4 * channels1 / PANEL && panels1.shape(1) == channels &&
                panels1.shape(2) == PANEL && bias1.shape(0) == 4 * channels1,
            "panels of the first convolution");
    require(panels2.shape(0) == 4 * channels2 / PANEL && panels2.shape(1) == channels1 &&
                panels2.shape(2) == PANEL && bias2.shape(0) == 4 * channels2,
            "panels of the second convolution");
    require(norm_bias.shape(0) == channels1, "a norm of every channel");
    require(result.shape(0) == prompts && result.shape(1) == kernels.shape(1) &&
                result.shape(2) == 4 * size && result.shape(3) == 4 * size,
            "masks of four times the image's side");
    require(finer.has_value() == finest.has_value(), "both finer levels or none");
    if (finer) {
        require(finer->shape(0) == 2 * size && finer->shape(1) == 2 * size &&
                    finer->shape(2) == channels1,
                "a finer level of twice the image's side");
        require(finest->shape(0) == 4 * size && finest->shape(1) == 4 * size &&
                    finest->shape(2) == channels2,
                "a finest level of four times the image's side");
    }
    if (!prompts || !size) return;
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
    op.finer = pointer(finer);
    op.finest = pointer(finest);
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
    module.def("linear", &linear, nb::arg("codes").noconvert(), nb::arg("grid"), nb::arg("packed").noconvert(),
               nb::arg("bits"), nb::arg("scale").noconvert(), nb::arg("weight_zero").noconvert(),
               nb::arg("bias").noconvert().none(), nb::arg("activation"), nb::arg("residual").noconvert().none(),
               nb::arg("values").noconvert().none(), nb::arg("output").noconvert().none(),
               nb::arg("output_inverse_scale").noconvert().none(), nb::arg("output_zero").noconvert().none(),
               nb::arg("output_maximum").noconvert().none(), nb::arg("norm").none());
    module.def("float_product", &float_product<float>, nb::arg("values").noconvert(), nb::arg("weight").noconvert(),
               nb::arg("result").noconvert());
    module.def("float_product", &float_product<double>, nb::arg("values").noconvert(), nb::arg("weight").noconvert(),
               nb::arg("result").noconvert());
    module.def("layer_norm", &layer_norm, nb::arg("values").noconvert(), nb::arg("weight").noconvert(), nb::arg("bias").noconvert(),
               nb::arg("epsilon"), nb::arg("activation"), nb::arg("result").noconvert().none(), nb::arg("output").noconvert().none(),
               nb::arg("grid").none());
    module.def("activate", &activate, nb::arg("values").noconvert(), nb::arg("bias").noconvert().none(), nb::arg("activation"),
               nb::arg("residual").noconvert().none(), nb::arg("result").noconvert());
    module.def("quantize", &quantize, nb::arg("values").noconvert(), nb::arg("addend").noconvert().none(), nb::arg("undone"), nb::arg("grid").none(),
               nb::arg("inverse_scale").noconvert().none(), nb::arg("zero").noconvert().none(), nb::arg("maximum").noconvert().none(),
               nb::arg("output").noconvert());
    module.def("norm_on_grids", &norm_on_grids, nb::arg("values").noconvert(), nb::arg("weight").noconvert(),
               nb::arg("bias").noconvert(), nb::arg("epsilon"), nb::arg("result").noconvert(), nb::arg("outputs"));
    module.def("look_up", &look_up, nb::arg("codes").noconvert(), nb::arg("table").noconvert());
    module.def("round_to_table", &round_to_table, nb::arg("numbers").noconvert(), nb::arg("table"),
               nb::arg("result").noconvert());
    module.def("weighted_rows", &weighted_rows, nb::arg("values").noconvert(), nb::arg("rows").noconvert(),
               nb::arg("weights").noconvert(), nb::arg("result").noconvert());
    module.def("rotate", &rotate, nb::arg("values").noconvert(), nb::arg("cells").noconvert(),
               nb::arg("cosines").noconvert(), nb::arg("sines").noconvert(), nb::arg("result").noconvert());
    module.def("depthwise", &depthwise, nb::arg("codes").noconvert(), nb::arg("zero_point"),
               nb::arg("weights").noconvert(), nb::arg("scale").noconvert(), nb::arg("bias").noconvert().none(),
               nb::arg("result").noconvert());
    module.def("attention", &attention, nb::arg("query").noconvert(), nb::arg("key").noconvert(), nb::arg("value").noconvert(),
               nb::arg("grids"), nb::arg("query_rows").noconvert(), nb::arg("key_rows").noconvert(),
               nb::arg("output_rows").noconvert(), nb::arg("heads"), nb::arg("scales"),
               nb::arg("numerators").noconvert().none(), nb::arg("table").none(),
               nb::arg("relative_rows").noconvert().none(), nb::arg("relative_columns").noconvert().none(), nb::arg("lines"), nb::arg("values").noconvert().none(), nb::arg("output").noconvert().none(),
               nb::arg("output_grid").none());
    module.def("upscale", &upscale, nb::arg("image").noconvert(), nb::arg("size"), nb::arg("panels1").noconvert(),
               nb::arg("bias1").noconvert(), nb::arg("norm_weight").noconvert(), nb::arg("norm_bias").noconvert(),
               nb::arg("epsilon"), nb::arg("panels2").noconvert(), nb::arg("bias2").noconvert(), nb::arg("kernels").noconvert(),
               nb::arg("finer").noconvert().none(), nb::arg("finest").noconvert().none(), nb::arg("result").noconvert());
#if defined(CARSAM_CHECK_CODES)
    module.attr("checks_codes") = true;
#else
    module.attr("checks_codes") = false;
#endif
    bind_training(module);
    module.def("empty", &empty, nb::arg("bytes"));
    module.def("compiled_sets", &compiled_sets);
    module.def("usable_sets", &usable_sets);
    module.def("current_set", [] { return std::string(kernels().name); });
    module.def("use_set", &use_set_or_throw, nb::arg("name"));
    module.def("threads", &threads);
    module.def("set_threads", &set_threads, nb::arg("count"));
}
