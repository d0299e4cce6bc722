# The challenge's container, and any other's: docker build -t lnq .
# Default: torch on a GPU where there is one, OpenVINO otherwise. Without torch, much smaller:
#   docker build --build-arg FLAVOUR=cpu -t lnq .
# That with DICOM results, a DICOM node and a module of mercure: FLAVOUR=dicom
# It serves by default, as its label says to grand-challenge. `docker run lnq exec` runs once and ends.
#   docker build --build-arg API_METHOD=exec -t lnq .     makes that the default, and the label
# The digest is that of the tag's index of architectures; docs/grand-challenge.md tells how to renew it.
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

# nothing that runs here may gain rights: the bits of su, mount and the like go
RUN groupadd --system --gid 10001 algorithm \
    && useradd --system --create-home --uid 10001 --gid algorithm algorithm \
    && mkdir -p /opt/algorithm /input /output /spool \
    && chown algorithm:algorithm /input /output /spool \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +

WORKDIR /opt/algorithm

ARG FLAVOUR=gpu
# Everything with versions and hashes (make lock). PyPI's torch is the CUDA build, cuda.lock is what that needs; an index
# that has the CPU build, with its hash, gives that.
COPY container/*.lock /tmp/locks/
RUN install="python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes" \
    && $install -r "/tmp/locks/$FLAVOUR.lock" \
    && case "$(python -m pip show torch 2>/dev/null)" in *nvidia-*) $install -r /tmp/locks/cuda.lock ;; esac

COPY process.py ./
COPY lnq lnq
COPY model model
RUN python -m compileall -q process.py lnq && chmod -R a+rX,go-w .

# the platform allows 256 threads in all: libraries that start one per core are bounded, the network's are in lnq
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OPENBLAS_NUM_THREADS=4 \
    ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=4 \
    HOME=/home/algorithm

# invoke: a server that loads the model once; exec: a run that ends. The platform starts the image as its label says.
ARG API_METHOD=invoke
ENV LNQ_API_METHOD=$API_METHOD \
    LNQ_HOST=0.0.0.0

LABEL org.grand-challenge.api-method="$API_METHOD" \
    org.opencontainers.image.title="lnq" \
    org.opencontainers.image.description="Segments mediastinal lymph nodes in chest CT. Not for clinical use." \
    org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-4.0"

USER 10001:10001

ENTRYPOINT ["python", "/opt/algorithm/process.py"]
