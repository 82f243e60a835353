#!/bin/sh
# Runs the tests of the kernels on a 64-bit ARM processor that QEMU emulates (arm.sh).
set -eu
. "$(dirname "$0")/arm.sh"
export OMP_NUM_THREADS=2
# The tests skip where the kernels cannot be imported, which must not pass for success here; and the
# emulated processor has every extension, so all sets must run.
"$emulator" -L "$system" "$python_arm" -c "from carsam.runtime import _kernels
assert _kernels.usable_sets() == ['i8mm', 'neon', 'portable']"
exec "$emulator" -L "$system" "$python_arm" -m pytest -q -p no:cacheprovider -k "not portable" \
    --hypothesis-profile=few tests/runtime/test_fuzz.py tests/runtime/test_native.py \
    tests/runtime/test_memory.py tests/runtime/test_codebooks.py "$@"
