// The tile registers of AMX: eight of up to 16 rows of up to 64 bytes. Compilers want their numbers as
// literals, hence macros.
#pragma once

#include <immintrin.h>

// GCC's intrinsics do not tell the compiler what memory they read.
#define REGISTER_BARRIER(address) __asm__ volatile("" : : "r"(address) : "memory")

// `shapes` is a RegisterShapes.
#define SHAPE_REGISTERS(shapes)       \
    {                                 \
        REGISTER_BARRIER(&(shapes));  \
        _tile_loadconfig(&(shapes));  \
    }
#define RELEASE_REGISTERS() _tile_release()
#define LOAD_REGISTER(number, address, stride)     \
    {                                              \
        REGISTER_BARRIER(address);                 \
        _tile_loadd(number, address, stride);      \
    }
#define STORE_REGISTER(number, address, stride) _tile_stored(number, address, stride)
#define CLEAR_REGISTER(number) _tile_zero(number)
// sums[row][column] += codes[row][4 step + i] * weights[step][4 column + i] over all steps and i < 4:
// unsigned codes, signed weights, 32-bit sums.
#define ADD_PRODUCTS(sums, codes, weights) _tile_dpbusd(sums, codes, weights)
// sums[row][column] += values[row][2 pair + i] * weights[pair][2 column + i] over all pairs and i < 2:
// bfloat16 numbers, float sums.
#define ADD_FLOAT_PRODUCTS(sums, values, weights) _tile_dpbf16ps(sums, values, weights)
