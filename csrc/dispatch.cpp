#include "dispatch.h"

#include <atomic>

#include "processor.h"

namespace carsam {

extern const Kernels portable_kernels;
#if defined(CARSAM_X86)
extern const Kernels avx2_kernels, avxvnni_kernels, avx512vnni_kernels;
#elif defined(CARSAM_NEON)
extern const Kernels i8mm_kernels, neon_kernels;
#endif
#if defined(CARSAM_AMX)
extern const Kernels amx_kernels;
#endif
#if defined(CARSAM_EMULATE_AMX)
extern const Kernels amx_emulated_kernels;
#endif

namespace {

struct Set {
    const Kernels* kernels;
    bool usable;
};

// The preferred first.
const std::vector<Set>& sets() {
    static const std::vector<Set> all = {
#if defined(CARSAM_AMX)
        {&amx_kernels, has_amx()},
#endif
#if defined(CARSAM_X86)
        {&avx512vnni_kernels, has_avx512_vnni()},
        {&avxvnni_kernels, has_avx_vnni()},
        {&avx2_kernels, has_avx2()},
#elif defined(CARSAM_NEON)
        {&i8mm_kernels, has_i8mm()},
        {&neon_kernels, has_dot_product()},
#endif
        {&portable_kernels, true},
#if defined(CARSAM_EMULATE_AMX)
        {&amx_emulated_kernels, true},
#endif
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
