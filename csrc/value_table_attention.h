// Attention whose probabilities lie on a grid of listed values. Sums of the value codes, one for each
// code of the probabilities, are exact integers; the listed values weigh them at the end. See
// _listed_product of carsam/runtime/reference_attention.py.
#pragma once

#include "attention_kernel.h"
#include "value_table_kernel.h"

namespace CARSAM_NAMESPACE {

// Value codes less their zero point, a row per key; zeros beyond the end of a line.
static void prepare_value_rows(const Attention& op, const PreparedHead& prepared,
                               std::size_t group, std::size_t head) {
    const std::int32_t* rows = op.key_rows + group * op.keys;
    const std::size_t width = op.padded_head();
    for (std::size_t place = 0; place < op.padded_keys(); ++place) {
        const std::int32_t row = row_at(op, rows, place);
        std::int32_t* target = prepared.value_rows + place * width;
        std::memset(target, 0, width * sizeof(std::int32_t));
        if (row < 0) continue;
        const std::uint8_t* source = op.value + row * op.value_stride + head * op.head_dim;
        for (std::size_t channel = 0; channel < op.head_dim; ++channel) {
            target[channel] = source[channel] - op.value_grid.zero_point;
        }
    }
}

// Softmax of one query and its codes.
static void find_listed_codes(const Attention& op, QueryBlock& block, std::size_t query) {
    const std::size_t keys = op.padded_keys();
    float* logits = block.logits + query * block.stride;
    const Floats highest = broadcast(fold_maximum(load(block.maxima + query * LANES)));
    Floats total = broadcast(0.0f);
    for (std::size_t place = 0; place < keys; place += LANES) {
        const Floats power = exp2(load(logits + place) - highest);
        total = total + power;
        store(logits + place, power);
    }
    const float factor = 1.0f / fold_sum(total);
    std::uint8_t* codes = block.probabilities + query * block.stride;
    for (std::size_t place = 0; place < keys; ++place) {
        codes[place] = static_cast<std::uint8_t>(table_code(op.table, logits[place] * factor));
    }
}

// Adds up the rows of values by code: sums (2^bits, width).
static void sum_by_code(const Attention& op, const PreparedHead& head, const std::uint8_t* codes,
                        std::int32_t* sums) {
    const std::size_t width = op.padded_head();
    const bool is_zero_first = op.table.values[0] == 0.0f;  // then its sum does not matter
    std::memset(sums, 0, (width << op.table.bits) * sizeof(std::int32_t));
    for (std::size_t place = 0; place < op.padded_keys(); ++place) {
        if (codes[place] == 0 && is_zero_first) continue;
        const std::int32_t* row = head.value_rows + place * width;
        std::int32_t* sum = sums + codes[place] * width;
        for (std::size_t channel = 0; channel < width; channel += LANES) {
            store(sum + channel, load(sum + channel) + load(row + channel));
        }
    }
}

static void weigh_sums(const Attention& op, const std::int32_t* sums, std::size_t position) {
    const GridLanes grid = grid_lanes(op.output_grid);
    const std::size_t width = op.padded_head();
    for (std::size_t channel = 0; channel < op.head_dim; channel += PANEL) {
        Floats total = broadcast(0.0f);
        for (std::size_t code = 0; code >> op.table.bits == 0; ++code) {
            const Floats sum = to_floats(load(sums + code * width + channel));
            total = total + broadcast(op.table.values[code]) * sum;
        }
        const Floats value = total * broadcast(op.value_scale);
        const std::size_t left = op.head_dim - channel, count = left < PANEL ? left : PANEL;
        if (op.output) {
            const Ints codes = codes_on_grid(value, grid);
            store_bytes_some(op.output + position + channel, codes, count);
        } else {
            store_some(op.values + position + channel, value, count);
        }
    }
}

static void attend_with_table(const Attention& op, const PreparedHead& prepared,
                              std::size_t group, std::size_t head, std::size_t first_query,
                              std::size_t last_query) {
    const std::size_t first_channel = head * op.head_dim, channels = op.heads * op.head_dim;
    const std::int32_t* output_rows = op.output_rows + group * op.queries;
    QueryBlock block = make_block(op);
    gather_queries(op, block, op.query_rows + group * op.queries, first_channel, first_query,
                   last_query);
    if (block.count == 0) return;
    if (op.relative_rows) find_positions(op, block);
    find_logits(op, prepared, block);
    auto* sums = carsam::scratch_of<std::int32_t>(carsam::Scratch::columns,
                                                  op.padded_head() << op.table.bits);
    for (std::size_t query = 0; query < block.count; ++query) {
        find_listed_codes(op, block, query);
        sum_by_code(op, prepared, block.probabilities + query * block.stride, sums);
        weigh_sums(op, sums, output_rows[block.places[query]] * channels + first_channel);
    }
}

}  // namespace CARSAM_NAMESPACE
