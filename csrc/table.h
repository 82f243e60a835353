// The table of an instruction set; the including file defines the tile and CARSAM_NAME first.
#pragma once

#include "attention_kernel.h"
#include "depthwise_kernel.h"
#include "few_keys_attention.h"
#include "float_kernel.h"
#include "look_up_kernel.h"
#include "rotate_kernel.h"
#include "training_table_kernel.h"
#include "upscale_kernel.h"
#include "value_table_attention.h"

namespace CARSAM_NAMESPACE {

static constexpr carsam::Kernels TABLE = {
    CARSAM_NAME, QUERY_BLOCK,    prepare,      multiply, float_product,      layer_norm, activate,
    quantize,    look_up,        round_to_table, weighted_rows, rotate, depthwise, SPLIT_PANELS, upscale,
    prepare_head, attend, attend_to_few, prepare_value_rows, attend_with_table,
    {round_uniform, round_uniform_backward, round_listed, round_listed_backward, place_sums, mix,
     gelu_values, gelu_backward, round_rows, round_rows_backward, soft_rows, soft_rows_backward}};

}  // namespace CARSAM_NAMESPACE
