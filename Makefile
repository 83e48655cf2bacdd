# `make demo` and `make test` need CPython 3.11 or newer and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BEAM_VENV ?= .venv-beam
DEMO ?= demo
DEMO_VIDEO ?= video005916
DEMO_MEDIA ?= demo-media
DEMO_MEDIA_PAIRS ?= 600
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BEAM_INSTALLED := $(BEAM_VENV)/.installed

.PHONY: demo demo-media test test-beam lint clean

# A path rather than an import hook: else a clone named vmr hides the package from its parent folder.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	    --config-settings editable_mode=compat --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps musicnn==0.1.0
	touch $@

demo: $(INSTALLED)
	test -e $(DEMO)/data || $(BIN)/python -m tools.build_dataset --source=planted --output=$(DEMO)/data
	$(BIN)/python -m experiments.train --config=configs/vmnet.py:demo \
	    --config.dataset.data_dir=$(DEMO)/data --workdir=$(DEMO)/run
	$(BIN)/python -m experiments.evaluate --workdir=$(DEMO)/run --split=test --baseline=cca
	$(BIN)/python -m experiments.export --workdir=$(DEMO)/run --split=test \
	    --output=$(DEMO)/embeddings.npz
	@echo
	@echo 'music for the video $(DEMO_VIDEO), the true track marked:'
	$(BIN)/python -m experiments.search --embeddings=$(DEMO)/embeddings.npz \
	    --video=$(DEMO_VIDEO) --top=5
	$(BIN)/python -m experiments.gallery --workdir=$(DEMO)/run --split=test \
	    --output=$(DEMO)/gallery
	@echo
	@echo 'dataset     $(DEMO)/data (README.md is its card)'
	@echo 'run         $(DEMO)/run (config.json, metrics.jsonl, checkpoints, results/test.json)'
	@echo 'embeddings  $(DEMO)/embeddings.npz'
	@echo 'gallery     $(DEMO)/gallery/index.html, to open in a browser'

# Items of two seconds' clips are sequences, for II-CLVM; items as a whole are vectors, for VM-NET.
demo-media: $(INSTALLED)
	$(BIN)/python -m tools.planted_media --output=$(DEMO_MEDIA)/media --pairs=$(DEMO_MEDIA_PAIRS)
	for clips in 2 whole; do \
	    $(BIN)/python -m tools.extract_features --videos=$(DEMO_MEDIA)/media/video \
	        --music=$(DEMO_MEDIA)/media/music --pairs=$(DEMO_MEDIA)/media/pairs.csv \
	        --clips=$$clips --output=$(DEMO_MEDIA)/features/$$clips && \
	    { test -e $(DEMO_MEDIA)/data/$$clips || $(BIN)/python -m tools.build_dataset \
	        --source=feature_files --input=$(DEMO_MEDIA)/features/$$clips --held_out=0.15 \
	        --output=$(DEMO_MEDIA)/data/$$clips; } || exit 1; \
	done
	$(BIN)/python -m experiments.train --config=configs/ii_clvm.py:small \
	    --config.dataset.data_dir=$(DEMO_MEDIA)/data/2 --workdir=$(DEMO_MEDIA)/ii_clvm
	$(BIN)/python -m experiments.train --config=configs/vmnet.py:small \
	    --config.dataset.data_dir=$(DEMO_MEDIA)/data/whole --workdir=$(DEMO_MEDIA)/vmnet
	for run in ii_clvm vmnet; do \
	    $(BIN)/python -m experiments.evaluate --workdir=$(DEMO_MEDIA)/$$run --split=test \
	        --baseline=cca || exit 1; \
	done

test: lint
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

# Apache Beam needs older packages than the rest, so it has an environment of its own.
# Not compiled: most of what it brings is never imported.
$(BEAM_INSTALLED): setup.cfg pyproject.toml constraints-beam.txt
	$(PYTHON) -m venv $(BEAM_VENV)
	$(BEAM_VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile \
	    --constraint constraints-beam.txt --config-settings editable_mode=compat \
	    --editable '.[beam]' pytest
	$(BEAM_VENV)/bin/pip check
	touch $@

test-beam: $(BEAM_INSTALLED)
	$(BEAM_VENV)/bin/python -m pytest tests/beam

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(BEAM_VENV) $(DEMO) $(DEMO_MEDIA) build *.egg-info .mypy_cache .pytest_cache \
	    .ruff_cache
