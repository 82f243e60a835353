#include "processor.h"

#if defined(CARSAM_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(CARSAM_NEON)
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <cstddef>

#include <sys/sysctl.h>
#elif defined(_WIN32)
#include <windows.h>
#endif
#endif

namespace carsam {

#if defined(CARSAM_X86)
namespace {

bool has_bits(unsigned value, unsigned bits) { return (value & bits) == bits; }

constexpr unsigned bit(int number) { return 1u << number; }

// What CPUID answers; zeros where the processor does not know the question.
struct Answer {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

    explicit Answer(unsigned leaf, unsigned subleaf = 0) {
        ask(0, 0);
        const bool known = eax >= leaf;
        eax = ebx = ecx = edx = 0;
        if (known) ask(leaf, subleaf);
    }

  private:
    void ask(unsigned leaf, unsigned subleaf) {
        eax = leaf;
        ecx = subleaf;
        __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    }
};

// The registers that the system keeps when it switches threads (XCR0).
bool keeps(unsigned registers) {
    if (!has_bits(Answer(1).ecx, bit(27))) return false;  // OSXSAVE
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return has_bits(low, registers);
}

constexpr unsigned AVX_REGISTERS = bit(1) | bit(2);
#if defined(__APPLE__)  // shows those of AVX-512 only once a thread has used them
constexpr unsigned AVX512_REGISTERS = AVX_REGISTERS;
#else
constexpr unsigned AVX512_REGISTERS = AVX_REGISTERS | bit(5) | bit(6) | bit(7);
#endif

}  // namespace

bool has_avx2() {
    return keeps(AVX_REGISTERS) && has_bits(Answer(1).ecx, bit(12) | bit(28)) &&  // FMA, AVX
           has_bits(Answer(7).ebx, bit(5));
}

bool has_avx_vnni() { return has_avx2() && has_bits(Answer(7, 1).eax, bit(4)); }

bool has_avx512_vnni() {
    constexpr unsigned F = bit(16), DQ = bit(17), BW = bit(30), VL = bit(31), VNNI = bit(11);
    return has_avx2() && keeps(AVX512_REGISTERS) &&
           has_bits(Answer(7).ebx, F | DQ | BW | VL) && has_bits(Answer(7).ecx, VNNI);
}

bool has_avx512_vbmi() {
    static const bool found = has_avx512_vnni() && has_bits(Answer(7).ecx, bit(1));
    return found;
}

#if defined(CARSAM_AMX)
// Linux gives a process the registers when it asks for them, if it knows them itself.
bool has_amx() {
    constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
    constexpr unsigned BFLOAT16 = bit(22), TILES = bit(24), INT8 = bit(25);
    return has_avx512_vnni() && has_bits(Answer(7).edx, BFLOAT16 | TILES | INT8) &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

#elif defined(CARSAM_NEON)
#if defined(__APPLE__)
namespace {

bool has_feature(const char* name) {
    int found = 0;
    std::size_t size = sizeof found;
    return sysctlbyname(name, &found, &size, nullptr, 0) == 0 && found;
}

}  // namespace
#endif

bool has_dot_product() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#elif defined(_WIN32)
    return IsProcessorFeaturePresent(43);  // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
#else
    return true;  // every Apple processor for 64-bit macOS
#endif
}

bool has_i8mm() {
#if defined(__linux__)
    return has_dot_product() && getauxval(AT_HWCAP2) >> 13 & 1;  // HWCAP2_I8MM
#elif defined(__APPLE__)
    return has_feature("hw.optional.arm.FEAT_I8MM");
#else
    return false;  // Windows has a name for it only in its newest headers
#endif
}
#endif

}  // namespace carsam
