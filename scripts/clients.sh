#!/bin/sh
# Installs the programs of others that tests run exports, reports and the demo with, and read masks
# with: osam into .venv, node and a browser from Debian, the rest in build/clients, each in a folder
# of its own and without what only its windows and its own exports need. What is missing is installed where root asks,
# otherwise named, and its tests skip.
set -eu
. "$(dirname "$0")/setup.sh"
cd "$root"
clients=$root/build/clients
pip="$environment/bin/python -m pip install --disable-pip-version-check --no-compile -q"

package() {
    folder=$clients/$1
    shift
    if [ ! -e "$folder/$1" ]; then
        say "Installing $1"
        { $pip --upgrade --no-deps --target "$folder" "$@" && touch "$folder/$1"; } >&2 ||
            say "Left out: $1"
    fi
}

$pip osam==0.8.1 opencv-python-headless >&2 || say "Left out: osam"

package samexporter samexporter==0.5.0
package anylabeling anylabeling==0.4.43
package x-anylabeling x-anylabeling-cvhub==4.2.1
package label-studio-sdk label-studio-sdk==2.1.2
package datumaro datumaro==1.13.12 cachetools imagesize json-stream json-stream-rs-tokenizer lxml \
    orjson pandas ruamel.yaml shapely

if ! command -v chromium >/dev/null || ! command -v npm >/dev/null; then
    debian chromium npm || say "Debian gives no chromium or no npm"
fi
command -v chromium >/dev/null || say "Left out: chromium, which looks at reports and the demo"
web=onnxruntime-web@1.30.0
if ! command -v npm >/dev/null; then
    say "Left out: $web needs npm (Debian: npm)"
elif [ ! -e "$clients/onnxruntime-web/$web" ]; then
    say "Installing $web"
    {
        npm install --silent --no-audit --no-fund --ignore-scripts \
            --prefix "$clients/onnxruntime-web" "$web" && touch "$clients/onnxruntime-web/$web"
    } >&2 || say "Left out: $web"
fi
