#include "dispatch.h"

#include <atomic>

#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace carsam {

extern const Kernels portable_kernels;
#if defined(CARSAM_X86)
extern const Kernels avx2_kernels, avxvnni_kernels, avx512vnni_kernels;
#elif defined(CARSAM_NEON)
extern const Kernels neon_kernels;
#endif

namespace {

struct Set {
    const Kernels* kernels;
    bool usable;
};

#if defined(CARSAM_X86)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx_vnni() {
    unsigned eax = 7, ebx, ecx = 1, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return has_avx2() && (eax >> 4 & 1);
}

bool has_avx512_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#elif defined(CARSAM_NEON)
bool has_dot_product() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#else
    return true;  // every Apple processor for 64-bit macOS
#endif
}
#endif

// The preferred first.
const std::vector<Set>& sets() {
    static const std::vector<Set> all = {
#if defined(CARSAM_X86)
        {&avx512vnni_kernels, has_avx512_vnni()},
        {&avxvnni_kernels, has_avx_vnni()},
        {&avx2_kernels, has_avx2()},
#elif defined(CARSAM_NEON)
        {&neon_kernels, has_dot_product()},
#endif
        {&portable_kernels, true},
    };
    return all;
}

const Kernels* preferred() {
    for (const Set& set : sets()) {
        if (set.usable) return set.kernels;
    }
    return &portable_kernels;
}

std::atomic<const Kernels*>& current() {
    static std::atomic<const Kernels*> kernels{preferred()};
    return kernels;
}

}  // namespace

std::vector<std::string> compiled_sets() {
    std::vector<std::string> names;
    for (const Set& set : sets()) names.emplace_back(set.kernels->name);
    return names;
}

std::vector<std::string> usable_sets() {
    std::vector<std::string> names;
    for (const Set& set : sets()) {
        if (set.usable) names.emplace_back(set.kernels->name);
    }
    return names;
}

bool use_set(const std::string& name) {
    for (const Set& set : sets()) {
        if (set.usable && name == set.kernels->name) {
            current() = set.kernels;
            return true;
        }
    }
    return false;
}

const Kernels& kernels() { return *current(); }

}  // namespace carsam
