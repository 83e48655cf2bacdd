# `make demo` and `make test` need CPython 3.11 or newer and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BEAM_VENV ?= .venv-beam
DEMO ?= demo
DEMO_VIDEO ?= video005916
DEMO_MEDIA ?= demo-media
DEMO_CLIP ?= 00237
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

demo-media: $(INSTALLED)
	$(BIN)/python -m tools.planted_media --pairs=600 --jobs=2 --output=$(DEMO_MEDIA)/media
	$(BIN)/python -m tools.extract_features --videos=$(DEMO_MEDIA)/media/video \
	    --music=$(DEMO_MEDIA)/media/music --pairs=$(DEMO_MEDIA)/media/pairs.csv --clips=2 \
	    --output=$(DEMO_MEDIA)/features
	test -e $(DEMO_MEDIA)/data || $(BIN)/python -m tools.build_dataset --source=feature_files \
	    --input=$(DEMO_MEDIA)/features --held_out=0.15 --output=$(DEMO_MEDIA)/data
	@echo && echo 'II-CLVM, on sequences of clips:'
	$(BIN)/python -m experiments.train --config=configs/ii_clvm.py:small \
	    --config.dataset.data_dir=$(DEMO_MEDIA)/data --workdir=$(DEMO_MEDIA)/ii_clvm
	$(BIN)/python -m experiments.evaluate --workdir=$(DEMO_MEDIA)/ii_clvm --split=test \
	    --baseline=cca
	@echo && echo 'VM-NET, on one vector an item, the mean of its clips:'
	$(BIN)/python -m experiments.train --config=configs/vmnet.py:small \
	    --config.dataset.data_dir=$(DEMO_MEDIA)/data --workdir=$(DEMO_MEDIA)/vmnet
	$(BIN)/python -m experiments.evaluate --workdir=$(DEMO_MEDIA)/vmnet --split=test --baseline=cca
	@echo && echo 'music for the file $(DEMO_CLIP).webm, whose own track is $(DEMO_CLIP):'
	$(BIN)/python -m experiments.export --workdir=$(DEMO_MEDIA)/ii_clvm --split=test \
	    --output=$(DEMO_MEDIA)/test.npz
	$(BIN)/python -m experiments.search --model=$(DEMO_MEDIA)/ii_clvm \
	    --embeddings=$(DEMO_MEDIA)/test.npz --video=$(DEMO_MEDIA)/media/video/$(DEMO_CLIP).webm \
	    --top=5
	$(BIN)/python -m experiments.gallery --workdir=$(DEMO_MEDIA)/ii_clvm --split=test \
	    --against=$(DEMO_MEDIA)/vmnet --media=$(DEMO_MEDIA)/media --segments=5 \
	    --output=$(DEMO_MEDIA)/gallery
	@echo
	@echo 'media       $(DEMO_MEDIA)/media, features $(DEMO_MEDIA)/features (report.csv)'
	@echo 'gallery     $(DEMO_MEDIA)/gallery/index.html, to open in a browser'

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
