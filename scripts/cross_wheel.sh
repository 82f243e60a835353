#!/bin/sh
# Builds a wheel with Zig's compiler, for a system that need not be this one, into dist:
#
#     sh scripts/cross_wheel.sh x86_64-linux-gnu.2.28 manylinux_2_28_x86_64
#     sh scripts/cross_wheel.sh x86_64-windows-gnu win_amd64 FOLDER
#
# FOLDER has `include` and `libs` of a Python 3.13 for Windows. From Python 3.12 on (PYTHON=python3.12)
# the wheel has the stable ABI. Linux's headers serve macOS as well, whose long is as wide.
set -eu
. "$(dirname "$0")/setup.sh"
. "$(dirname "$0")/zig.sh"
target=$1 tag=$2
make_compiler "$target"
export PYTHONPATH="$tools" PATH="${cmake%/*}:${ninja%/*}:$PATH"
set -- "$("$python" -c "import sysconfig; print(sysconfig.get_path('include'))")" ${3+"$3"}
case $target in
    *windows*)
        set -- "$2/include" -C "cmake.define.Python_LIBRARY=$2/libs/python313.lib" \
            -C "cmake.define.Python_SABI_LIBRARY=$2/libs/python3.lib" \
            -C cmake.define.SKBUILD_SOSABI=
        ;;
esac
include=$1
shift
rm -rf "$cross/$target/raw"
"$python" -m pip wheel -q --no-deps --no-build-isolation -w "$cross/$target/raw" \
    -C "build-dir=build/cross/$target/{wheel_tag}" \
    -C "cmake.define.CMAKE_TOOLCHAIN_FILE=$cross/$target/toolchain.cmake" \
    -C "cmake.define.Python_INCLUDE_DIR=$include" "$@" "$root"
"$python" -m wheel tags --platform-tag "$tag" "$cross/$target"/raw/*.whl >&2
mkdir -p "$root/dist"
mv "$cross/$target/raw"/*"$tag".whl "$root/dist"
