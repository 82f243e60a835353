// Whole operators: the work cut into parts, spread over threads.
#pragma once

#include "kernels.h"

namespace carsam {

void run_linear(Linear op);
void run_layer_norm(const LayerNorm& op, std::size_t rows);
void run_activate(const Activate& op, std::size_t rows);
void run_quantize(const Quantize& op, std::size_t rows);
void run_attention(const Attention& op);

}  // namespace carsam
