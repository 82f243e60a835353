// Whole operators: the work cut into parts, spread over threads.
#pragma once

#include "kernels.h"

namespace carsam {

void run_linear(Linear op);
void run_float_product(const FloatProduct& op);
void run_layer_norm(const LayerNorm& op, std::size_t rows);
void run_activate(const Activate& op, std::size_t rows);
void run_quantize(const Quantize& op, std::size_t rows);
void run_look_up(LookUp op, std::size_t rows);
void run_round_to_table(const RoundToTable& op, std::size_t count);
void run_weighted_rows(const WeightedRows& op, std::size_t rows);
void run_upscale(const Upscale& op, std::size_t prompts);
void run_attention(const Attention& op);

}  // namespace carsam
