// Attention whose probabilities lie on a grid of listed values. Sums of the value codes, one for each
// code of the probabilities, are exact integers; the listed values weigh them at the end, in double
// precision, so that the order of these additions does not change the result. See
// _listed_product of carsam/runtime/reference_attention.py.
#pragma once

#include "attention_kernel.h"
#include "value_table_kernel.h"

namespace CARSAM_NAMESPACE {

// Value codes minus their zero point, a row per key; zeros beyond the end of a line.
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

// The softmax of one query, and its codes.
static void find_listed_codes(const Attention& op, QueryBlock& block, std::size_t query) {
    const std::size_t keys = op.padded_keys();
    float* powers = block.logits + query * block.stride;
    const float total = find_powers(powers, keys, block.maxima + query * LANES);
    const float factor = 1.0f / total;
    std::uint8_t* codes = block.probabilities + query * block.stride;
    if (op.table.bits <= FEW_BITS) {
        for (std::size_t place = 0; place < keys; place += LANES) {
            const Floats numbers = load(powers + place) * broadcast(factor);
            store_bytes(codes + place, table_codes(op.table, numbers));
        }
        return;
    }
    for (std::size_t place = 0; place < keys; ++place) {
        codes[place] = static_cast<std::uint8_t>(
            carsam::place_among(op.table.middles, powers[place] * factor));
    }
}

constexpr std::size_t KEYS_AT_ONCE = 64;    // whose values stay in the first-level cache
constexpr std::size_t QUERIES_AT_ONCE = 4;  // in turn: neighbouring additions go to different sums

// Adds up the rows of values by code: sums (queries, 2^bits, width).
static void sum_by_code(const Attention& op, const PreparedHead& head, const QueryBlock& block,
                        std::int32_t* sums) {
    const std::size_t width = op.padded_head(), keys = op.padded_keys();
    const std::size_t numbers = width << op.table.bits;
    const bool is_zero_first = op.table.values[0] == 0.0f;  // what has this code adds nothing
    const auto add = [&](std::size_t query, std::size_t place) {
        const std::uint8_t code = block.probabilities[query * block.stride + place];
        if (code == 0 && is_zero_first) return;
        const std::int32_t* row = head.value_rows + place * width;
        std::int32_t* sum = sums + query * numbers + code * width;
        for (std::size_t channel = 0; channel < width; channel += LANES) {
            store(sum + channel, load(sum + channel) + load(row + channel));
        }
    };
    std::memset(sums, 0, block.count * numbers * sizeof(std::int32_t));
    for (std::size_t first = 0; first < keys; first += KEYS_AT_ONCE) {
        const std::size_t last = first + KEYS_AT_ONCE < keys ? first + KEYS_AT_ONCE : keys;
        for (std::size_t query = 0; query < block.count; query += QUERIES_AT_ONCE) {
            const std::size_t left = block.count - query;
            const std::size_t count = left < QUERIES_AT_ONCE ? left : QUERIES_AT_ONCE;
            for (std::size_t place = first; place < last; ++place) {
                for (std::size_t i = 0; i < count; ++i) add(query + i, place);
            }
        }
    }
}

static void weigh_sums(const Attention& op, const std::int32_t* sums, std::size_t position) {
    const GridLanes grid = grid_lanes(op.output_grid);
    const std::size_t width = op.padded_head();
    for (std::size_t channel = 0; channel < op.head_dim; channel += PANEL) {
        double totals[LANES] = {};
        for (std::size_t code = 0; code >> op.table.bits == 0; ++code) {
            const double weight = op.table.values[code];
            const std::int32_t* sum = sums + code * width + channel;
            for (int lane = 0; lane < LANES; ++lane) totals[lane] += weight * sum[lane];
        }
        float numbers[LANES];
        for (int lane = 0; lane < LANES; ++lane) numbers[lane] = static_cast<float>(totals[lane]);
        const Floats value = load(numbers) * broadcast(op.value_scale);
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
    find_logits(op, prepared, block, block.logits);
    const std::size_t numbers = op.padded_head() << op.table.bits;
    auto* sums = carsam::scratch_of<std::int32_t>(carsam::Scratch::columns, block.count * numbers);
    for (std::size_t query = 0; query < block.count; ++query) find_listed_codes(op, block, query);
    sum_by_code(op, prepared, block, sums);
    for (std::size_t query = 0; query < block.count; ++query) {
        weigh_sums(op, sums + query * numbers,
                   output_rows[block.places[query]] * channels + first_channel);
    }
}

}  // namespace CARSAM_NAMESPACE
