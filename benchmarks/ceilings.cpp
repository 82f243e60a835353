// How many multiplications per second this machine's instructions allow, in registers only.
//
//     ceilings THREADS SECONDS     prints `name GMAC/s` of all threads together, for each loop
//
// Each loop keeps twelve independent sums in registers 4 to 15, as a matrix product does, and reads
// no memory.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

constexpr long STEPS = 1 << 20;
constexpr int SUMS = 12;

#define LOOP(name, instructions)                                                        \
    static void name() {                                                                \
        long steps = STEPS;                                                             \
        __asm__ volatile("vzeroall\n1:\n"                                               \
                         ".irp r,4,5,6,7,8,9,10,11,12,13,14,15\n" instructions ".endr\n" \
                         "dec %0\njnz 1b\nvzeroall\n"                                   \
                         : "+r"(steps)                                                  \
                         :                                                              \
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", \
                           "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",  \
                           "xmm14", "xmm15");                                           \
    }

LOOP(float_fma, "vfmadd231ps %%ymm0, %%ymm1, %%ymm\\r\n")
LOOP(pairs, "vpmaddubsw %%ymm0, %%ymm1, %%ymm2\nvpaddw %%ymm2, %%ymm\\r, %%ymm\\r\n")
LOOP(widened_pairs,
     "vpmaddubsw %%ymm0, %%ymm1, %%ymm2\nvpmaddwd %%ymm2, %%ymm3, %%ymm2\n"
     "vpaddd %%ymm2, %%ymm\\r, %%ymm\\r\n")
LOOP(dots_256, "%{evex%} vpdpbusd %%ymm0, %%ymm1, %%ymm\\r\n")
LOOP(dots_512, "vpdpbusd %%zmm0, %%zmm1, %%zmm\\r\n")

// Registers 0 to 3 hold sums; all eight have 16 rows of 64 bytes.
static void tiles() {
    struct {
        unsigned char palette = 1, zeros[15] = {};
        unsigned short bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shapes;
    long steps = STEPS;
    __asm__ volatile(
        "ldtilecfg %1\n1:\n"
        ".rept 3\n"
        "tdpbusd %%tmm6, %%tmm4, %%tmm0\ntdpbusd %%tmm7, %%tmm4, %%tmm1\n"
        "tdpbusd %%tmm6, %%tmm5, %%tmm2\ntdpbusd %%tmm7, %%tmm5, %%tmm3\n"
        ".endr\n"
        "dec %0\njnz 1b\ntilerelease\n"
        : "+r"(steps)
        : "m"(shapes)
        : "cc");
}

// Whether the processor has the instruction and Linux lets this process use its registers.
static bool may_use_tiles() {
#if defined(__linux__)
    unsigned eax = 7, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return (edx >> 25 & 1) && syscall(SYS_arch_prctl, 0x1023, 18) == 0;  // ARCH_REQ_XCOMP_PERM
#else
    return false;
#endif
}

struct Loop {
    const char* name;
    void (*run)();
    int products;  // of one instruction, or group of instructions
    bool usable;
};

static double measure(const Loop& loop, int thread_count, double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto started = Clock::now();
    const auto passed = [&] {
        return std::chrono::duration<double>(Clock::now() - started).count();
    };
    std::vector<double> rounds(thread_count);
    std::vector<std::thread> threads;
    for (double& count : rounds) {
        threads.emplace_back([&] {
            for (; passed() < seconds; ++count) loop.run();
        });
    }
    for (std::thread& thread : threads) thread.join();
    double total = 0;
    for (double count : rounds) total += count;
    return total * STEPS * SUMS * loop.products / passed() / 1e9;
}

int main(int count, char** arguments) {
    if (count != 3) return 2;
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool vnni = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl");
    const Loop loops[] = {
        {"vfmadd231ps", float_fma, 8, avx2},
        {"vpmaddubsw+vpmaddwd+vpaddd", widened_pairs, 32, avx2},
        {"vpmaddubsw+vpaddw", pairs, 32, avx2},
        {"vpdpbusd-256", dots_256, 32, vnni},
        {"vpdpbusd-512", dots_512, 64, vnni},
        {"tdpbusd", tiles, 16 * 64 * 16, may_use_tiles()},
    };
    for (const Loop& loop : loops) {
        if (!loop.usable) continue;
        const int threads = std::atoi(arguments[1]);
        std::printf("%s %.1f\n", loop.name, measure(loop, threads, std::atof(arguments[2])));
    }
}
