#!/usr/bin/env bash
# Makes what is uploaded to grand-challenge: lnq.tar.gz (the image) and model.tar.gz (the bundle on its own).
# The image is checked as the platform does at upload.
# Usage: ./export.sh [--weights-only] [CHECKPOINT] [-- ARGUMENTS OF docker build]
# With CHECKPOINT (a fine-tuned one), its main decoder is exported into model/ first. --weights-only needs no Docker.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
IMAGE=lnq
weights_only=false
checkpoint=""

while (($#)); do
    case $1 in
        --weights-only) weights_only=true ;;
        --) shift; break ;;
        -*) echo "Unknown option $1: usage is ./export.sh [--weights-only] [CHECKPOINT] [-- BUILD ARGUMENTS]" >&2; exit 2 ;;
        *) checkpoint=$1 ;;
    esac
    shift
done

if ! $weights_only && ! docker info >/dev/null 2>&1; then
    echo "export.sh needs Docker, and 'docker info' fails here: install or start it, or use --weights-only." >&2
    exit 2
fi

python=python3
for candidate in .venv/bin/python .venv-demo/bin/python; do
    if [ -x "$candidate" ]; then python=$candidate; break; fi
done

if [ -n "$checkpoint" ]; then
    "$python" -m training.export "$checkpoint" -o model
fi
"$python" process.py info --model model

part=$(mktemp -d .export-XXXXXX)
trap 'rm -rf "$part"' EXIT
tar -C model --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=a+rX,u+w -c . | gzip -n >"$part/model.tar.gz"
mv "$part/model.tar.gz" .
made=(model.tar.gz)

if ! $weights_only; then
    docker build --platform=linux/amd64 -t "$IMAGE" "$@" .
    docker save "$IMAGE" | gzip >"$part/lnq.tar.gz"
    "$python" container/check_image.py "$part/lnq.tar.gz"
    mv "$part/lnq.tar.gz" .
    made+=(lnq.tar.gz)
fi

for file in "${made[@]}"; do
    echo "$file: $(stat -c %s "$file") bytes, sha256 $(sha256sum "$file" | cut -d' ' -f1)"
done
