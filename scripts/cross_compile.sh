#!/bin/sh
# Compiles the kernels for the systems that wheels are built for elsewhere, with Zig's compiler:
# nothing is linked or run. The sources that need Python's headers take longer than all others: they
# are compiled for macOS alone, whose long is as wide as Linux's, as the headers here expect.
set -eu
. "$(dirname "$0")/setup.sh"
. "$(dirname "$0")/zig.sh"
export PYTHONPATH="$tools"
include=$("$environment/bin/python" -c "import sysconfig; print(sysconfig.get_path('include'))")

for target in x86_64-linux-musl aarch64-linux-musl x86_64-macos.11.0 aarch64-macos.11.0 \
    x86_64-windows-gnu; do
    make_compiler $target
    objects=$cross/$target/unoptimised
    "$cmake" -S "$root" -B "$objects" -G Ninja -DCMAKE_MAKE_PROGRAM="$ninja" \
        -DCMAKE_TOOLCHAIN_FILE="$cross/$target/toolchain.cmake" -DCMAKE_BUILD_TYPE=Debug \
        -DCMAKE_CXX_FLAGS_DEBUG="-O0 -Werror" -Dnanobind_DIR="$tools/nanobind/cmake" \
        -DPython_EXECUTABLE="$environment/bin/python" -DPython_INCLUDE_DIR="$include" \
        -DPython_LIBRARY=absent -DPython_SABI_LIBRARY=absent >"$cross/$target/configured"
    list=$("$ninja" -C "$objects" -t targets all | sed -n 's/^\(.*_kernels.dir\/csrc\/.*\.o[bj]*\): .*/\1/p')
    [ -n "$list" ]
    case $target in *-musl | *windows*) list=$(echo "$list" | grep -v module) ;; esac
    # shellcheck disable=SC2086  # names of files
    "$ninja" -C "$objects" --quiet $list
    say "$target: $(echo "$list" | wc -l) files"
done
