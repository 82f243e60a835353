// The kernels of AMX on registers that are plain arrays, for tests on processors without AMX.

#define CARSAM_NAMESPACE carsam_amx_emulated
#define CARSAM_NAME "amx-emulated"

#include "amx_registers_emulated.h"
#include "amx_kernel.h"

namespace carsam {
extern const Kernels amx_emulated_kernels;
const Kernels amx_emulated_kernels = CARSAM_NAMESPACE::releasing_table();
}  // namespace carsam
