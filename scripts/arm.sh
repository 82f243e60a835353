# Sourced by test_arm.sh and count_arm.sh: compiles the kernels for 64-bit ARM, for Debian's Python on
# a processor that QEMU emulates. For Debian on x86-64. What is missing is installed where root asks,
# otherwise named. Sets `compiler`, `emulator`, `arm`, `system` and `python_arm`, and PYTHONPATH.
. "$(dirname "$0")/setup.sh"
cd "$root"
compiler=aarch64-linux-gnu-g++
emulator=qemu-aarch64
leave_out() {
    say "ARM left out: $*"
    exit 0
}

if ! command -v "$compiler" >/dev/null || ! command -v "$emulator" >/dev/null; then
    debian g++-aarch64-linux-gnu qemu-user ||
        leave_out "needs $compiler and $emulator (Debian: g++-aarch64-linux-gnu, qemu-user)"
fi

arm=$root/build/arm
system=$arm/system
if [ ! -e "$arm/complete" ]; then
    say "Unpacking Debian's Python for ARM in $system"
    rm -rf "$arm"
    mkdir -p "$arm/state/lists/partial" "$arm/cache/archives/partial" "$system"
    : >"$arm/state/status"
    packages="apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Dir::State=$arm/state -o Dir::State::status=$arm/state/status -o Dir::Cache=$arm/cache"
    $packages update >&2 || leave_out "no ARM packages"
    $packages install --download-only --no-install-recommends libpython3-dev libstdc++6 \
        python3-minimal >&2 || leave_out "no Python for ARM"
    for package in "$arm"/cache/archives/*.deb; do dpkg-deb -x "$package" "$system"; done
    touch "$arm/complete"
fi
python_arm=$(ls -d "$system"/usr/bin/python3.[0-9]* | head -n 1)
version=${python_arm##*/python}

pip="$environment/bin/python -m pip install --disable-pip-version-check --no-compile -q --upgrade"
rm -rf "$arm/carsam"
$pip --target "$arm/packages" --only-binary=:all: --python-version "$version" \
    --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \
    numpy scipy safetensors pillow threadpoolctl pytest hypothesis >&2
SETUPTOOLS_EXT_SUFFIX=.cpython-$(echo "$version" | tr -d .)-aarch64-linux-gnu.so \
    $pip --no-deps --target "$arm/carsam" --config-settings=build-dir=build/arm/objects \
    --config-settings=cmake.define.CMAKE_SYSTEM_NAME=Linux \
    --config-settings=cmake.define.CMAKE_SYSTEM_PROCESSOR=aarch64 \
    --config-settings=cmake.define.CMAKE_CXX_COMPILER="$compiler" \
    --config-settings=cmake.define.CMAKE_CXX_FLAGS="-I$system/usr/include" \
    --config-settings=cmake.define.Python_INCLUDE_DIR="$system/usr/include/python$version" \
    "$root" >&2

unset OPENBLAS_CORETYPE  # it would name this processor
export PYTHONPATH="$arm/carsam:$arm/packages"
