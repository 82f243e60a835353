/* A plugin of QEMU that counts the instructions of a program; for scripts/count_arm.sh.
 *
 * A system call of number MARK writes the count since the last one to standard output and begins
 * anew; qemu_marks.c makes it. Debian ships QEMU's plugins, but not the header, so what is used of
 * version 1 of the interface is declared here.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MARK 0x636172

typedef uint64_t Plugin;
struct qemu_plugin_tb;

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(Plugin id,
                                                  void (*call)(Plugin, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation,
                                                     void *number, uint64_t addend);
typedef void OnSystemCall(Plugin id, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t,
                          uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(Plugin id, OnSystemCall *call);

enum { ADD_64_BITS = 0 };

int qemu_plugin_version = 1;
static uint64_t count;

static void on_block(Plugin id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_64_BITS, &count,
                                             qemu_plugin_tb_n_insns(block));
}

static void on_call(Plugin id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
                    uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != MARK) return;
    dprintf(1, "%llu\n", (unsigned long long)count);
    count = 0;
}

int qemu_plugin_install(Plugin id, const void *info, int argc, char **argv) {
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    return 0;
}
