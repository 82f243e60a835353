#!/bin/sh
# Installs carsam into .venv, then runs the tests, file by file on all cores. Arguments go to pytest.
set -eu
. "$(dirname "$0")/setup.sh"
cd "$root"
# Threads that spin while they wait make torch three times slower on a busy machine.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
exec "$environment/bin/python" -m pytest -n auto --dist loadfile "$@"
