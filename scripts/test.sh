#!/bin/sh
# Installs carsam into .venv, then runs the tests. Arguments go to pytest.
set -eu
. "$(dirname "$0")/setup.sh"
cd "$root"
exec "$environment/bin/python" -m pytest "$@"
