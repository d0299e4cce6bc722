# `make demo` segments the sample CT, `make test` checks and tests everything. Both set up what they need.
# `make demo` needs no torch. On a machine without a GPU, point pip at torch's CPU builds before `make test`.
PYTHON ?= python3
DEV := .venv
DEMO := .venv-demo
BENCH := .bench
SAMPLE := test/input/images/mediastinal-ct
# `make weights`: a folder of real CTs to insert nodes into (none: phantoms alone), and which of them
BACKGROUND ?=
BACKGROUND_CASES ?= Lung_Dx-A0001 Lung_Dx-A0002
# how nodes get into them: `make weights INSERTED="--shapes SHAPES --labels LABELS --only ..."`
INSERTED ?=
# losses and sampling where nearly all is known
KNOWN := --method known --losses.trust certain --losses.batch-dice --losses.hardest 0.1 --sampling.wrong-every 4 \
	--finetune.lr 0.05 --finetune.ema 0.995
# the middle of `make weights`: on the few wholly annotated cases alone, which teach what is no node
FINISH := --annotated full --finetune.epochs 60 --finetune.lr 0.05
# `make container-check`: which images; the GPU's takes gigabytes of downloads
FLAVOURS ?= cpu gpu
# `make gpu`: further options of benchmarks.on_gpu
GPU_FLAGS ?=
# windows at inference, in patches: see docs/results/windows.png
STEP := 0.8
# the CTs of `make bench`; the paper's network, which takes half an hour, sees the first alone
BENCH_CASES ?= lnq2023-test-0004 lnq2023-test-0002
# strict: a broken link or an unknown name is an error
DOCS := NO_MKDOCS_2_WARNING=1 $(DEV)/bin/mkdocs build --strict --quiet
PIP_FLAGS := --disable-pip-version-check --quiet --progress-bar off

.PHONY: help demo test lint docs unit coverage setup package-check container-check lock weights score hard compare bench gpu clean

help:
	@echo "make demo     segment the sample CT: mask and picture under demo-output/, Dice against its truth"
	@echo "make test     lint, type check and tests"
	@echo "make coverage  the tests, and which lines none of them runs"
	@echo "make docs     build the documentation's site under site/; a broken link is an error"
	@echo "make package-check  build the wheel, install it into empty environments and run it there"
	@echo "make container-check  build and test the image, with podman where there is no Docker engine (root, Debian)"
	@echo "make lock     compile the image's lists of packages after a change of requirements.txt or requirements-cpu.txt"
	@echo "make weights  train the shipped model again (hours; BACKGROUND=DIR adds real CTs with inserted nodes)"
	@echo "make score    score model/ on phantoms that were never trained on"
	@echo "make hard     score model/ on phantoms of another domain: rare anatomy, other contrast, slices and kernels"
	@echo "make compare  train with plain cross entropy and with the full method, a third of the steps each, and score"
	@echo "make bench    all benchmarks, into docs/results: beside MONAI and nnU-Net, over the CT's size (hours)"
	@echo "make gpu      all that is measured on a GPU, into gpu-output, in at most nine minutes"
	@echo "make clean    remove environments, caches and the demo's output; data/ and runs/ stay"

demo: $(DEMO)/.installed
	$(DEMO)/bin/python process.py batch $(SAMPLE) --truth test/expected -o demo-output --overwrite

test: lint unit

lint: $(DEV)/.installed
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports
	$(DEV)/bin/hadolint Dockerfile
	$(DEV)/bin/shellcheck test.sh export.sh container/*.sh
	$(DOCS)

docs: $(DEV)/.installed
	$(DOCS)

# Two processes share out the tests, module by module, and leave one thread to each library. One that crashes ends the run.
PYTEST := OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest -n 2 --dist loadscope --max-worker-restart 0

unit: $(DEV)/.installed
	$(PYTEST)

# The same tests and the part of the code that they run, in the commands that they start too. Counting takes half as
# long again, so `make test` does without.
coverage: $(DEV)/.installed
	$(PYTEST) --cov --cov-report=term

setup: $(DEV)/.installed

package-check: $(DEV)/.installed
	$(DEV)/bin/python -m pytest -m slow test/system/test_installed.py

container-check: $(DEV)/.installed
	container/check.sh $(FLAVOURS)

lock: $(DEV)/.installed
	$(DEV)/bin/python container/lock.py

$(DEMO)/.installed: requirements-cpu.txt requirements-batch.txt
	$(call make_venv,$(DEMO))
	$(DEMO)/bin/python -m pip install $(PIP_FLAGS) -r requirements-batch.txt
	@touch $@

# torch goes first, so that nothing that depends on it can choose another build
$(DEV)/.installed: requirements-cpu.txt requirements.txt requirements-batch.txt requirements-node.txt requirements-train.txt requirements-docs.txt requirements-dev.txt
	$(call make_venv,$(DEV))
	$(DEV)/bin/python -m pip install $(PIP_FLAGS) torch==2.13.0
	$(DEV)/bin/python -m pip install $(PIP_FLAGS) -r requirements-dev.txt
	@touch $@

# torchvision with it: nnU-Net's timm would pull one, and that another torch
$(BENCH)/.installed: requirements-cpu.txt requirements.txt requirements-batch.txt requirements-node.txt requirements-train.txt requirements-bench.txt
	$(call make_venv,$(BENCH))
	$(BENCH)/bin/python -m pip install $(PIP_FLAGS) torch==2.13.0 torchvision==0.28.0
	$(BENCH)/bin/python -m pip install $(PIP_FLAGS) -r requirements-bench.txt
	@touch $@

# Training and preparing resume where they were stopped; phantoms are made again, and come out the same.
# Seeds: 1000.. train, annotated in part, 3000.. and 4000.. train, wholly, 5000.. threshold, 7000.. hard, 9000.. score.
weights: $(DEV)/.installed data/tune runs/last/finetune.pt
	$(DEV)/bin/python -m training.export runs/last/finetune.pt -o model --window-step $(STEP)
	$(DEV)/bin/python -m training.evaluate data/tune --tune-threshold -o runs/tune
	$(DEV)/bin/python -m training.evaluate data/tune --calibrate -o runs/calibrated
	$(DEV)/bin/python -m training.quantise data/train

# From partial annotations by the method, then on the complete cases alone
runs/finish/finetune.pt: | $(DEV)/.installed
	$(DEV)/bin/python -m phantom data/train --count 180 --first-seed 1000 --size 256 --workers 2
	$(DEV)/bin/python -m phantom data/train --count 20 --first-seed 3000 --first-number 3001 --full --size 256 --workers 2
	$(if $(BACKGROUND),$(DEV)/bin/python -m phantom.insert $(BACKGROUND) -o data/train --only $(BACKGROUND_CASES) --copies 20)
	$(DEV)/bin/python -m training.prepare data/train -o data/prepared --processes 2
	$(DEV)/bin/python -m training.pretrain --data data/prepared -o runs/pretrain
	$(DEV)/bin/python -m training.finetune --data data/prepared --init runs/pretrain/pretrain.pt -o runs/finetune
	$(DEV)/bin/python -m training.export runs/finetune/finetune.pt -o runs/finetune/model
	$(DEV)/bin/python -m training.finetune --data data/prepared --init runs/finetune/model $(FINISH) -o runs/finish

# On nodes of real shapes in real CTs, on complete phantoms, and on what the last network took for nodes; twice
runs/last/finetune.pt: runs/finish/finetune.pt
	$(DEV)/bin/python -m phantom data/known --count 70 --first-seed 3000 --first-number 3001 --full --size 256 --workers 2
	$(DEV)/bin/python -m phantom data/known --count 30 --first-seed 4000 --first-number 4001 --full --size 256 \
		--domain mimics --workers 2
	$(if $(BACKGROUND),$(DEV)/bin/python -m phantom.insert $(BACKGROUND) -o data/known $(INSERTED) --copies 14 --seed 100)
	$(DEV)/bin/python -m training.prepare data/known -o data/known-prepared --processes 2
	$(call known,runs/finish,runs/known) --finetune.epochs 100
	$(call known,runs/known,runs/last) --finetune.epochs 55 --patch 32 96 96

# Of a run another: its network's wrong marks and missed nodes are found first, at low thresholds
define known
$(DEV)/bin/python -m training.export $(1)/finetune.pt -o $(1)/model --threshold 0.1 --peak-threshold 0.5 --window-step $(STEP)
	$(DEV)/bin/python -m training.mine data/known-prepared --model $(1)/model
	$(DEV)/bin/python -m training.finetune --data data/known-prepared --init $(1)/model -o $(2) $(KNOWN)
endef

score: $(DEV)/.installed data/test
	$(DEV)/bin/python -m training.evaluate data/test -o runs/score

# Anatomy, contrast, slices and kernels that no training phantom has
hard: $(DEV)/.installed data/shifted
	$(DEV)/bin/python -m training.evaluate data/shifted -o runs/hard

# The full method and plain cross entropy on the same data, at a third of the steps; after `make weights`
compare: runs/third-dbdmp/score runs/third-cross_entropy/score

runs/third-%/score: data/tune data/test
	$(DEV)/bin/python -m training.finetune --data data/prepared --init runs/pretrain/pretrain.pt --method $* \
		--finetune.epochs 50 -o runs/third-$*
	$(DEV)/bin/python -m training.export runs/third-$*/finetune.pt -o runs/third-$*/model --window-step $(STEP)
	$(DEV)/bin/python -m training.evaluate data/tune --model runs/third-$*/model --tune-threshold -o runs/third-$*/tune
	$(DEV)/bin/python -m training.evaluate data/test --model runs/third-$*/model -o $@

bench: $(BENCH)/.installed data/tune data/test
	$(BENCH)/bin/python -m benchmarks.windows data/tune -o docs/results
	$(BENCH)/bin/python -m benchmarks.compare --bundle model --ct $(BENCH_CASES:%=data/test/%-ct.nrrd) \
		--truth $(BENCH_CASES:%=data/test/%-seg.nrrd) --contenders lnq monai nnunet reference \
		--once monai+malloc nnunet+malloc nnunet-mirror -o docs/results
	$(BENCH)/bin/python -m benchmarks.compare --bundle paper --ct $(firstword $(BENCH_CASES:%=data/test/%-ct.nrrd)) \
		--contenders lnq monai nnunet --once reference monai+malloc nnunet+malloc nnunet-mirror -o docs/results
	$(BENCH)/bin/python -m benchmarks.scaling --bundle model -o docs/results
	$(BENCH)/bin/python -m benchmarks.throughput data/tune/*-ct.nrrd -o docs/results
	$(BENCH)/bin/python -m benchmarks.discovery -o docs/results
	$(BENCH)/bin/python -m benchmarks.arithmetic --bundle model -o docs/results
	$(BENCH)/bin/python -m benchmarks.arithmetic --bundle paper -o docs/results

# One that has no GPU runs it in small with `make gpu GPU_FLAGS=--try`
gpu: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks.on_gpu -o gpu-output $(GPU_FLAGS)

# a folder that is there is complete
data/tune: | $(DEV)/.installed
	$(DEV)/bin/python -m phantom $@.part --count 8 --first-seed 5000 --split val --size 384 --workers 2
	mv $@.part $@

data/test: | $(DEV)/.installed
	$(DEV)/bin/python -m phantom $@.part --count 12 --first-seed 9000 --split test --workers 2
	mv $@.part $@

data/shifted: | $(DEV)/.installed
	$(DEV)/bin/python -m phantom $@.part --count 12 --first-seed 7000 --split test --size 384 --domain shifted --workers 2
	mv $@.part $@

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: run make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing Python packages into $(1) ..."
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

clean:
	rm -rf $(DEV) $(DEMO) $(BENCH) site demo-output test-output gpu-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
