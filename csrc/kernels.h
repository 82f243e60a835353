// What one instruction set offers. The drivers (rows.cpp, attention.cpp) cut the work into parts,
// spread them over threads and call these functions; they know no instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "inline.h"
#include "middles.h"
#include "training.h"

namespace carsam {

constexpr std::size_t PANEL = 16;  // output columns that are computed together
constexpr std::size_t STEP = 4;    // neighbouring numbers of K, multiplied and added in one lane

constexpr CARSAM_INLINE std::size_t rounded_up(std::size_t value, std::size_t unit) {
    return (value + unit - 1) / unit * unit;
}

// A uniform grid: code = clamp(rint(value * inverse_scale) + zero_point, 0, maximum).
struct Grid {
    float scale;
    float inverse_scale;
    std::int32_t zero_point;
    std::int32_t maximum;

    CARSAM_INLINE int bits() const {
        int bits = 0;
        while (maximum >> bits) ++bits;
        return bits;
    }
};

enum class Activation { none, relu, gelu };

// Rows of packed codes, `bits` bits each, as carsam/formats/packing.py writes them.
struct PackedRows {
    const std::uint8_t* data;
    std::size_t stride;  // bytes
    std::size_t rows;
    std::size_t columns;
    int bits;
};

// activation(codes weight^T + bias) + residual. Arrays per output column are padded to whole
// panels; a pointer that is not needed is null.
struct Linear {
    const std::uint8_t* codes;  // (rows, columns)
    std::size_t rows;
    std::size_t stride;
    Grid grid;
    PackedRows weight;
    const std::int8_t* panels;  // [column / 16][k / 4][16][4] signed weight codes
    const float* scale;         // grid.scale * weight scale
    const float* bias;
    const std::int32_t* weight_zero;  // zero point minus 2^(bits - 1)
    std::int32_t* constant;           // z_a (K z_w - sum of the column); written by `prepare`
    Activation activation;
    const float* residual;  // (residual_rows, output columns), repeated to all rows
    std::size_t residual_rows;
    float* values;          // the result as floats, or
    std::uint8_t* output;   // the result as codes, on these grids:
    const float* output_inverse_scale;
    const float* output_zero;     // the zero point and
    const float* output_maximum;  // the highest code, as floats
};

// values weight^T, summed in the type of the weight.
struct FloatProduct {
    const float* values;  // (rows, depth)
    std::size_t rows, depth, columns;
    const float* weight;             // (columns, depth), or
    const double* weight_in_double;
    float* result;  // (rows, columns)
};

struct LayerNorm {
    const float* values;  // (rows, columns)
    std::size_t columns;
    const float* weight;
    const float* bias;
    float epsilon;
    Activation activation;
    float* result;         // the result as floats, or
    std::uint8_t* output;  // as codes on this grid:
    Grid grid;
};

// activation(values + bias).
struct Activate {
    const float* values;  // (rows, columns)
    std::size_t columns;
    const float* bias;  // or null
    Activation activation;
    const float* residual;  // (residual_rows, columns), repeated to all rows, added last; or null
    std::size_t residual_rows;
    float* result;  // may be the values
};

// Codes of values on one grid per column, or on a single grid (then the pointers are null).
struct Quantize {
    const float* values;  // (rows, columns)
    std::size_t columns;
    const float* addend;  // (addend_rows, columns), repeated to all rows, added first; or null
    std::size_t addend_rows;
    bool undone;  // the addend is subtracted again
    const float* inverse_scale;
    const float* zero;
    const float* maximum;
    Grid grid;
    std::uint8_t* output;
};

// What each byte is replaced by.
struct ByteTable {
    static constexpr int FEW_STEPS = 31;

    const std::uint8_t* entries;  // (256); null for none
    // Where the table changes: `after[i]` is the last byte before, `entry[i]` what it holds from the
    // next one on. Only the first few are kept.
    int steps;
    std::uint8_t after[FEW_STEPS], entry[FEW_STEPS];
};

static inline ByteTable byte_table(const std::uint8_t* entries) {
    ByteTable table{};
    table.entries = entries;
    for (int byte = 0; entries && byte < 255; ++byte) {
        if (entries[byte] == entries[byte + 1]) continue;
        if (table.steps < ByteTable::FEW_STEPS) {
            table.after[table.steps] = static_cast<std::uint8_t>(byte);
            table.entry[table.steps] = entries[byte + 1];
        }
        ++table.steps;
    }
    return table;
}

// Codes replaced in place by what a table holds for them.
struct LookUp {
    std::uint8_t* codes;  // (rows, columns)
    std::size_t columns;
    std::size_t stride;
    ByteTable table;
};

// A grid of 2^bits listed values; the last one is repeated where there are fewer.
struct ValueTable {
    const float* values;  // (2^bits), ascending; null where another grid is used
    Middles middles;      // 2^bits - 1: the code of a number is how many of them are below it
    int bits;
};

// Every number replaced by the nearest value of a table.
struct RoundToTable {
    const float* numbers;
    ValueTable table;
    float* result;
};

// Sums of `taps` weighted rows, added in double and rounded after every tap.
struct WeightedRows {
    const float* values;  // (rows of values, columns)
    std::size_t columns;
    const std::int32_t* rows;  // (result rows, taps)
    const float* weights;      // (result rows, taps)
    std::size_t taps;
    float* result;  // (result rows, columns)
};

// Pairs of neighbouring columns turned; there are 2 * pairs columns for every head.
struct Rotate {
    const float* values;  // (rows, columns)
    std::size_t columns, pairs;
    const std::int32_t* cells;      // (rows), -1 for a row that is not turned
    const float *cosines, *sines;   // (cells, pairs)
    float* result;                  // may be the values
};

// A convolution of every channel of an image by itself, odd-sided, of stride 1, padded to its size.
struct Depthwise {
    const std::uint8_t* codes;  // (height, width, channels)
    std::size_t height, width, channels, side;
    std::int32_t zero_point;
    const std::int32_t* weights;  // (side * side, channels) codes less their zero point
    const float* scale;           // (channels) grid.scale * weight scale
    const float* bias;            // or null
    float* result;                // (height, width, channels)
};

// Weight panels [columns / 16][depth][16], and the same in parts where the set multiplies these.
struct FloatPanels {
    const float* floats;
    const std::uint16_t* parts;
};

// Mask upscaling: convolution, norm, GELU, convolution, GELU, product with each mask's kernel.
struct Upscale {
    const float* image;  // (prompts, size * size, channels)
    std::size_t size, channels;
    const float *panels1, *bias1;  // [4 channels1 / 16][channels][16], (4 channels1)
    std::size_t channels1;         // a multiple of 16
    const float *norm_weight, *norm_bias;
    float epsilon;
    const float *panels2, *bias2;  // [4 channels2 / 16][channels1][16], (4 channels2)
    std::size_t channels2;         // a multiple of 16
    const float* kernels;          // (prompts, masks, channels2)
    std::size_t masks;
    // Added to the results of the two convolutions, of every prompt; null without.
    const float* finer;   // (2 size, 2 size, channels1)
    const float* finest;  // (4 size, 4 size, channels2)
    const std::uint16_t *parts1, *parts2;  // of the panels; null where the set needs none
    float* result;        // (prompts, masks, 4 size, 4 size)
};

// Attention of many independent groups; see carsam/runtime/reference_attention.py.
struct Attention {
    const std::uint8_t *query, *key, *value;
    std::size_t query_stride, key_stride, value_stride;  // bytes from row to row
    Grid query_grid, key_grid, probability_grid, value_grid;
    const std::int32_t *query_rows, *key_rows, *output_rows;  // (groups, queries or keys)
    std::size_t groups, queries, keys, heads, head_dim;
    // Padded keys whose products with values add up in 32 bits, whatever they are; a multiple of 1024.
    std::size_t keys_at_once;
    float score_scale;  // query scale * key scale * scaling * log2(e)
    float value_scale;  // probability scale * value scale
    // Row-maximum grids: the numerator of a logit that lies so many steps below the largest of its row,
    // 255 being any further one. A power of two has 32 steps; scales make logits steps then. Without
    // entries for other grids.
    ByteTable numerators;
    ValueTable table;  // of listed probabilities; its values are null for other grids
    // Decomposed relative positions, null without: tables (head_dim, relative_stride).
    const float *relative_rows, *relative_columns;
    std::size_t relative_stride;
    float relative_scale;  // query scale * log2(e)
    // Keys form lines (of the image), each padded to whole panels; one line without positions.
    std::size_t lines, line_length;
    float* values;         // (outputs, heads * head_dim), or
    std::uint8_t* output;  // the same as codes on this grid:
    Grid output_grid;

    CARSAM_INLINE std::size_t padded_line() const { return rounded_up(line_length, PANEL); }
    CARSAM_INLINE std::size_t padded_keys() const { return lines * padded_line(); }
    CARSAM_INLINE std::size_t padded_head() const { return rounded_up(head_dim, PANEL); }
};

// Keys and values of one head of one group, prepared once for all its queries.
struct PreparedHead {
    std::int8_t* key_panels;    // [padded_keys / 16][padded_head / 4][16][4]
    std::int8_t* value_panels;  // [padded_head / 16][padded_keys / 4][16][4]
    std::int32_t* key_constant;    // (padded_keys) z_q (d z_k - sum of the key)
    std::int32_t* value_constant;  // (padded_head) z_p (keys z_v - sum of the column)
    std::int32_t* value_rows;      // (padded_keys, padded_head) for listed probabilities, else null
};

struct Kernels {
    const char* name;
    std::size_t row_unit;  // rows of whole tiles: queries of a block, and what parts are cut at
    // Unpack the weights of panels [first, last) and find their constants.
    void (*prepare)(const Linear&, std::int8_t* panels, std::size_t first, std::size_t last);
    // Rows [first_row, last_row) of panels [first, last).
    void (*multiply)(const Linear&, std::size_t first_row, std::size_t last_row,
                     std::size_t first, std::size_t last);
    // Rows [first_row, last_row) of columns [first, last).
    void (*float_product)(const FloatProduct&, std::size_t first_row, std::size_t last_row,
                          std::size_t first, std::size_t last);
    void (*layer_norm)(const LayerNorm&, std::size_t first_row, std::size_t last_row);
    void (*activate)(const Activate&, std::size_t first_row, std::size_t last_row);
    void (*quantize)(const Quantize&, std::size_t first_row, std::size_t last_row);
    void (*look_up)(const LookUp&, std::size_t first_row, std::size_t last_row);
    void (*round_to_table)(const RoundToTable&, std::size_t first, std::size_t last);
    void (*weighted_rows)(const WeightedRows&, std::size_t first_row, std::size_t last_row);
    void (*rotate)(const Rotate&, std::size_t first_row, std::size_t last_row);
    // Lines [first_row, last_row) of the image.
    void (*depthwise)(const Depthwise&, std::size_t first_row, std::size_t last_row);
    // Cuts panels of `columns` by `depth` floats into 4 * columns * (depth padded to 32) bytes of parts; null
    // where floats are multiplied as they are.
    void (*split_panels)(const float* panels, std::size_t columns, std::size_t depth,
                         std::uint16_t* parts);
    // Image tokens [first, last) of a prompt.
    void (*upscale)(const Upscale&, std::size_t prompt, std::size_t first, std::size_t last);
    void (*prepare_head)(const Attention&, const PreparedHead&, std::size_t group,
                         std::size_t head);
    void (*attend)(const Attention&, const PreparedHead&, std::size_t group, std::size_t head,
                   std::size_t first_query, std::size_t last_query);
    // The same for at most 16 keys without positions.
    void (*attend_to_few)(const Attention&, const PreparedHead&, std::size_t group, std::size_t head,
                          std::size_t first_query, std::size_t last_query);
    // The first two for listed probabilities; the first is called after `prepare_head`.
    void (*prepare_value_rows)(const Attention&, const PreparedHead&, std::size_t group,
                               std::size_t head);
    void (*attend_with_table)(const Attention&, const PreparedHead&, std::size_t group,
                              std::size_t head, std::size_t first_query, std::size_t last_query);
    TrainingKernels training;
};

}  // namespace carsam
