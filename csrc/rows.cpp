// Drivers of the row-wise operators.

#include <algorithm>

#include "dispatch.h"
#include "drivers.h"
#include "scratch.h"
#include "threads.h"

namespace carsam {
namespace {

constexpr std::size_t ROW_BLOCK = 96;       // rows whose codes stay in cache over all panels
constexpr std::size_t TILE = 12;            // a multiple of the rows that any tile has
constexpr std::size_t COLUMN_BLOCK = 256;   // of a product of floats
constexpr std::size_t NUMBERS_AT_ONCE = 1 << 15;  // of a row-wise operator's part
constexpr std::size_t PARTS_PER_THREAD = 4;
constexpr std::size_t PRODUCTS_AT_ONCE = 1 << 21;  // of a part; fewer are not worth another thread
constexpr std::size_t UPSCALE_BLOCK = 96;  // image tokens of a part
constexpr std::size_t UNPACKING = 16;  // products that take as long as unpacking one weight

void for_row_blocks(std::size_t rows, std::size_t block,
                    const std::function<void(std::size_t, std::size_t)>& part) {
    parallel_for((rows + block - 1) / block, 1, [&](std::size_t index) {
        part(index * block, std::min(rows, (index + 1) * block));
    });
}

// Parts of nearly equal size, at most `block` rows and whole tiles, equally many for each thread.
void for_even_row_blocks(std::size_t rows, std::size_t block,
                         const std::function<void(std::size_t, std::size_t)>& part) {
    const std::size_t tiles = (rows + TILE - 1) / TILE;
    const std::size_t count = rounded_up((rows + block - 1) / block, threads());
    parallel_for(count, 1, [&](std::size_t index) {
        const std::size_t first = index * tiles / count * TILE;
        part(first, std::min(rows, (index + 1) * tiles / count * TILE));
    });
}

std::size_t rows_at_once(std::size_t columns) {
    return std::max<std::size_t>(1, NUMBERS_AT_ONCE / std::max<std::size_t>(columns, 1));
}

}  // namespace

void run_linear(Linear op) {
    const Kernels& set = kernels();
    const std::size_t panels = rounded_up(op.weight.rows, PANEL) / PANEL;
    const std::size_t width = rounded_up(op.weight.columns, STEP);
    auto* unpacked = scratch_of<std::int8_t>(Scratch::panels, panels * PANEL * width);
    op.panels = unpacked;
    op.constant = scratch_of<std::int32_t>(Scratch::columns, panels * PANEL);
    const std::size_t products = panels * PANEL * width * (std::min(op.rows, ROW_BLOCK) + UNPACKING);
    const std::size_t parts = std::min(
        {panels, PARTS_PER_THREAD * threads(), products / PRODUCTS_AT_ONCE + 1});
    const std::size_t panels_at_once = (panels + parts - 1) / parts;
    const bool one_block = op.rows <= ROW_BLOCK;  // each part multiplies what it has unpacked
    for_row_blocks(panels, panels_at_once, [&](std::size_t first, std::size_t last) {
        set.prepare(op, unpacked, first, last);
        if (one_block) set.multiply(op, 0, op.rows, first, last);
    });
    if (one_block) return;
    for_even_row_blocks(op.rows, ROW_BLOCK, [&](std::size_t first, std::size_t last) {
        set.multiply(op, first, last, 0, panels);
    });
}

void run_float_product(const FloatProduct& op) {
    const Kernels& set = kernels();
    const std::size_t row_blocks = (op.rows + ROW_BLOCK - 1) / ROW_BLOCK;
    const std::size_t column_blocks = (op.columns + COLUMN_BLOCK - 1) / COLUMN_BLOCK;
    const std::size_t products = std::min(op.rows, ROW_BLOCK) * COLUMN_BLOCK * op.depth;
    parallel_for(row_blocks * column_blocks, PRODUCTS_AT_ONCE / (products + 1),
                 [&](std::size_t index) {
        const std::size_t row = index / column_blocks * ROW_BLOCK;
        const std::size_t column = index % column_blocks * COLUMN_BLOCK;
        set.float_product(op, row, std::min(op.rows, row + ROW_BLOCK), column,
                          std::min(op.columns, column + COLUMN_BLOCK));
    });
}

void run_layer_norm(const LayerNorm& op, std::size_t rows) {
    const Kernels& set = kernels();
    for_row_blocks(rows, rows_at_once(op.columns), [&](std::size_t first, std::size_t last) {
        set.layer_norm(op, first, last);
    });
}

void run_activate(const Activate& op, std::size_t rows) {
    const Kernels& set = kernels();
    for_row_blocks(rows, rows_at_once(op.columns), [&](std::size_t first, std::size_t last) {
        set.activate(op, first, last);
    });
}

void run_round_to_table(const RoundToTable& op, std::size_t count) {
    const Kernels& set = kernels();
    for_row_blocks(count, NUMBERS_AT_ONCE, [&](std::size_t first, std::size_t last) {
        set.round_to_table(op, first, last);
    });
}

void run_quantize(const Quantize& op, std::size_t rows) {
    const Kernels& set = kernels();
    for_row_blocks(rows, rows_at_once(op.columns), [&](std::size_t first, std::size_t last) {
        set.quantize(op, first, last);
    });
}

void run_look_up(LookUp op, std::size_t rows) {
    const Kernels& set = kernels();
    for (int code = 0; code < 255; ++code) {
        if (op.table[code] == op.table[code + 1]) continue;
        if (op.steps < LookUp::FEW_STEPS) {
            op.after[op.steps] = static_cast<std::uint8_t>(code);
            op.entry[op.steps] = op.table[code + 1];
        }
        ++op.steps;
    }
    for_row_blocks(rows, rows_at_once(op.columns), [&](std::size_t first, std::size_t last) {
        set.look_up(op, first, last);
    });
}

void run_weighted_rows(const WeightedRows& op, std::size_t rows) {
    const Kernels& set = kernels();
    for_row_blocks(rows, rows_at_once(op.columns * op.taps),
                   [&](std::size_t first, std::size_t last) { set.weighted_rows(op, first, last); });
}

void run_upscale(const Upscale& op, std::size_t prompts) {
    const Kernels& set = kernels();
    const std::size_t tokens = op.size * op.size;
    const std::size_t blocks = (tokens + UPSCALE_BLOCK - 1) / UPSCALE_BLOCK;
    parallel_for(prompts * blocks, 1, [&](std::size_t index) {
        const std::size_t first = index % blocks * UPSCALE_BLOCK;
        set.upscale(op, index / blocks, first, std::min(tokens, first + UPSCALE_BLOCK));
    });
}

}  // namespace carsam
