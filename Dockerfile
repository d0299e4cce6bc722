# The challenge's container, and any other's: docker build -t lnq .
# Default: torch on a GPU where there is one, OpenVINO otherwise. Without torch, much smaller:
#   docker build --build-arg REQUIREMENTS=requirements-cpu.txt -t lnq .
FROM python:3.11-slim

ARG REQUIREMENTS=requirements.txt

RUN groupadd --system algorithm \
    && useradd --system --create-home --gid algorithm algorithm \
    && mkdir -p /opt/algorithm /input /output \
    && chown algorithm:algorithm /input /output

WORKDIR /opt/algorithm

# openvino-telemetry reports home; nothing that runs here needs it
COPY requirements.txt requirements-cpu.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check -r "${REQUIREMENTS}" \
    && python -m pip uninstall --yes openvino-telemetry

COPY process.py ./
COPY lnq lnq
COPY model model
RUN python -m compileall -q process.py lnq && chmod -R a+rX .

# the platform allows 256 threads in all: libraries that start one per core are bounded, the network's are in lnq
ENV PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=4 \
    ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=4 \
    HOME=/home/algorithm

USER algorithm

ENTRYPOINT ["python", "/opt/algorithm/process.py"]
