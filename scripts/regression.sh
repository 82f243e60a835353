#!/bin/sh
# Counts the kernels' instructions and compares them with the recorded ones.
# valgrind is installed where root asks on Debian, otherwise named.
set -eu
. "$(dirname "$0")/setup.sh"
cd "$root"
if ! command -v valgrind >/dev/null && ! debian valgrind; then
    say "Counting left out: needs valgrind"
    exit 0
fi
exec "$environment/bin/python" benchmarks/regression.py "$@"
