// The table of an instruction set; the including file defines the tile and CARSAM_NAME first.
#pragma once

#include "attention_kernel.h"
#include "rows_kernel.h"

namespace CARSAM_NAMESPACE {

static constexpr carsam::Kernels TABLE = {CARSAM_NAME, QUERY_BLOCK, prepare,
                                          multiply,    layer_norm,  activate,
                                          quantize,    prepare_head, attend};

}  // namespace CARSAM_NAMESPACE
