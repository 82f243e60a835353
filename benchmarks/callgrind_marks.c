/* Tells callgrind what to count; for regression.py, which compiles it and calls it from Python. */
#include <valgrind/callgrind.h>

void begin(void) { CALLGRIND_START_INSTRUMENTATION; }

void reset(void) { CALLGRIND_ZERO_STATS; }

void dump(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
