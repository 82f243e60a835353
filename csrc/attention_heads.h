// Keys and values of one head laid out as panels for the products.
#pragma once

#include "linear_kernel.h"

namespace CARSAM_NAMESPACE {

using carsam::Attention;
using carsam::PreparedHead;

static CARSAM_INLINE std::int32_t signed_offset(const Grid& grid) { return (grid.maximum + 1) / 2; }

// Row of key or value that stands at a padded place, or -1 beyond the end of a line.
static CARSAM_INLINE std::int32_t row_at(const Attention& op, const std::int32_t* rows,
                                         std::size_t place) {
    const std::size_t line = place / op.padded_line(), column = place % op.padded_line();
    return column < op.line_length ? rows[line * op.line_length + column] : -1;
}

// One key into its lane of a panel [padded_head / 4][16][4].
static CARSAM_INLINE void lay_key(const Attention& op, const std::uint8_t* source, int bits,
                                  std::int8_t* lane) {
    const std::size_t whole = op.head_dim / STEP, left = op.head_dim % STEP;
    for (std::size_t step = 0; step < whole; ++step) {
        std::uint32_t codes;
        std::memcpy(&codes, source + STEP * step, STEP);
        codes = signed_codes(codes, bits);
        std::memcpy(lane + step * PANEL * STEP, &codes, STEP);
    }
    if (left > 0) {
        std::uint32_t codes = 0;
        std::memcpy(&codes, source + STEP * whole, left);
        codes = signed_codes(codes, bits);
        std::memcpy(lane + whole * PANEL * STEP, &codes, left);
    }
}

static void prepare_keys(const Attention& op, const PreparedHead& head, const std::int32_t* rows,
                         std::size_t first_channel) {
    const int bits = op.key_grid.bits();
    const std::int32_t channels = static_cast<std::int32_t>(op.head_dim);
    const std::size_t line = op.padded_line();
    if (op.head_dim < op.padded_head() || op.line_length < line) {
        std::memset(head.key_panels, 0, op.padded_keys() * op.padded_head());
    }
    for (std::size_t key = 0; key < op.lines * op.line_length; ++key) {
        const std::size_t place = key / op.line_length * line + key % op.line_length;
        const std::uint8_t* source = op.key + rows[key] * op.key_stride + first_channel;
        lay_key(op, source, bits,
                head.key_panels + place / PANEL * PANEL * op.padded_head() + place % PANEL * STEP);
        head.key_constant[place] =
            op.query_grid.zero_point *
            (channels * op.key_grid.zero_point - sum_bytes(source, op.head_dim));
    }
    for (std::size_t end = op.line_length; end < op.padded_keys(); end += line) {
        std::memset(head.key_constant + end, 0, (line - op.line_length) * sizeof(std::int32_t));
    }
}

// Codes of up to four keys, 16 channels each, as [16][4] less `offset`; adds them to `sums`.
static CARSAM_INLINE void lay_values(const std::uint8_t (&codes)[STEP][PANEL], std::uint8_t offset,
                                     std::int8_t* target, std::int32_t* sums) {
    for (std::size_t channel = 0; channel < PANEL; ++channel) {
        for (std::size_t key = 0; key < STEP; ++key) {
            target[channel * STEP + key] = static_cast<std::int8_t>(codes[key][channel] - offset);
        }
        sums[channel] += codes[0][channel] + codes[1][channel] + codes[2][channel] +
                         codes[3][channel];
    }
}

static void prepare_values(const Attention& op, const PreparedHead& head, const std::int32_t* rows,
                           std::size_t first_channel) {
    const std::size_t keys = op.padded_keys(), line = op.padded_line();
    const std::uint8_t offset = static_cast<std::uint8_t>(signed_offset(op.value_grid));
    std::memset(head.value_constant, 0, op.padded_head() * sizeof(std::int32_t));
    for (std::size_t place = 0; place < keys; place += STEP) {
        const std::size_t column = place % line;
        const std::int32_t* step_rows = rows + place / line * op.line_length + column;
        for (std::size_t channel = 0; channel < op.head_dim; channel += PANEL) {
            const std::size_t left = op.head_dim - channel, width = left < PANEL ? left : PANEL;
            alignas(16) std::uint8_t codes[STEP][PANEL];
            std::memset(codes, offset, sizeof codes);
            for (std::size_t key = 0; key < STEP && column + key < op.line_length; ++key) {
                const std::uint8_t* source =
                    op.value + step_rows[key] * op.value_stride + first_channel + channel;
                if (width == PANEL) {
                    std::memcpy(codes[key], source, PANEL);
                } else {
                    std::memcpy(codes[key], source, width);
                }
            }
            lay_values(codes, offset, head.value_panels + channel * keys + place * PANEL,
                       head.value_constant + channel);
        }
    }
    // Places beyond the end of a line were added as `offset`, which is the signed code 0.
    const std::int32_t beyond = static_cast<std::int32_t>(keys - op.keys) * offset;
    const std::int32_t zeros = static_cast<std::int32_t>(op.keys) * op.value_grid.zero_point;
    for (std::size_t channel = 0; channel < op.head_dim; ++channel) {
        head.value_constant[channel] = op.probability_grid.zero_point *
                                       (zeros - (head.value_constant[channel] - beyond));
    }
}

static void prepare_head(const Attention& op, const PreparedHead& prepared, std::size_t group,
                         std::size_t head) {
    const std::int32_t* rows = op.key_rows + group * op.keys;
    prepare_keys(op, prepared, rows, head * op.head_dim);
    prepare_values(op, prepared, rows, head * op.head_dim);
}

}  // namespace CARSAM_NAMESPACE
