#!/usr/bin/env bash
# Makes WORK/bin/docker: podman under Docker's name, for machines without a Docker engine. Images stay below WORK.
# Usage: container/podman.sh WORK, as root, on Debian with the packages podman, runc and debootstrap.
# Where no registry can be reached, a minimal Debian with its own Python 3.11 stands in for the Dockerfile's base image.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$1"
work=$(cd "$1" && pwd)

for tool in podman runc debootstrap; do
    if ! PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null; then
        echo "Neither a Docker engine nor $tool is here: apt-get install podman runc debootstrap" >&2
        exit 2
    fi
done
mkdir -p "$work/bin" "$work/run" "$work/config"

# a configuration of its own; runc and cgroupfs also run where systemd does not
driver=overlay
grep -qw overlay /proc/filesystems || driver=vfs
cat >"$work/config/storage.conf" <<END
[storage]
driver = "$driver"
graphroot = "$work/storage"
runroot = "$work/run"
END
cat >"$work/config/containers.conf" <<END
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[containers]
cgroupns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
END
export CONTAINERS_STORAGE_CONF=$work/config/storage.conf CONTAINERS_CONF=$work/config/containers.conf

# pip in the build finds packages where pip out here does, also in local folders; nothing of it stays in the image
python3 -m pip config list | sed -nE "s/^[^ ]*\.(index-url|extra-index-url|find-links|cert)='(.*)'$/\1 = \2/p" |
    awk '!seen[$1]++' | { echo "[global]"; cat; } >"$work/config/pip.conf"
mounts="-v /etc/ssl/certs:/etc/ssl/certs:ro -v $work/config/pip.conf:/etc/pip.conf:ro"
for place in $(sed -n 's/.* = //p' "$work/config/pip.conf" | tr ' ' '\n' | sed 's|^file://||; s|/simple/*$||' | sort -u); do
    case $place in /etc/ssl/*) ;; /*) if [ -d "$place" ]; then mounts="$mounts -v $place:$place:ro"; fi ;; esac
done

cat >"$work/bin/docker" <<END
#!/bin/sh
export CONTAINERS_STORAGE_CONF=$CONTAINERS_STORAGE_CONF CONTAINERS_CONF=$CONTAINERS_CONF
if [ "\$1" = build ]; then
    shift
    sed 's/@sha256:[0-9a-f]*//' Dockerfile >$work/Dockerfile
    exec podman build --isolation=chroot --network=host --pull=never --format=docker -f $work/Dockerfile $mounts "\$@"
fi
exec podman "\$@"
END
chmod +x "$work/bin/docker"

base=docker.io/library/$(sed -n 's/^FROM //p' "$root/Dockerfile")
tag=${base%@*}
if podman image exists "$tag"; then
    exit 0
fi
if timeout 120 podman pull -q "$base" >/dev/null 2>&1; then
    podman tag "$base" "$tag"
    exit 0
fi
echo "The base image cannot be pulled: a minimal Debian stands in for it" >&2
release=bookworm # whose Python is 3.11
# shellcheck disable=SC2016 # apt-get's own variable
mirror=$(apt-get indextargets --format '$(SITE)' | grep -m1 '^http' || true) # none: debootstrap's own
rm -rf "$work/base"
PATH=$PATH:/usr/sbin debootstrap --variant=minbase --include=python3,python3-pip,ca-certificates \
    "$release" "$work/base" ${mirror:+"$mirror"} >"$work/debootstrap.log" 2>&1
rm -rf "$work"/base/var/cache/apt/*.bin "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/* \
    "$work"/base/usr/lib/python3*/EXTERNALLY-MANAGED
ln -s /usr/bin/python3 "$work/base/usr/local/bin/python"
tar -C "$work/base" -c . | podman import -q --change 'CMD ["python3"]' \
    --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' - "$tag" >/dev/null
rm -rf "$work/base"
