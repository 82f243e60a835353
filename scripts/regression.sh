#!/bin/sh
# Counts the kernels' instructions and compares them with the recorded ones.
# valgrind is installed where root asks on Debian, otherwise named.
set -eu
. "$(dirname "$0")/setup.sh"
cd "$root"
leave_out() {
    say "Counting left out: $*"
    exit 0
}

if ! command -v valgrind >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        leave_out "needs valgrind"
    fi
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends valgrind >&2 ||
        leave_out "valgrind cannot be installed"
fi
exec "$environment/bin/python" benchmarks/regression.py "$@"
