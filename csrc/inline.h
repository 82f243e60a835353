// What GCC and Clang have beyond standard C++. Code shared by the files of several instruction sets
// must not become a function that the linker merges across them: inlining must not depend on the
// optimiser.
#pragma once

#if defined(__GNUC__) || defined(__clang__)  // clang-cl defines the latter only
#define CARSAM_VECTORS 1
#define CARSAM_INLINE inline __attribute__((always_inline))
#define CARSAM_PREFETCH(address) __builtin_prefetch(address)
#else
#define CARSAM_VECTORS 0
#define CARSAM_INLINE inline
#define CARSAM_PREFETCH(address) static_cast<void>(address)
#endif
