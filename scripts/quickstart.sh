#!/bin/sh
# Installs carsam into .venv, then quantizes the bundled model, measures it and draws its masks.
# Arguments go to `carsam quickstart`.
set -eu
. "$(dirname "$0")/setup.sh"
exec "$environment/bin/carsam" quickstart "$@"
