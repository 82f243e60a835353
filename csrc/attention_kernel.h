// Attention in codes for a block of queries: scores, softmax, quantized probabilities, values.
// The scores of one block exist at a time; see carsam/runtime/reference_attention.py.
#pragma once

#include <math.h>

#include "attention_heads.h"
#include "attention_positions.h"
#include "relative_kernel.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t QUERY_BLOCK = rounded_up(12, TILE_ROWS);

// What one thread needs for a block of queries.
struct QueryBlock {
    std::size_t count;                    // queries in use
    std::size_t places[QUERY_BLOCK];      // of the query in its group
    std::int32_t sums[QUERY_BLOCK];       // of codes
    std::uint8_t* codes;                  // (QUERY_BLOCK, padded_head)
    std::uint8_t* split;                  // for `split_rows`
    std::size_t stride;                   // of logits and probabilities, at least padded_keys
    float* logits;                        // (QUERY_BLOCK, stride)
    std::uint8_t* probabilities;          // (QUERY_BLOCK, stride)
    float* by_line;                       // (QUERY_BLOCK, padded_lines)
    float* by_column;                     // (QUERY_BLOCK, padded_line)
    float* numbers;                       // (head_dim) codes of one query less their zero point
    std::uint32_t* used_steps;            // (padded_keys / STEP)
    float maxima[QUERY_BLOCK * LANES];
    std::size_t padded_lines;
};

static QueryBlock make_block(const Attention& op) {
    QueryBlock block{};
    const std::size_t keys = op.padded_keys(), head = op.padded_head();
    block.padded_lines = rounded_up(op.lines, PANEL);
    const std::size_t widest = keys > head ? keys : head;
    // Rows a large power of two apart would share the same few places of the cache.
    block.stride = keys % 1024 ? keys : keys + 64;
    block.codes = carsam::scratch_of<std::uint8_t>(
        carsam::Scratch::rows, QUERY_BLOCK * (head + block.stride) + split_bytes(QUERY_BLOCK, widest));
    block.probabilities = block.codes + QUERY_BLOCK * head;
    block.split = block.probabilities + QUERY_BLOCK * block.stride;
    block.logits = carsam::scratch_of<float>(
        carsam::Scratch::scores, QUERY_BLOCK * (block.stride + block.padded_lines + op.padded_line()) + head);
    block.used_steps = carsam::scratch_of<std::uint32_t>(carsam::Scratch::products, keys / STEP);
    block.by_line = block.logits + QUERY_BLOCK * block.stride;
    block.by_column = block.by_line + QUERY_BLOCK * block.padded_lines;
    block.numbers = block.by_column + QUERY_BLOCK * op.padded_line();
    return block;
}

// Copies the codes of the queries in use among [first, last).
static void gather_queries(const Attention& op, QueryBlock& block, const std::int32_t* rows,
                           std::size_t first_channel, std::size_t first, std::size_t last) {
    const bool whole = op.head_dim == op.padded_head();
    block.count = 0;
    for (std::size_t place = first; place < last; ++place) {
        if (rows[place] < 0) continue;
        std::uint8_t* target = block.codes + block.count * op.padded_head();
        const std::uint8_t* source = op.query + rows[place] * op.query_stride + first_channel;
        if (whole) {
            for (std::size_t channel = 0; channel < op.head_dim; channel += PANEL) {
                std::memcpy(target + channel, source + channel, PANEL);
            }
        } else {
            std::memcpy(target, source, op.head_dim);
            std::memset(target + op.head_dim, 0, op.padded_head() - op.head_dim);
        }
        block.sums[block.count] = sum_bytes(target, op.head_dim);
        block.places[block.count++] = place;
    }
}

static void find_positions(const Attention& op, QueryBlock& block) {
    for (std::size_t query = 0; query < block.count; ++query) {
        const std::size_t line = block.places[query] / op.line_length;
        const std::size_t column = block.places[query] % op.line_length;
        const std::uint8_t* codes = block.codes + query * op.padded_head();
        for (std::size_t channel = 0; channel < op.head_dim; ++channel) {
            block.numbers[channel] = static_cast<float>(codes[channel] - op.query_grid.zero_point);
        }
        relative_scores(op, block.numbers, op.relative_rows + op.lines - 1 - line, op.lines,
                        block.by_line + query * block.padded_lines);
        relative_scores(op, block.numbers, op.relative_columns + op.line_length - 1 - column,
                        op.line_length, block.by_column + query * op.padded_line());
    }
}

static void find_logits(const Attention& op, const PreparedHead& head, QueryBlock& block) {
    CodeRows codes{block.codes, nullptr, op.padded_head(), op.query_grid.bits()};
    if (is_split(codes.bits, op.key_grid.bits())) {
        codes = split_rows(block.codes, op.padded_head(), block.count, op.padded_head(),
                           block.split);
    }
    const std::int32_t zero = op.key_grid.zero_point - signed_offset(op.key_grid);
    const std::size_t keys = op.padded_keys(), line = op.padded_line();
    const Floats scale = broadcast(op.score_scale);
    alignas(64) float beyond[PANEL];  // -infinity for places beyond the end of a line
    for (std::size_t lane = 0; lane < PANEL; ++lane) {
        const bool used = line - PANEL + lane < op.line_length;
        beyond[lane] = used ? 0.0f : -INFINITY;
    }
    alignas(64) std::int32_t tile[TILE_ROWS * TILE_COLUMNS];
    for (std::size_t i = 0; i < block.count * LANES; ++i) {
        block.maxima[i] = -INFINITY;
    }
    for (std::size_t place = 0; place < keys; place += TILE_COLUMNS) {
        const std::size_t panels =
            keys - place < TILE_COLUMNS ? (keys - place) / PANEL : TILE_PANELS;
        for (std::size_t row = 0; row < block.count; row += TILE_ROWS) {
            const std::size_t rows =
                block.count - row < TILE_ROWS ? block.count - row : TILE_ROWS;
            product(codes, row, rows, head.key_panels + place * op.padded_head(),
                    PANEL * op.padded_head(), panels, Steps{op.padded_head() / STEP},
                    op.key_grid.bits(), tile);
            for (std::size_t i = 0; i < panels; ++i) {
                const std::size_t first = place + i * PANEL, column = first % line;
                const Ints constant = load(head.key_constant + first);
                const bool ends = column + PANEL > op.line_length;
                for (std::size_t r = 0; r < rows; ++r) {
                    const std::size_t query = row + r;
                    const Ints sum = load(tile + r * TILE_COLUMNS + i * PANEL) + constant -
                                     broadcast(zero * block.sums[query]);
                    Floats logit = to_floats(sum) * scale;
                    if (op.relative_rows) {
                        const float by_line =
                            block.by_line[query * block.padded_lines + first / line];
                        logit = logit + (broadcast(by_line) +
                                         load(block.by_column + query * line + column));
                    }
                    if (ends) logit = logit + load(beyond);
                    float* maxima = block.maxima + query * LANES;
                    store(maxima, maximum(load(maxima), logit));
                    store(block.logits + query * block.stride + first, logit);
                }
            }
        }
    }
}

// Zeros in the codes of one query for places beyond the end of a line.
static void clear_padding(const Attention& op, std::uint8_t* codes) {
    const std::size_t line = op.padded_line();
    if (op.line_length == line) return;
    for (std::size_t end = op.line_length; end < op.padded_keys(); end += line) {
        std::memset(codes + end, 0, line - op.line_length);
    }
}

// Turns the logits of one query into powers of 2, the largest 1; returns their sum.
static CARSAM_INLINE float find_powers(float* logits, std::size_t keys, const float* maxima) {
    const Floats highest = broadcast(fold_maximum(load(maxima)));
    Floats total = broadcast(0.0f);
    for (std::size_t place = 0; place < keys; place += LANES) {
        const Floats power = exp2(load(logits + place) - highest);
        total = total + power;
        store(logits + place, power);
    }
    return fold_sum(total);
}

// Softmax of one query and its codes.
static void find_probabilities(const Attention& op, QueryBlock& block, std::size_t query) {
    const std::size_t keys = op.padded_keys();
    float* powers = block.logits + query * block.stride;
    const float total = find_powers(powers, keys, block.maxima + query * LANES);
    const Grid& grid = op.probability_grid;
    const Floats factor = broadcast(grid.inverse_scale / total);
    const Ints zero = broadcast(grid.zero_point - ROUNDING_BITS);
    const Floats limit = broadcast(static_cast<float>(grid.maximum - grid.zero_point));
    std::uint8_t* codes = block.probabilities + query * block.stride;
    for (std::size_t place = 0; place < keys; place += LANES) {
        const Floats scaled = minimum(load(powers + place) * factor, limit);
        store_bytes(codes + place, round_to_ints(scaled) + zero);
    }
}

// The steps, four keys each, in which any of the rows has a code other than 0.
static Steps used_steps(const std::uint8_t* codes, std::size_t stride, std::size_t keys,
                        std::size_t rows, std::uint32_t* list) {
    constexpr std::size_t STEPS = PANEL / STEP;  // looked at together
    std::size_t count = 0;
    for (std::size_t first = 0; first < keys / STEP; first += STEPS) {
        std::uint32_t any[STEPS] = {};
        for (std::size_t row = 0; row < rows; ++row) {
            std::uint32_t fours[STEPS];
            std::memcpy(fours, codes + row * stride + STEP * first, sizeof fours);
            for (std::size_t step = 0; step < STEPS; ++step) any[step] |= fours[step];
        }
        for (std::size_t step = 0; step < STEPS; ++step) {
            list[count] = static_cast<std::uint32_t>(first + step);
            count += any[step] != 0;
        }
    }
    return {count, list};
}

static void find_output(const Attention& op, const PreparedHead& head, QueryBlock& block,
                        const std::int32_t* output_rows, std::size_t first_channel) {
    const std::size_t keys = op.padded_keys(), channels = op.heads * op.head_dim;
    CodeRows codes{block.probabilities, nullptr, block.stride, op.probability_grid.bits()};
    if (is_split(codes.bits, op.value_grid.bits())) {
        codes = split_rows(block.probabilities, block.stride, block.count, keys, block.split);
    }
    const std::int32_t zero = op.value_grid.zero_point - signed_offset(op.value_grid);
    const GridLanes grid = grid_lanes(op.output_grid);
    alignas(64) std::int32_t tile[TILE_ROWS * TILE_COLUMNS];
    for (std::size_t row = 0; row < block.count; row += TILE_ROWS) {
        const std::size_t rows = block.count - row < TILE_ROWS ? block.count - row : TILE_ROWS;
        const Steps steps =
            used_steps(block.probabilities + row * block.stride, block.stride, keys, rows,
                       block.used_steps);
        for (std::size_t channel = 0; channel < op.head_dim; channel += TILE_COLUMNS) {
            const std::size_t left = op.head_dim - channel;
            const std::size_t panels =
                left < TILE_COLUMNS ? (left + PANEL - 1) / PANEL : TILE_PANELS;
            product(codes, row, rows, head.value_panels + channel * keys, PANEL * keys, panels,
                    steps, op.value_grid.bits(), tile);
            for (std::size_t i = 0; i < panels * rows; ++i) {
                const std::size_t query = row + i / panels, panel = i % panels;
                const std::size_t first = channel + panel * PANEL;
                const std::size_t count =
                    op.head_dim - first < PANEL ? op.head_dim - first : PANEL;
                const Ints sum = load(tile + i / panels * TILE_COLUMNS + panel * PANEL) +
                                 load(head.value_constant + first) -
                                 broadcast(zero * block.sums[query]);
                const float divisor = op.numerators ? block.sums[query] : 1.0f;
                const Floats value = to_floats(sum) * broadcast(op.value_scale / divisor);
                const std::size_t position =
                    output_rows[block.places[query]] * channels + first_channel + first;
                if (op.output) {
                    const Ints result = codes_on_grid(value, grid);
                    store_bytes_some(op.output + position, result, count);
                } else {
                    store_some(op.values + position, value, count);
                }
            }
        }
    }
}

static void attend(const Attention& op, const PreparedHead& prepared, std::size_t group,
                   std::size_t head, std::size_t first_query, std::size_t last_query) {
    const std::size_t first_channel = head * op.head_dim;
    QueryBlock block = make_block(op);
    gather_queries(op, block, op.query_rows + group * op.queries, first_channel, first_query,
                   last_query);
    if (block.count == 0) return;
    if (op.relative_rows) find_positions(op, block);
    find_logits(op, prepared, block);
    const std::size_t keys = op.padded_keys();
    for (std::size_t query = 0; query < block.count; ++query) {
        std::uint8_t* codes = block.probabilities + query * block.stride;
        if (op.numerators) {
            find_numerators(block.logits + query * block.stride, keys,
                            fold_maximum(load(block.maxima + query * LANES)),
                            op.probability_grid.inverse_scale, op.numerators, codes);
        } else {
            find_probabilities(op, block, query);
        }
        clear_padding(op, codes);
        block.sums[query] = sum_bytes(codes, keys);
    }
    find_output(op, prepared, block, op.output_rows + group * op.queries, first_channel);
}

}  // namespace CARSAM_NAMESPACE
