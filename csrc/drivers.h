// Whole operators: the work cut into parts, spread over threads.
#pragma once

#include <vector>

#include "kernels.h"

namespace carsam {

// A norm, and codes of its result on several grids, while its rows are in cache.
struct NormOnGrids {
    LayerNorm norm;
    std::vector<Quantize> codes;
    std::vector<LookUp> tables;
};

// `then` is a norm of the result in its place, made while its rows are in cache; or null.
void run_linear(Linear op, const NormOnGrids* then);
void run_float_product(const FloatProduct& op);
void run_layer_norm(const LayerNorm& op, std::size_t rows);
void run_activate(const Activate& op, std::size_t rows);
void run_quantize(const Quantize& op, std::size_t rows);
void run_norm_on_grids(const NormOnGrids& op, std::size_t rows);
void run_look_up(const LookUp& op, std::size_t rows);
void run_round_to_table(const RoundToTable& op, std::size_t count);
void run_weighted_rows(const WeightedRows& op, std::size_t rows);
void run_rotate(const Rotate& op, std::size_t rows);
void run_depthwise(const Depthwise& op);
void run_upscale(Upscale op, std::size_t prompts);
void run_attention(const Attention& op);

void run_round_uniform(const RoundUniform& op, std::size_t elements);
void run_round_uniform_backward(const RoundUniform& op, std::size_t elements);
void run_round_listed(const RoundListed& op, std::size_t elements);
void run_round_listed_backward(const RoundListed& op, std::size_t elements);
void run_place_sums(const PlaceSums& op, std::size_t groups);
void run_mix(const Mix& op, std::size_t elements);
// Forward without a gradient of the result, else backward.
void run_gelu(const Gelu& op, std::size_t elements);
void run_round_rows(const RoundRows& op, std::size_t rows);
void run_soft_rows(const SoftRows& op, std::size_t rows);

}  // namespace carsam
