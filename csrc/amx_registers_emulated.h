// The operations of amx_registers.h on plain arrays: exact, and refusing what the processor refuses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "amx_shapes.h"

namespace CARSAM_NAMESPACE {

struct Register {
    std::size_t rows = 0, bytes = 0;  // 0: cannot be used
    std::uint8_t data[16][64] = {};
};

static thread_local Register registers[8];

static inline void require(bool condition, const char* message) {
    if (!condition) throw std::logic_error(message);
}

static inline Register& register_at(int number) {
    Register& found = registers[number];
    require(found.rows > 0, "a tile register without a shape is used");
    return found;
}

static inline void release_registers() {
    for (Register& each : registers) each = {};
}

static inline void shape_registers(const RegisterShapes& shapes) {
    release_registers();
    require(shapes.palette == 1 && shapes.start_row == 0, "ldtilecfg: another palette than 1");
    for (const std::uint8_t byte : shapes.reserved) require(byte == 0, "ldtilecfg: reserved byte");
    for (int number = 0; number < 16; ++number) {
        const std::size_t rows = shapes.rows[number], bytes = shapes.bytes[number];
        require(rows <= 16 && bytes <= 64 && (rows == 0) == (bytes == 0), "ldtilecfg: shape");
        require(rows == 0 || number < 8, "ldtilecfg: there are eight registers");
        if (rows == 0) continue;
        registers[number].rows = rows;
        registers[number].bytes = bytes;
    }
}

static inline void load_register(int number, const void* address, std::size_t stride) {
    Register& target = register_at(number);
    const auto* source = static_cast<const std::uint8_t*>(address);
    for (std::size_t row = 0; row < target.rows; ++row) {
        std::memcpy(target.data[row], source + row * stride, target.bytes);
    }
}

static inline void store_register(int number, void* address, std::size_t stride) {
    const Register& source = register_at(number);
    auto* target = static_cast<std::uint8_t*>(address);
    for (std::size_t row = 0; row < source.rows; ++row) {
        std::memcpy(target + row * stride, source.data[row], source.bytes);
    }
}

static inline void clear_register(int number) {
    Register& target = register_at(number);
    std::memset(target.data, 0, sizeof target.data);
}

static inline void add_products(int sums, int codes, int weights) {
    Register& target = register_at(sums);
    const Register &left = register_at(codes), &right = register_at(weights);
    require(left.rows == target.rows && right.bytes == target.bytes &&
                left.bytes == 4 * right.rows && target.bytes % 4 == 0,
            "tdpbusd: shapes that do not fit");
    for (std::size_t row = 0; row < target.rows; ++row) {
        std::int32_t totals[16];
        std::memcpy(totals, target.data[row], sizeof totals);
        for (std::size_t step = 0; step < right.rows; ++step) {
            const std::uint8_t* code = left.data[row] + 4 * step;
            const auto* weight = reinterpret_cast<const std::int8_t*>(right.data[step]);
            for (int column = 0; column < 16; ++column) {
                for (int i = 0; i < 4; ++i) totals[column] += code[i] * weight[4 * column + i];
            }
        }
        std::memcpy(target.data[row], totals, target.bytes);
    }
}

static inline float bfloat_at(const std::uint8_t* bytes) {
    std::uint32_t bits = 0;
    std::memcpy(reinterpret_cast<std::uint8_t*>(&bits) + 2, bytes, 2);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// The order of these sums, and so their last bit, is not the processor's.
static inline void add_float_products(int sums, int values, int weights) {
    Register& target = register_at(sums);
    const Register &left = register_at(values), &right = register_at(weights);
    require(left.rows == target.rows && right.bytes == target.bytes &&
                left.bytes == 4 * right.rows && target.bytes % 4 == 0,
            "tdpbf16ps: shapes that do not fit");
    for (std::size_t row = 0; row < target.rows; ++row) {
        float totals[16];
        std::memcpy(totals, target.data[row], sizeof totals);
        for (std::size_t pair = 0; pair < right.rows; ++pair) {
            for (int i = 0; i < 2; ++i) {
                const float value = bfloat_at(left.data[row] + 4 * pair + 2 * i);
                for (int column = 0; column < 16; ++column) {
                    totals[column] += value * bfloat_at(right.data[pair] + 4 * column + 2 * i);
                }
            }
        }
        std::memcpy(target.data[row], totals, target.bytes);
    }
}

}  // namespace CARSAM_NAMESPACE

#define SHAPE_REGISTERS(shapes) shape_registers(shapes)
#define RELEASE_REGISTERS() release_registers()
#define LOAD_REGISTER(number, address, stride) load_register(number, address, stride)
#define STORE_REGISTER(number, address, stride) store_register(number, address, stride)
#define CLEAR_REGISTER(number) clear_register(number)
#define ADD_PRODUCTS(sums, codes, weights) add_products(sums, codes, weights)
#define ADD_FLOAT_PRODUCTS(sums, values, weights) add_float_products(sums, values, weights)
