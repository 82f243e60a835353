// Attention of many queries to at most 16 keys, as the decoder's image tokens have: 16 queries lie in lanes,
// so that softmax goes through as many vectors as there are keys, and folds none.
#pragma once

#include "attention_kernel.h"
#include "look_up_kernel.h"

namespace CARSAM_NAMESPACE {

// The keys of a head as rows of codes, and what a product lacks for each.
struct FewKeys {
    CodeRows codes;
    std::int32_t constants[PANEL];
};

static FewKeys gather_keys(const Attention& op, const std::int32_t* rows, std::size_t first_channel,
                           std::uint8_t* memory) {
    const std::size_t width = op.padded_head();
    FewKeys keys{{memory, nullptr, width, op.key_grid.bits()}, {}};
    const std::int32_t zero = op.query_grid.zero_point - signed_offset(op.query_grid);
    const std::int32_t zeros = static_cast<std::int32_t>(op.head_dim) * op.key_grid.zero_point;
    std::memset(memory, 0, op.keys * width);
    for (std::size_t key = 0; key < op.keys; ++key) {
        const std::uint8_t* source = op.key + rows[key] * op.key_stride + first_channel;
        std::memcpy(memory + key * width, source, op.head_dim);
        keys.constants[key] = zero * (zeros - sum_bytes(source, op.head_dim));
    }
    if (is_split(keys.codes.bits, op.query_grid.bits())) {
        keys.codes = split_rows(memory, width, op.keys, width, memory + op.keys * width);
    }
    return keys;
}

// The logits of 16 queries, which are a panel, for every key.
static CARSAM_INLINE void find_logits_in_lanes(const Attention& op, const FewKeys& keys,
                                               const std::int8_t* panel, const Ints& query_sums,
                                               Floats* logits) {
    const std::size_t width = op.padded_head();
    const std::int32_t channels = static_cast<std::int32_t>(op.head_dim);
    const Ints zeros = (query_sums - broadcast(channels * signed_offset(op.query_grid))) *
                       broadcast(op.key_grid.zero_point);
    const Floats scale = broadcast(op.score_scale);
    alignas(64) std::int32_t tile[TILE_ROWS * TILE_COLUMNS];
    for (std::size_t first = 0; first < op.keys; first += TILE_ROWS) {
        const std::size_t rows = op.keys - first < TILE_ROWS ? op.keys - first : TILE_ROWS;
        product(keys.codes, first, rows, panel, width * PANEL, 1, Steps{width / STEP},
                op.query_grid.bits(), tile);
        for (std::size_t row = 0; row < rows; ++row) {
            const Ints sum = load(tile + row * TILE_COLUMNS) - zeros;
            logits[first + row] = to_floats(sum + broadcast(keys.constants[first + row])) * scale;
        }
    }
}

// The sum of all powers, added up as a row's lanes are folded.
static CARSAM_INLINE Floats fold_keys(const Floats* powers, std::size_t keys) {
    Floats sums[LANES];
    for (std::size_t key = 0; key < keys; ++key) sums[key] = powers[key];
    for (std::size_t half = LANES / 2; half > 0; half /= 2) {
        for (std::size_t key = half; key < keys; ++key) sums[key - half] = sums[key - half] + sums[key];
        if (keys > half) keys = half;
    }
    return sums[0];
}

// Codes of the probabilities, or numerators: [key][query].
static CARSAM_INLINE void find_probabilities_in_lanes(const Attention& op, Floats* logits,
                                                      std::uint8_t* codes) {
    const std::size_t keys = op.keys;
    Floats highest = logits[0];
    for (std::size_t key = 1; key < keys; ++key) highest = maximum(highest, logits[key]);
    if (op.numerators.entries) {
        const Floats least = broadcast(-32768.0f), most = broadcast(32767.0f);
        const Floats top = rounded(minimum(maximum(highest, least), most)).whole;
        for (std::size_t key = 0; key < keys; ++key) {
            const Floats step = rounded(minimum(maximum(logits[key], least), most)).whole;
            store_bytes(codes + key * LANES, to_ints(minimum(top - step, broadcast(255.0f))));
        }
        look_up_bytes(op.numerators, codes, keys * LANES);
        return;
    }
    for (std::size_t key = 0; key < keys; ++key) logits[key] = exp2(logits[key] - highest);
    const Grid& grid = op.probability_grid;
    const Floats factor = broadcast(grid.inverse_scale) / fold_keys(logits, keys);
    const Ints zero = broadcast(grid.zero_point - ROUNDING_BITS);
    const Floats limit = broadcast(static_cast<float>(grid.maximum - grid.zero_point));
    for (std::size_t key = 0; key < keys; ++key) {
        const Floats scaled = minimum(logits[key] * factor, limit);
        store_bytes(codes + key * LANES, round_to_ints(scaled) + zero);
    }
}

static void attend_to_few(const Attention& op, const PreparedHead& prepared, std::size_t group,
                          std::size_t head, std::size_t first_query, std::size_t last_query) {
    const std::size_t first_channel = head * op.head_dim, width = op.padded_head();
    const std::int32_t* rows = op.query_rows + group * op.queries;
    const int bits = op.query_grid.bits();
    auto* memory = carsam::scratch_of<std::uint8_t>(
        carsam::Scratch::rows, op.keys * width + split_bytes(op.keys, width) + PANEL * width +
                                   LANES * PANEL + split_bytes(LANES, PANEL));
    const FewKeys keys = gather_keys(op, op.key_rows + group * op.keys, first_channel, memory);
    auto* panel = reinterpret_cast<std::int8_t*>(memory + op.keys * width + split_bytes(op.keys, width));
    std::memset(panel, 0, PANEL * width);
    std::uint32_t used_steps[PANEL / STEP];
    QueryBlock block{};
    block.probabilities = reinterpret_cast<std::uint8_t*>(panel) + PANEL * width;
    block.split = block.probabilities + LANES * PANEL;
    block.stride = PANEL;
    block.used_steps = used_steps;
    std::memset(block.probabilities, 0, LANES * PANEL);
    Floats logits[PANEL];
    alignas(16) std::uint8_t codes[PANEL * LANES];
    for (std::size_t place = first_query; place < last_query;) {
        std::int32_t sums[LANES] = {};
        block.count = 0;
        for (; place < last_query && block.count < LANES; ++place) {
            if (rows[place] < 0) continue;
            const std::uint8_t* source = op.query + rows[place] * op.query_stride + first_channel;
            lay_key(op, source, bits, panel + block.count * STEP);
            sums[block.count] = sum_bytes(source, op.head_dim);
            block.places[block.count++] = place;
        }
        if (block.count == 0) return;
        find_logits_in_lanes(op, keys, panel, load(sums), logits);
        find_probabilities_in_lanes(op, logits, codes);
        for (std::size_t query = 0; query < block.count; ++query) {
            std::uint8_t* row = block.probabilities + query * PANEL;
            for (std::size_t key = 0; key < op.keys; ++key) row[key] = codes[key * LANES + query];
            block.sums[query] = sum_bytes(row, PANEL);
        }
        find_output(op, prepared, block, op.output_rows + group * op.queries, first_channel);
    }
}

}  // namespace CARSAM_NAMESPACE
