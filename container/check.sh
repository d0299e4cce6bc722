#!/usr/bin/env bash
# Builds the image, runs ./test.sh, checks the saved image as the platform does and runs the tests marked `container`.
# Usage: container/check.sh [cpu|gpu|dicom]... (cpu and gpu unless given). Without a Docker engine podman does it, see podman.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$PWD/.container-check
mkdir -p "$work"

if ! docker info >/dev/null 2>&1; then
    container/podman.sh "$work"
    export PATH=$work/bin:$PATH
fi
flavours=("$@")
((${#flavours[@]})) || flavours=(cpu gpu)
for flavour in "${flavours[@]}"; do
    echo "== $flavour"
    ./test.sh --build-arg "FLAVOUR=$flavour"
    docker save lnq >"$work/lnq.tar"
    .venv/bin/python container/check_image.py "$work/lnq.tar"
    rm "$work/lnq.tar"
    .venv/bin/python -m pytest -m container
done
