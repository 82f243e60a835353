// Drivers of the row-wise operators.

#include <algorithm>

#include "dispatch.h"
#include "drivers.h"
#include "scratch.h"
#include "threads.h"

namespace carsam {
namespace {

constexpr std::size_t ROW_BLOCK = 96;       // rows whose codes stay in cache over all panels
constexpr std::size_t COLUMN_BLOCK = 256;   // of a product of floats
constexpr std::size_t NUMBERS_AT_ONCE = 1 << 15;  // of a row-wise operator's part
constexpr std::size_t PARTS_PER_THREAD = 4;
constexpr std::size_t PRODUCTS_AT_ONCE = 1 << 21;  // of a part; fewer are not worth another thread
constexpr std::size_t UPSCALE_BLOCK = 96;  // image tokens of a part
constexpr std::size_t ROWS_OF_NORM = 8;
constexpr std::size_t UNPACKING = 16;  // products that take as long as unpacking one weight

void for_row_blocks(std::size_t rows, std::size_t block,
                    const std::function<void(std::size_t, std::size_t)>& part) {
    parallel_for((rows + block - 1) / block, 1, [&](std::size_t index) {
        part(index * block, std::min(rows, (index + 1) * block));
    });
}

// Parts of nearly equal size, at most `block` rows and whole units, equally many for each thread.
void for_even_row_blocks(std::size_t rows, std::size_t unit, std::size_t block,
                         const std::function<void(std::size_t, std::size_t)>& part) {
    const std::size_t units = (rows + unit - 1) / unit;
    const std::size_t count = rounded_up((rows + block - 1) / block, threads());
    parallel_for(count, 1, [&](std::size_t index) {
        const std::size_t first = index * units / count * unit;
        part(first, std::min(rows, (index + 1) * units / count * unit));
    });
}

std::size_t rows_at_once(std::size_t columns) {
    return std::max<std::size_t>(1, NUMBERS_AT_ONCE / std::max<std::size_t>(columns, 1));
}

// A few rows at a time: what is added to them is read from the first-level cache for the second grid.
void norm_on_grids(const Kernels& set, const NormOnGrids& op, std::size_t first, std::size_t last) {
    for (std::size_t row = first; row < last; row += ROWS_OF_NORM) {
        const std::size_t end = std::min(last, row + ROWS_OF_NORM);
        set.layer_norm(op.norm, row, end);
        for (const Quantize& codes : op.codes) set.quantize(codes, row, end);
        for (const LookUp& table : op.tables) set.look_up(table, row, end);
    }
}

}  // namespace

void run_linear(Linear op, const NormOnGrids* then) {
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
    if (one_block) {
        if (then) norm_on_grids(set, *then, 0, op.rows);
        return;
    }
    for_even_row_blocks(op.rows, set.row_unit, ROW_BLOCK, [&](std::size_t first, std::size_t last) {
        set.multiply(op, first, last, 0, panels);
        if (then) norm_on_grids(set, *then, first, last);
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

void run_norm_on_grids(const NormOnGrids& op, std::size_t rows) {
    const Kernels& set = kernels();
    for_row_blocks(rows, rows_at_once(op.norm.columns), [&](std::size_t first, std::size_t last) {
        norm_on_grids(set, op, first, last);
    });
}

void run_look_up(const LookUp& op, std::size_t rows) {
    const Kernels& set = kernels();
    for_row_blocks(rows, rows_at_once(op.columns), [&](std::size_t first, std::size_t last) {
        set.look_up(op, first, last);
    });
}

void run_weighted_rows(const WeightedRows& op, std::size_t rows) {
    const Kernels& set = kernels();
    for_row_blocks(rows, rows_at_once(op.columns * op.taps),
                   [&](std::size_t first, std::size_t last) { set.weighted_rows(op, first, last); });
}

void run_rotate(const Rotate& op, std::size_t rows) {
    const Kernels& set = kernels();
    for_row_blocks(rows, rows_at_once(op.columns), [&](std::size_t first, std::size_t last) {
        set.rotate(op, first, last);
    });
}

void run_depthwise(const Depthwise& op) {
    const Kernels& set = kernels();
    for_row_blocks(op.height, 1, [&](std::size_t first, std::size_t last) {
        set.depthwise(op, first, last);
    });
}

void run_upscale(Upscale op, std::size_t prompts) {
    const Kernels& set = kernels();
    if (set.split_panels) {
        const std::size_t columns1 = 4 * op.channels1, columns2 = 4 * op.channels2;
        const std::size_t size1 = 2 * columns1 * rounded_up(op.channels, 32);
        const std::size_t size2 = 2 * columns2 * rounded_up(op.channels1, 32);
        auto* parts = scratch_of<std::uint16_t>(Scratch::panels, size1 + size2);
        set.split_panels(op.panels1, columns1, op.channels, parts);
        set.split_panels(op.panels2, columns2, op.channels1, parts + size1);
        op.parts1 = parts;
        op.parts2 = parts + size1;
    }
    const std::size_t tokens = op.size * op.size;
    const std::size_t blocks = (tokens + UPSCALE_BLOCK - 1) / UPSCALE_BLOCK;
    parallel_for(prompts * blocks, 1, [&](std::size_t index) {
        const std::size_t first = index % blocks * UPSCALE_BLOCK;
        set.upscale(op, index / blocks, first, std::min(tokens, first + UPSCALE_BLOCK));
    });
}

}  // namespace carsam
