#!/bin/sh
# Installs carsam into .venv, then draws masks of the bundled models, quantizes one anew, and
# measures all of them. Arguments go to `carsam quickstart`.
set -eu
. "$(dirname "$0")/setup.sh"
exec "$environment/bin/carsam" quickstart "$@"
