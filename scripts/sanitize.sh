#!/bin/sh
# Compiles the kernels with AddressSanitizer and UndefinedBehaviorSanitizer, then runs their tests.
set -eu
. "$(dirname "$0")/setup.sh"
cd "$root"
compiler=${CXX:-c++}
libraries=
for library in libasan.so libubsan.so; do
    path=$("$compiler" -print-file-name=$library 2>/dev/null || true)
    if [ ! -e "$path" ]; then
        say "Sanitizers left out: $compiler has no $library"
        exit 0
    fi
    libraries="$libraries $path"
done
sanitized=$root/build/sanitized
rm -rf "$sanitized"
"$environment/bin/python" -m pip install --disable-pip-version-check -q --no-deps \
    --target "$sanitized" --config-settings=build-dir=build/sanitizers \
    --config-settings=cmake.define.CARSAM_SANITIZE=ON "$root" >&2
# Python itself never frees everything, and its own allocator hides what lies next to an array.
export LD_PRELOAD="$libraries" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc
export PYTHONPATH="$sanitized" OMP_NUM_THREADS=2
exec "$environment/bin/python" -m pytest -q -p no:cacheprovider --hypothesis-profile=few \
    tests/runtime/test_fuzz.py tests/runtime/test_native.py tests/runtime/test_sums.py \
    tests/runtime/test_memory.py tests/runtime/test_codebooks.py "$@"
