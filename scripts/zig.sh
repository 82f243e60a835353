# Sourced by cross_compile.sh and cross_wheel.sh: Zig's compiler and what builds with it, in
# build/cross/tools. `make_compiler TARGET` writes c++, ar and ranlib for a target that Zig names,
# and the lines that tell CMake of them, into build/cross/TARGET.

cross=$root/build/cross
tools=$cross/tools
packages="ziglang==0.17.1 cmake>=4,<5 ninja>=1.13 nanobind>=3.1,<4 scikit-build-core>=1.1,<2 wheel"

if [ "$(cat "$tools/packages" 2>/dev/null)" != "$packages" ]; then
    say "Installing $packages"
    rm -rf "$tools"
    # shellcheck disable=SC2086  # names of packages
    "$environment/bin/python" -m pip install --disable-pip-version-check -q --target "$tools" \
        $packages >&2 && printf '%s\n' "$packages" >"$tools/packages"
fi
zig=$tools/ziglang/zig
cmake=$tools/cmake/data/bin/cmake
ninja=$tools/bin/ninja

make_compiler() {
    folder=$cross/$1
    mkdir -p "$folder"
    case $1 in
        *-linux-*) system=Linux ;;
        *-macos*) system=Darwin ;;
        *-windows-*) system=Windows ;;
    esac
    # Zig knows ARM's extensions by -mcpu alone; nanobind's sources count on <stdio.h> being there; and
    # what CMake only wants to look at needs no standard library, which Zig would compile first.
    cat >"$folder/c++" <<END
#!/bin/sh
for argument; do
    shift
    case \$argument in
        -march=armv8.2-a+*) argument=-mcpu=generic+v8_2a+\${argument#*+} ;;
        CMakeCXXCompilerId.cpp) set -- "\$@" -c ;;
        */nanobind/src/*.cpp) set -- "\$@" -include stdio.h ;;
    esac
    set -- "\$@" "\$argument"
done
exec "$zig" c++ -target $1 "\$@"
END
    for tool in ar ranlib; do printf '#!/bin/sh\nexec "%s" %s "$@"\n' "$zig" $tool >"$folder/$tool"; done
    chmod +x "$folder/c++" "$folder/ar" "$folder/ranlib"
    cat >"$folder/toolchain.cmake" <<END
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_SYSTEM_NAME $system)
set(CMAKE_SYSTEM_PROCESSOR ${1%%-*})
set(CMAKE_CXX_COMPILER "$folder/c++")
set(CMAKE_AR "$folder/ar")
set(CMAKE_RANLIB "$folder/ranlib")
END
}
