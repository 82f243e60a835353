// Inlining that does not depend on the optimiser: code shared by the files of several instruction
// sets must not become a function that the linker merges across them.
#pragma once

#if defined(__GNUC__)
#define CARSAM_INLINE inline __attribute__((always_inline))
#define CARSAM_PREFETCH(address) __builtin_prefetch(address)
#else
#define CARSAM_INLINE inline
#define CARSAM_PREFETCH(address) static_cast<void>(address)
#endif
