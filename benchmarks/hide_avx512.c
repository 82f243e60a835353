/* Preloaded, hides AVX-512, VNNI, bfloat16 and AMX from a process, so that everything in it chooses
 * what it would choose on a processor with AVX2 alone.
 *
 *     cc -O2 -shared -fPIC -o hide_avx512.so hide_avx512.c
 *     LD_PRELOAD=./hide_avx512.so python ...
 *
 * Linux lets the instruction CPUID fault (arch_prctl, ARCH_SET_CPUID) on processors with the flag
 * cpuid_fault in /proc/cpuinfo. The handler gives the processor's answer without these bits.
 * Threads and children that are started with the same environment inherit it.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define BIT(n) (1u << (n))

static long let_cpuid_fault(int fault) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, !fault); }

static void hide(unsigned leaf, unsigned subleaf, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    if (leaf == 7 && subleaf == 0) {
        /* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL */
        *b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
        /* AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ */
        *c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
        /* AVX-512 4VNNIW, 4FMAPS, VP2INTERSECT, FP16; AMX bf16, tile, int8 */
        *d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
    } else if (leaf == 7 && subleaf == 1) {
        /* AVX-VNNI, AVX-512 bf16, AMX fp16, AVX-IFMA */
        *a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23));
        /* AVX-VNNI int8, AVX-NE-CONVERT, AVX-VNNI int16, AVX10 */
        *d &= ~(BIT(4) | BIT(5) | BIT(10) | BIT(19));
    } else if (leaf == 0xD && subleaf == 0) {
        /* state of AVX-512 and of AMX */
        *a &= ~(BIT(5) | BIT(6) | BIT(7) | BIT(17) | BIT(18));
    }
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    static const unsigned char cpuid[] = {0x0F, 0xA2};
    if (info->si_code != SI_KERNEL || memcmp((void *)registers[REG_RIP], cpuid, sizeof cpuid)) {
        signal(signal_number, SIG_DFL); /* a real fault: it happens again, and ends the process */
        return;
    }
    unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX], a, b, c, d;
    let_cpuid_fault(0);
    __cpuid_count(leaf, subleaf, a, b, c, d);
    let_cpuid_fault(1);
    hide(leaf, subleaf, &a, &b, &c, &d);
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += sizeof cpuid;
}

__attribute__((constructor)) static void start(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    if (let_cpuid_fault(1)) {
        fputs("hide_avx512: this processor or kernel cannot let CPUID fault "
              "(/proc/cpuinfo has no flag cpuid_fault)\n", stderr);
        exit(1);
    }
}
