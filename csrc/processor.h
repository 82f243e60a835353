// What the processor executes, and the system keeps the registers of.
//
// Asked of the processor itself: compilers' own libraries do not know everything, and clang-cl is
// used without one.
#pragma once

namespace carsam {

#if defined(CARSAM_X86)
bool has_avx2();
bool has_avx_vnni();
bool has_avx512_vnni();
bool has_avx512_vbmi();
bool has_amx();  // and the system grants it
#elif defined(CARSAM_NEON)
bool has_dot_product();
bool has_i8mm();
#endif

}  // namespace carsam
