#!/usr/bin/env bash
# Builds the image, runs it on test/input under the challenge's restrictions, once to its end and once as a server, and
# compares with test/expected.
# Usage: ./test.sh [ARGUMENTS OF docker build], e.g. ./test.sh --build-arg FLAVOUR=cpu
# Leaves the image `lnq` and the container's output under test-output/, no container and no volume. Exit status 0 only if
# all agrees.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
IMAGE=lnq
MEMORY=4g

if ! docker info >/dev/null 2>&1; then
    echo "test.sh needs Docker, and 'docker info' fails here: install or start it." >&2
    echo "Without Docker, run: python process.py --input test/input --output test-output" >&2
    echo "or, on Debian with podman, runc and debootstrap: make container-check" >&2
    exit 2
fi

docker build --platform=linux/amd64 -t "$IMAGE" "$@" .

volume=lnq-output-$$
docker volume create "$volume" >/dev/null
trap 'docker rm --force "$volume" >/dev/null 2>&1 || true; docker volume rm --force "$volume" >/dev/null' EXIT

gpus=()
if command -v nvidia-smi >/dev/null && docker info 2>/dev/null | grep -qi 'runtimes.*nvidia'; then
    gpus=(--gpus all)
fi

restricted=(--name "$volume" --platform=linux/amd64 "${gpus[@]}"
    --memory="$MEMORY" --memory-swap="$MEMORY" --shm-size=128m --pids-limit=256
    --network=none --cap-drop=ALL --security-opt=no-new-privileges
    --volume "$PWD/test/input:/input:ro" --volume "$volume:/output")

check() { # compare what lies in the volume
    docker run --rm --network=none --volume "$volume:/output:ro" --volume "$PWD/test:/test:ro" \
        --env PYTHONPATH=/opt/algorithm --entrypoint python "$IMAGE" /test/check_output.py /output /test/expected
}

echo "== exec: it runs once and ends"
docker run --rm "${restricted[@]}" "$IMAGE" exec
check
rm -rf test-output
mkdir test-output
docker run --rm --network=none --volume "$volume:/output:ro" --entrypoint tar "$IMAGE" -C /output -c . |
    tar -x --no-same-owner -C test-output

echo "== invoke: it serves"
docker run --rm --network=none --volume "$volume:/output" --entrypoint find "$IMAGE" /output -mindepth 1 -delete
docker run --detach "${restricted[@]}" "$IMAGE" serve >/dev/null
docker exec --interactive "$volume" python - <test/invoke.py || { docker logs "$volume" >&2; exit 1; }
docker logs "$volume" 2>&1 | tail -n 3
docker kill --signal=TERM "$volume" >/dev/null
status=$(timeout 5 docker wait "$volume") || { echo "The server did not end within 5 s of SIGTERM" >&2; exit 1; }
[ "$status" = 143 ] || { echo "The server ended with status $status, not 143" >&2; exit 1; }
check
