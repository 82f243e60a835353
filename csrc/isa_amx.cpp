// AMX: tdpbusd multiplies 16 rows of 64 codes by 64 x 16 weights; AVX-512 does everything else.

#define CARSAM_NAMESPACE carsam_amx
#define CARSAM_NAME "amx"

#include "amx_registers.h"
#include "amx_kernel.h"

namespace carsam {
extern const Kernels amx_kernels;
const Kernels amx_kernels = CARSAM_NAMESPACE::releasing_table();
}  // namespace carsam
