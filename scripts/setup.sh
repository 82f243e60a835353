# Sourced by the other scripts: makes .venv and installs carsam with its extras into it.
# Sets `root` and `environment`. Does nothing more when the sources have not changed since last time.

root=$(cd "$(dirname "$0")/.." && pwd)
environment=$root/.venv
python=${PYTHON:-python3}

. "$root/scripts/debian.sh"

say() { printf '%s\n' "$*" >&2; }

# pip compiles nothing, as little of torch and transformers is ever imported: Python compiles what is,
# and must keep it, or each process takes ten seconds more to start.
unset PYTHONDONTWRITEBYTECODE

install_carsam() {
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        say "carsam needs Python 3.11 or newer; '$python --version' says: $("$python" --version 2>&1)"
        say "Install one and name it: PYTHON=python3.12 sh scripts/quickstart.sh"
        return 2
    fi
    if [ ! -x "$environment/bin/pip" ]; then
        say "Making a virtual environment in $environment"
        "$python" -m venv --clear "$environment" >&2 || return
    fi
    quiet=-q
    if [ -t 2 ]; then quiet=; fi
    pip="$environment/bin/python -m pip install --disable-pip-version-check --no-compile $quiet"
    say "Installing torch 2.13.0 (first and alone, so that its CPU build is taken where there is one)"
    $pip torch==2.13.0 >&2 || return
    say "Installing carsam and its extras; one C++ extension is compiled"
    $pip --config-settings=cmake.define.CARSAM_EMULATE_AMX=ON \
        "${root}[quantize,photos,test]" >&2 || return
    "$environment/bin/carsam" recipes >/dev/null || return
    printf '%s\n' "$fingerprint" >"$stamp"
}

stamp=$environment/carsam-installed
fingerprint=$root:$(cd "$root" && find src csrc CMakeLists.txt pyproject.toml -type f \
    ! -name '*.pyc' -exec cksum {} + | LC_ALL=C sort | cksum)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$fingerprint" ]; then
    install_carsam || exit
fi
