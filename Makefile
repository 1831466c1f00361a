# mono3d needs Python 3.11 or 3.12 and GNU make; each target installs the rest into .venv itself.
#
#   make demo      train, evaluate and track a detector on synthetic data
#   make test      tests of up to a few seconds each;  make test-all adds the slow ones
#   make study     does mining pay? 30 runs on data with wrong labels, about two hours on two cores
#   make add-study does a teacher that sees depth help? 100 runs, about three hours on two cores
#   make bev-study does a LiDAR network teach a camera's? 25 runs, about an hour and a half on two cores
#   make bev-unlabelled-study  what are frames without labels worth? 30 runs, about two hours on two cores
#   make search   which mining suits labels that are wrong about depth? 30 short trials
#   make chaos     kill nodes, processes and servers, and cut them off, while runs and searches work
#   make image-test  the Dockerfile's steps, carried out without a container engine
#   make check     format, lint, types, layers, tests
#   make audit     known vulnerabilities of what is installed, by pypi.org; needs the network
#   make bench     benchmarks, each a ratio to a peer measured in the same run
#   make install   only .venv;  make install TORCH=gpu takes PyTorch's CUDA build
#   make clean     remove .venv and caches; runs/ and data/ stay
#
# A CPU build of torch is looked for where pip is configured to look, then at TORCH_INDEX.

TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH_VERSION := 2.13.0
# cpu or gpu; an environment that has the GPU build keeps it.
TORCH ?= $(if $(wildcard .venv/installed-gpu),gpu,cpu)

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed-$(TORCH)
PIP_INSTALL := $(BIN)/pip install -qq --no-input --retries 2
PYTEST := $(BIN)/pytest
# Processes for tests without Ray, a file at a time each; the files that need servers are one process's.
# A process that dies ends the run: xdist cannot go on by files after that, and would wait for ever.
TEST_PROCESSES ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export OMP_NUM_THREADS := 1

.DELETE_ON_ERROR:
.PHONY: install demo study add-study bev-study bev-unlabelled-study search test test-slow test-all chaos image-test lint check audit bench clean

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/mono3d demo

study: $(INSTALLED)
	$(BIN)/mono3d data synth runs/mining_study/data --width 400 --height 224 --biased-labels 0.2
	$(BIN)/mono3d study mining_study --variants mining --json docs/studies/mining_biased.json \
		--only none,gmm,ohem,easy_topk,log_depth_only,uncertainty_only

add-study: $(INSTALLED)
	$(BIN)/mono3d data synth runs/add_study/data --width 400 --height 224
	for family in dense center; do \
		$(BIN)/mono3d train add_study_$$family --name add_study_$${family}_teacher \
			distillation.kind=none model.depth_input=objects && \
		$(BIN)/mono3d study add_study_$$family --variants add --json docs/studies/add_$$family.json \
			|| exit; \
	done

# Of the LiDAR networks that teach there: pillars on the grid of bev_study.
PILLARS := model={kind: lidar, grid: {x_range_m: [-48, 48], y_range_m: [-48, 48], z_range_m: [-1, 3], cell_m: 0.8, \
	num_heights: 4, ground_height_m: 0}, pillar_channels: 32, lifted_channels: 32, bev_channels: [32, 64], \
	bev_layers: 2, head: {kind: centers}}

bev-study: $(INSTALLED)
	$(BIN)/mono3d data synth runs/bev_study/data --width 400 --height 224
	$(BIN)/mono3d train bev_study --name bev_study_teacher "$(PILLARS)"
	$(BIN)/mono3d train bev_study --name bev_study_assistant model.depth_input=lidar
	$(BIN)/mono3d study bev_study --variants bev --json docs/studies/bev.json

bev-unlabelled-study: $(INSTALLED)
	$(BIN)/mono3d data synth runs/bev_study/data --width 400 --height 224
	$(BIN)/mono3d data synth runs/bev_study/few --width 400 --height 224 --train-scenes 60 --val-scenes 26 --seed 2
	$(BIN)/mono3d train bev_study --name bev_study_few_teacher data.root=runs/bev_study/few input.paste_frames=1 "$(PILLARS)"
	$(BIN)/mono3d pseudo-label runs/bev_study_few_teacher data.root=runs/bev_study/data -o runs/bev_study/pseudo_labels.jsonl
	$(BIN)/mono3d study bev_study --variants bev_unlabelled --json docs/studies/bev_unlabelled.json

# Short runs, so that there can be many, each to its end: benchmarks/early_stopping.py replays their
# curves. Interrupted, mono3d tune --resume mining_curves goes on.
search: $(INSTALLED)
	$(BIN)/mono3d data synth runs/mining_study/data --width 400 --height 224 --biased-labels 0.2
	$(BIN)/mono3d tune mining_study --space tune_spaces/mining.py --name mining_curves \
		--sampler random --scheduler none --trials 30 train.epochs=9 train.epoch_frames=480 \
		evaluation.every_epochs=1 evaluation.max_frames=120 train.precision=auto
	mkdir -p docs/searches
	$(BIN)/mono3d studies show mining_curves --json docs/searches/mining_curves.json

test: $(INSTALLED)
	$(PYTEST) -m "not slow and not chaos and not image" -n $(TEST_PROCESSES) --dist loadgroup --max-worker-restart 0

# What starts Ray or servers goes one by one: its processes find and wait for each other.
test-slow: $(INSTALLED)
	$(PYTEST) -m "slow and not (chaos or ray or services)" -n $(TEST_PROCESSES) --dist loadgroup \
		--max-worker-restart 0 --durations=10
	$(PYTEST) -m "slow and (ray or services) and not chaos" --durations=20

image-test: $(INSTALLED)
	$(PYTEST) -m image

# Machines of a cluster are network namespaces: Debian's iproute2 and root.
chaos: $(INSTALLED)
	$(PYTEST) -m chaos --durations=10

test-all: test test-slow

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# What pypi.org does not answer for counts as a failure. A local version (+cpu) is not known there.
audit: $(INSTALLED)
	@$(PIP_INSTALL) -e '.[audit]'
	@frozen=$$(mktemp) && trap 'rm -f "$$frozen"' EXIT && \
	$(BIN)/pip freeze -q --exclude-editable | sed 's/+[a-z0-9.]*$$//' > "$$frozen" && \
	$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r "$$frozen" || { \
	echo "audit: not passed: a known vulnerability above, or pypi.org could not be asked about a package" >&2; exit 1; }

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find mono3d tests tune_spaces benchmarks -name __pycache__ -prune -exec rm -rf {} +

# A local label (+cpu) exists on no build with CUDA, so no CUDA package can slip in by asking for it.
# Torch goes first: what depends on it then finds it there.
$(VENV)/installed-cpu: pyproject.toml | $(BIN)/pip
	@rm -f $(VENV)/installed-*
	@echo "installing into $(VENV): about 2 minutes and 2.5 GB ..."
ifeq ($(shell uname -s),Linux)
	@$(PIP_INSTALL) --no-deps --timeout 30 'torch==$(TORCH_VERSION)+cpu' 2>/dev/null \
	|| $(PIP_INSTALL) --no-deps --timeout 30 --index-url $(TORCH_INDEX) 'torch==$(TORCH_VERSION)+cpu' \
	|| { echo "no CPU build of torch $(TORCH_VERSION) where pip is configured to look nor at $(TORCH_INDEX):" \
	"set TORCH_INDEX=URL, or TORCH=gpu for the CUDA build (several GB)" >&2; exit 1; }
endif
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

# === compares the text of the version, so a +cpu build does not pass for it.
$(VENV)/installed-gpu: pyproject.toml | $(BIN)/pip
	@rm -f $(VENV)/installed-*
	@echo "installing into $(VENV) with CUDA: several GB ..."
	@$(PIP_INSTALL) 'torch===$(TORCH_VERSION)' -e '.[dev]'
	@touch $@

$(BIN)/pip:
	@for python in $(PYTHON) python3.11 python3.12 python3; do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; \
		then exec $$python -m venv $(VENV); fi; \
	done; \
	echo "Python 3.11 or 3.12 not found: install one, or say where it is with PYTHON=/path" >&2; exit 1
