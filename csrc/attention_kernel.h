// Attention in codes for a block of queries: scores, softmax, quantized probabilities, values.
// Only the scores of one block exist at a time; see carsam/runtime/reference_attention.py.
#pragma once

#include <math.h>

#include "attention_heads.h"
#include "attention_positions.h"
#include "relative_kernel.h"

namespace CARSAM_NAMESPACE {

constexpr std::size_t QUERY_BLOCK = rounded_up(12, TILE_ROWS);
constexpr std::size_t MOST_QUERIES = QUERY_BLOCK < LANES ? LANES : QUERY_BLOCK;

// What one thread needs for a block of queries.
struct QueryBlock {
    std::size_t count;                    // queries in use
    std::size_t places[MOST_QUERIES];     // of the query in its group
    std::int32_t sums[MOST_QUERIES];      // of codes
    std::uint8_t* codes;                  // (QUERY_BLOCK, padded_head)
    std::uint8_t* split;                  // for `split_rows`
    std::size_t stride;                   // of logits and probabilities, at least padded_keys
    float* logits;                        // (QUERY_BLOCK, stride), or
    std::int16_t* steps;                  // the same rounded, of row-maximum grids
    std::uint8_t* probabilities;          // (QUERY_BLOCK, stride)
    float* by_line;                       // (QUERY_BLOCK, padded_line), of lines of keys
    float* by_column;                     // (QUERY_BLOCK, padded_line)
    float* numbers;                       // (QUERY_BLOCK, head_dim) codes minus their zero point
    std::uint32_t* used_steps;            // (padded_keys / STEP)
    float maxima[QUERY_BLOCK * LANES];
};

static QueryBlock make_block(const Attention& op) {
    QueryBlock block{};
    const std::size_t keys = op.padded_keys(), head = op.padded_head();
    const std::size_t widest = keys > head ? keys : head;
    // Rows whose distance is a multiple of 4 KB compete for the same few lines of the first-level
    // cache.
    block.stride = keys % 1024 ? keys : keys + 64;
    block.codes = carsam::scratch_of<std::uint8_t>(
        carsam::Scratch::rows, QUERY_BLOCK * (head + block.stride) + split_bytes(QUERY_BLOCK, widest));
    block.probabilities = block.codes + QUERY_BLOCK * head;
    block.split = block.probabilities + QUERY_BLOCK * block.stride;
    block.logits = carsam::scratch_of<float>(
        carsam::Scratch::scores, QUERY_BLOCK * (block.stride + 2 * op.padded_line() + head));
    block.steps = reinterpret_cast<std::int16_t*>(block.logits);
    block.used_steps = carsam::scratch_of<std::uint32_t>(carsam::Scratch::products, keys / STEP);
    block.by_line = block.logits + QUERY_BLOCK * block.stride;
    block.by_column = block.by_line + QUERY_BLOCK * op.padded_line();
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
    PlacedQuery queries[QUERY_BLOCK];
    for (std::size_t query = 0; query < block.count; ++query) {
        const std::size_t line = block.places[query] / op.line_length;
        const std::size_t column = block.places[query] % op.line_length;
        const std::uint8_t* codes = block.codes + query * op.padded_head();
        float* numbers = block.numbers + query * op.head_dim;
        for (std::size_t channel = 0; channel < op.head_dim; ++channel) {
            numbers[channel] = static_cast<float>(codes[channel] - op.query_grid.zero_point);
        }
        queries[query] = {numbers, op.relative_rows + op.lines - 1 - line,
                          op.relative_columns + op.line_length - 1 - column,
                          block.by_line + query * op.padded_line(),
                          block.by_column + query * op.padded_line()};
    }
    relative_scores(op, queries, block.count);
    // Places beyond the end of a line.
    for (std::size_t query = 0; query < block.count; ++query) {
        for (std::size_t column = op.line_length; column < op.padded_line(); ++column) {
            queries[query].by_column[column] = -INFINITY;
        }
    }
}

// Panels of keys whose sums are made before any of them is finished.
constexpr std::size_t KEY_PANELS = rounded_up(4, TILE_PANELS);

// Neighbouring keys, whole panels.
struct Keys {
    std::size_t first, panels;
    std::size_t lines[KEY_PANELS], columns[KEY_PANELS];  // of a panel's first key
};

static CARSAM_INLINE Keys keys_from(const Attention& op, std::size_t panel) {
    const std::size_t left = op.padded_keys() / PANEL - panel;
    Keys keys{panel * PANEL, left < KEY_PANELS ? left : KEY_PANELS, {}, {}};
    for (std::size_t i = 0; i < keys.panels; ++i) {
        keys.lines[i] = (keys.first + i * PANEL) / op.padded_line();
        keys.columns[i] = (keys.first + i * PANEL) % op.padded_line();
    }
    return keys;
}

static CARSAM_INLINE void store_logits(float* target, const Floats& logits) {
    store(target, logits);
}

static CARSAM_INLINE void store_logits(std::int16_t* target, const Floats& logits) {
    store_shorts(target, logits);
}

// From a query's sums of products, in tiles (TILE_ROWS, TILE_COLUMNS), to its logits, from `target` on.
// Without positions `beyond` is added to the last panel.
template <bool HAS_POSITIONS, class Stored>
static CARSAM_INLINE void find_logits_of_query(const Attention& op, const PreparedHead& head,
                                               QueryBlock& block, std::size_t query,
                                               const Keys& keys, std::size_t panels,
                                               const std::int32_t* sums, const float* beyond,
                                               Stored* target) {
    const std::int32_t zero = op.key_grid.zero_point - signed_offset(op.key_grid);
    const Ints zeros = broadcast(zero * block.sums[query]);
    const Floats scale = broadcast(op.score_scale);
    // Copied to locals: the compiler must assume that a store may change `op` and `block`.
    const std::size_t line_length = op.line_length;
    const std::int32_t* constants = head.key_constant + keys.first;
    const float* by_line = block.by_line + query * op.padded_line();
    const float* by_column = block.by_column + query * op.padded_line();
    Floats highest = load(block.maxima + query * LANES);
    for (std::size_t i = 0; i < panels; ++i) {
        const std::size_t tile = i / TILE_PANELS * TILE_ROWS * TILE_COLUMNS;
        const Ints sum = load(sums + tile + i % TILE_PANELS * PANEL);
        Floats logit = to_floats(sum + load(constants + i * PANEL) - zeros) * scale;
        if (HAS_POSITIONS) {
            const Floats line = broadcast(by_line[keys.lines[i]]);
            logit = logit + (line + load(by_column + keys.columns[i]));
        } else if (keys.columns[i] + PANEL > line_length) {
            logit = logit + load(beyond);
        }
        highest = maximum(highest, logit);
        store_logits(target + i * PANEL, logit);
    }
    store(block.maxima + query * LANES, highest);
}

template <bool HAS_POSITIONS, class Stored>
static void find_logits_with(const Attention& op, const PreparedHead& head, QueryBlock& block,
                             Stored* logits) {
    CodeRows codes{block.codes, nullptr, op.padded_head(), op.query_grid.bits()};
    if (is_split(codes.bits, op.key_grid.bits())) {
        codes = split_rows(block.codes, op.padded_head(), block.count, op.padded_head(),
                           block.split);
    }
    const std::size_t key_bytes = op.padded_head(), line = op.padded_line();
    alignas(64) float beyond[PANEL];  // -infinity for places beyond the end of a line
    for (std::size_t lane = 0; lane < PANEL; ++lane) {
        const bool used = line - PANEL + lane < op.line_length;
        beyond[lane] = used ? 0.0f : -INFINITY;
    }
    alignas(64) std::int32_t tiles[TILE_ROWS * KEY_PANELS * PANEL];
    for (std::size_t i = 0; i < block.count * LANES; ++i) {
        block.maxima[i] = -INFINITY;
    }
    for (std::size_t panel = 0; panel * PANEL < op.padded_keys(); panel += KEY_PANELS) {
        const Keys keys = keys_from(op, panel);
        for (std::size_t row = 0; row < block.count; row += TILE_ROWS) {
            const std::size_t rows =
                block.count - row < TILE_ROWS ? block.count - row : TILE_ROWS;
            for (std::size_t i = 0; i < keys.panels; i += TILE_PANELS) {
                const std::size_t left = keys.panels - i;
                product(codes, row, rows, head.key_panels + (keys.first + i * PANEL) * key_bytes,
                        PANEL * key_bytes, left < TILE_PANELS ? left : TILE_PANELS,
                        Steps{key_bytes / STEP}, op.key_grid.bits(), tiles + i * TILE_ROWS * PANEL);
            }
            const auto find = [&](std::size_t panels) {
                for (std::size_t r = 0; r < rows; ++r) {
                    find_logits_of_query<HAS_POSITIONS>(
                        op, head, block, row + r, keys, panels, tiles + r * TILE_COLUMNS, beyond,
                        logits + (row + r) * block.stride + keys.first);
                }
            };
            // The compiler makes better code for a number that it knows.
            if (keys.panels == KEY_PANELS) {
                find(KEY_PANELS);
            } else {
                find(keys.panels);
            }
        }
    }
}

// The logits of all queries: `logits` is (QUERY_BLOCK, block.stride).
template <class Stored>
static void find_logits(const Attention& op, const PreparedHead& head, QueryBlock& block,
                        Stored* logits) {
    if (op.relative_rows) {
        find_logits_with<true>(op, head, block, logits);
    } else {
        find_logits_with<false>(op, head, block, logits);
    }
}

// Sets the codes of one query at places beyond the end of a line.
static void set_padding(const Attention& op, std::uint8_t* codes, int value) {
    const std::size_t line = op.padded_line();
    if (op.line_length == line) return;
    for (std::size_t end = op.line_length; end < op.padded_keys(); end += line) {
        std::memset(codes + end, value, line - op.line_length);
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

// The softmax of one query, and its codes.
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

// Numerators of the block's queries, from logits in steps.
static void find_relative_probabilities(const Attention& op, QueryBlock& block) {
    const std::size_t keys = op.padded_keys();
    for (std::size_t query = 0; query < block.count; ++query) {
        const std::int16_t highest = highest_step(load(block.maxima + query * LANES));
        const std::int16_t* steps = block.steps + query * block.stride;
        std::uint8_t* depths = block.probabilities + query * block.stride;
        for (std::size_t place = 0; place < keys; place += LANES) {
            store_depths(depths + place, steps + place, highest);
        }
        // Places beyond the end of a line have the lowest step, hence depth 255, unless all are as low.
        if (highest < 255 - 32768) set_padding(op, depths, 255);
    }
    find_numerators(op.numerators, block.probabilities, block.count, block.stride, keys);
}

// The steps, four keys each, in which any of the rows has a code other than 0.
static Steps used_steps(const std::uint8_t* codes, std::size_t stride, std::size_t keys,
                        std::size_t rows, std::uint32_t* list) {
    const std::size_t steps = keys / STEP;
    std::size_t count = 0;
    for (std::size_t first = 0; first < steps; first += LANES) {
        Ints any = load_steps(codes + STEP * first);
        for (std::size_t row = 1; row < rows; ++row) {
            any = any | load_steps(codes + row * stride + STEP * first);
        }
        std::uint32_t used = nonzero_lanes(any);
        if (steps - first < LANES) used &= (1u << (steps - first)) - 1;
        if (used == 0xFFFF) {
            for (std::size_t i = 0; i < LANES; ++i) {
                list[count + i] = static_cast<std::uint32_t>(first + i);
            }
            count += LANES;
            continue;
        }
        for (std::size_t step = first; used != 0; ++step, used >>= 1) {
            list[count] = static_cast<std::uint32_t>(step);
            count += used & 1;
        }
    }
    return {count, list, steps};
}

// Products of probabilities with values of a tile's channels: (TILE_ROWS, TILE_COLUMNS).
static CARSAM_INLINE void multiply_values(const Attention& op, const PreparedHead& head,
                                          const CodeRows& codes, std::size_t row, std::size_t rows,
                                          std::size_t channel, std::size_t panels,
                                          std::size_t first_key, const Steps& steps,
                                          std::int32_t* tile) {
    const std::size_t keys = op.padded_keys();
    product(codes.from(first_key / STEP), row, rows,
            head.value_panels + channel * keys + first_key * PANEL, PANEL * keys, panels, steps,
            op.value_grid.bits(), tile);
}

// The same of more keys than add up in 32 bits: sums of parts, exact in float64.
static void multiply_many_values(const Attention& op, const PreparedHead& head, QueryBlock& block,
                                 const CodeRows& codes, std::size_t row, std::size_t rows,
                                 std::size_t channel, std::size_t panels, std::int32_t* tile,
                                 double* totals) {
    const std::size_t keys = op.padded_keys();
    std::memset(totals, 0, TILE_ROWS * TILE_COLUMNS * sizeof(double));
    for (std::size_t first = 0; first < keys; first += op.keys_at_once) {
        const std::size_t count = keys - first < op.keys_at_once ? keys - first : op.keys_at_once;
        const Steps steps = used_steps(block.probabilities + row * block.stride + first,
                                       block.stride, count, rows, block.used_steps);
        multiply_values(op, head, codes, row, rows, channel, panels, first, steps, tile);
        for (std::size_t i = 0; i < rows * TILE_COLUMNS; ++i) totals[i] += tile[i];
    }
}

static void find_output(const Attention& op, const PreparedHead& head, QueryBlock& block,
                        const std::int32_t* output_rows, std::size_t first_channel) {
    const std::size_t keys = op.padded_keys(), channels = op.heads * op.head_dim;
    const bool in_parts = keys > op.keys_at_once;
    CodeRows codes{block.probabilities, nullptr, block.stride, op.probability_grid.bits()};
    if (is_split(codes.bits, op.value_grid.bits())) {
        codes = split_rows(block.probabilities, block.stride, block.count, keys, block.split);
    }
    const std::int32_t zero = op.value_grid.zero_point - signed_offset(op.value_grid);
    const GridLanes grid = grid_lanes(op.output_grid);
    alignas(64) std::int32_t tile[TILE_ROWS * TILE_COLUMNS];
    alignas(64) double totals[TILE_ROWS * TILE_COLUMNS];
    for (std::size_t row = 0; row < block.count; row += TILE_ROWS) {
        const std::size_t rows = block.count - row < TILE_ROWS ? block.count - row : TILE_ROWS;
        Steps steps{0};
        if (!in_parts) {
            steps = used_steps(block.probabilities + row * block.stride, block.stride, keys, rows,
                               block.used_steps);
        }
        for (std::size_t channel = 0; channel < op.head_dim; channel += TILE_COLUMNS) {
            const std::size_t left = op.head_dim - channel;
            const std::size_t panels =
                left < TILE_COLUMNS ? (left + PANEL - 1) / PANEL : TILE_PANELS;
            if (in_parts) {
                multiply_many_values(op, head, block, codes, row, rows, channel, panels, tile,
                                     totals);
            } else {
                multiply_values(op, head, codes, row, rows, channel, panels, 0, steps, tile);
            }
            for (std::size_t i = 0; i < panels * rows; ++i) {
                const std::size_t query = row + i / panels, panel = i % panels;
                const std::size_t first = channel + panel * PANEL;
                const std::size_t place = i / panels * TILE_COLUMNS + panel * PANEL;
                const std::size_t count =
                    op.head_dim - first < PANEL ? op.head_dim - first : PANEL;
                Floats sum;
                if (in_parts) {  // without a zero point of probabilities, hence without a constant
                    const double zeros = static_cast<double>(zero) * block.sums[query];
                    alignas(64) float rounded[PANEL];
                    for (std::size_t lane = 0; lane < PANEL; ++lane) {
                        rounded[lane] = static_cast<float>(totals[place + lane] - zeros);
                    }
                    sum = load(rounded);
                } else {
                    sum = to_floats(load(tile + place) + load(head.value_constant + first) -
                                    broadcast(zero * block.sums[query]));
                }
                const float divisor = op.numerators.entries ? block.sums[query] : 1.0f;
                const Floats value = sum * broadcast(op.value_scale / divisor);
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
    const bool is_relative = op.numerators.entries != nullptr;
    if (is_relative) {
        find_logits(op, prepared, block, block.steps);
    } else {
        find_logits(op, prepared, block, block.logits);
    }
    const std::size_t keys = op.padded_keys();
    if (is_relative) find_relative_probabilities(op, block);
    for (std::size_t query = 0; query < block.count; ++query) {
        std::uint8_t* codes = block.probabilities + query * block.stride;
        if (!is_relative) {
            find_probabilities(op, block, query);
            set_padding(op, codes, 0);
        }
        block.sums[query] = sum_bytes(codes, keys);
    }
    find_output(op, prepared, block, op.output_rows + group * op.queries, first_channel);
}

}  // namespace CARSAM_NAMESPACE
