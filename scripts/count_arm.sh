#!/bin/sh
# Counts the instructions of the kernels for 64-bit ARM under QEMU, on every set, and writes them to
# benchmarks/results/instructions_arm.json.
set -eu
. "$(dirname "$0")/arm.sh"
cc -O2 -shared -fPIC -o "$arm/counter.so" benchmarks/qemu_counter.c
"${compiler%g++}gcc" -O2 -shared -fPIC -o "$arm/marks.so" benchmarks/qemu_marks.c
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONHASHSEED=0
"$emulator" -plugin "$arm/counter.so" -L "$system" "$python_arm" benchmarks/counted_kernels.py \
    "$arm/marks.so" >"$arm/counts"
PYTHONPATH= "$environment/bin/python" benchmarks/arm_instructions.py "$arm/counts" \
    "$("$compiler" --version | head -n 1)" "$("$emulator" --version | head -n 1)"
