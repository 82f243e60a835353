// The tile of AMX: two by two registers of sums, and the table of all functions around it.
//
// A panel's steps are rows of 64 bytes, as a register of weights has them; sixteen rows of codes fill
// another one. The including file defines CARSAM_NAMESPACE, CARSAM_NAME and the operations on
// registers.
#pragma once

#include "amx_shapes.h"
#include "lanes.h"
#include "steps.h"
#if defined(__AVX512VNNI__)
#include "vnni_tile.h"
#endif

namespace CARSAM_NAMESPACE {

constexpr std::size_t REGISTER_ROWS = 16;
constexpr std::size_t TILE_ROWS = 2 * REGISTER_ROWS;
constexpr std::size_t TILE_PANELS = 2;

static constexpr bool fits_tile(int, int) { return true; }

// What the registers of a thread are shaped for: rows of a tile, and steps of a chunk; 0: nothing.
struct TileShape {
    std::size_t rows = 0, steps = 0;
};
static thread_local TileShape shaped;

// Registers 0 to 3 hold sums: rows 0 to 15 by two panels, rows 16 to 31 by two panels. Registers 4 and
// 5 hold codes of these rows, 6 and 7 weights of the panels. Shapes stay until others are needed:
// changing them clears all registers and takes long.
static void shape_for(std::size_t rows, std::size_t steps) {
    if (shaped.rows == rows && shaped.steps == steps) return;
    const std::size_t upper = rows < REGISTER_ROWS ? rows : REGISTER_ROWS, lower = rows - upper;
    RegisterShapes shapes;
    shapes.set(0, upper, 64);
    shapes.set(1, upper, 64);
    shapes.set(2, lower, 64);
    shapes.set(3, lower, 64);
    shapes.set(4, upper, 4 * steps);
    shapes.set(5, lower, 4 * steps);
    shapes.set(6, steps, 64);
    shapes.set(7, steps, 64);
    SHAPE_REGISTERS(shapes);
    shaped = {rows, steps};
}

// Neighbouring steps of K, cut into chunks that registers hold.
struct Chunks {
    std::size_t first, last, steps;
};

// Whether any listed step is below `end`; `index` moves to the first one that is not below `first`.
static CARSAM_INLINE bool is_listed(const Steps& steps, std::size_t& index, std::size_t first,
                                    std::size_t end) {
    while (index < steps.count && steps.list[index] < first) ++index;
    return index < steps.count && steps.list[index] < end;
}

// Adds the products of `chunks` to what stands in `result`, or replaces it if they are the first. A
// chunk without a listed step adds nothing.
template <bool LOWER, bool SECOND, bool LISTED>
static void multiply_chunks(const std::uint8_t* codes, std::size_t stride, const std::int8_t* panels,
                            std::size_t panel_stride, const Steps& steps, const Chunks& chunks,
                            std::int32_t* result) {
    constexpr std::size_t ROW_BYTES = TILE_PANELS * 64;
    std::int32_t* lower = result + REGISTER_ROWS * TILE_PANELS * 16;
    if (chunks.first == 0) {
        CLEAR_REGISTER(0);
        if constexpr (SECOND) CLEAR_REGISTER(1);
        if constexpr (LOWER) CLEAR_REGISTER(2);
        if constexpr (LOWER && SECOND) CLEAR_REGISTER(3);
    } else {
        LOAD_REGISTER(0, result, ROW_BYTES);
        if constexpr (SECOND) LOAD_REGISTER(1, result + 16, ROW_BYTES);
        if constexpr (LOWER) LOAD_REGISTER(2, lower, ROW_BYTES);
        if constexpr (LOWER && SECOND) LOAD_REGISTER(3, lower + 16, ROW_BYTES);
    }
    std::size_t index = 0;
    for (std::size_t step = chunks.first; step < chunks.last; step += chunks.steps) {
        if (LISTED && !is_listed(steps, index, step, step + chunks.steps)) continue;
        LOAD_REGISTER(4, codes + 4 * step, stride);
        LOAD_REGISTER(6, panels + 64 * step, 64);
        ADD_PRODUCTS(0, 4, 6);
        if constexpr (SECOND) {
            LOAD_REGISTER(7, panels + panel_stride + 64 * step, 64);
            ADD_PRODUCTS(1, 4, 7);
        }
        if constexpr (LOWER) {
            LOAD_REGISTER(5, codes + REGISTER_ROWS * stride + 4 * step, stride);
            ADD_PRODUCTS(2, 5, 6);
        }
        if constexpr (LOWER && SECOND) ADD_PRODUCTS(3, 5, 7);
    }
    STORE_REGISTER(0, result, ROW_BYTES);
    if constexpr (SECOND) STORE_REGISTER(1, result + 16, ROW_BYTES);
    if constexpr (LOWER) STORE_REGISTER(2, lower, ROW_BYTES);
    if constexpr (LOWER && SECOND) STORE_REGISTER(3, lower + 16, ROW_BYTES);
}

// The steps of K in equal chunks: as many steps as registers hold, or a few less if nothing is left
// over then, so that registers need not be shaped anew for the rest.
static Chunks equal_chunks(std::size_t steps) {
    constexpr std::size_t MOST = REGISTER_ROWS, LEAST = MOST / 2;
    if (steps % MOST == 0) return {0, steps, MOST};
    for (std::size_t chunk = MOST - 1; chunk >= LEAST; --chunk) {
        if (steps % chunk == 0) return {0, steps, chunk};
    }
    const std::size_t chunk = steps < MOST ? steps : MOST;
    return {0, steps / chunk * chunk, chunk};
}

static void multiply_tile(const std::uint8_t* codes, std::size_t stride, std::size_t rows,
                          const std::int8_t* panels, std::size_t panel_stride,
                          std::size_t panel_count, const Steps& steps, int, int,
                          std::int32_t* result) {
#if defined(__AVX512VNNI__)
    // With few rows, shaping registers takes longer than multiplying.
    if (rows <= REGISTER_ROWS) {
        for (std::size_t row = 0; row < rows; row += VNNI_ROWS) {
            const std::size_t some = rows - row < VNNI_ROWS ? rows - row : VNNI_ROWS;
            multiply_few(codes + row * stride, stride, some, panels, panel_stride, panel_count,
                         steps, result + row * TILE_PANELS * 16);
        }
        return;
    }
#endif
    using Multiply = decltype(&multiply_chunks<false, false, false>);
    static constexpr Multiply MULTIPLY[2][2][2] = {
        {{multiply_chunks<false, false, false>, multiply_chunks<false, false, true>},
         {multiply_chunks<false, true, false>, multiply_chunks<false, true, true>}},
        {{multiply_chunks<true, false, false>, multiply_chunks<true, false, true>},
         {multiply_chunks<true, true, false>, multiply_chunks<true, true, true>}}};
    const Multiply multiply =
        MULTIPLY[rows > REGISTER_ROWS][panel_count == TILE_PANELS][steps.list != nullptr];
    const std::size_t all = steps.list ? steps.all : steps.count;
    const Chunks equal = equal_chunks(all), rest{equal.last, all, all - equal.last};
    shape_for(rows, equal.steps);
    multiply(codes, stride, panels, panel_stride, steps, equal, result);
    if (rest.steps == 0) return;
    shape_for(rows, rest.steps);
    multiply(codes, stride, panels, panel_stride, steps, rest, result);
}

// Registers in use slow down every switch of threads, and other libraries shape them as they like: no
// kernel leaves them behind.
struct Release {
    ~Release() {
        if (shaped.rows == 0) return;
        RELEASE_REGISTERS();
        shaped = {};
    }
};

template <auto KERNEL, class... Arguments> static void then_release(Arguments... arguments) {
    const Release release;
    KERNEL(arguments...);
}

}  // namespace CARSAM_NAMESPACE

#include "amx_float_panels.h"
#include "table.h"

namespace CARSAM_NAMESPACE {

static constexpr carsam::Kernels releasing_table() {
    carsam::Kernels table = TABLE;
    table.prepare = then_release<prepare>;
    table.multiply = then_release<multiply>;
    table.upscale = then_release<upscale>;
    table.attend = then_release<attend>;
    table.attend_to_few = then_release<attend_to_few>;
    table.attend_with_table = then_release<attend_with_table>;
    return table;
}

}  // namespace CARSAM_NAMESPACE
