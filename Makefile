PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-fast test-lowest fuzz load check bench refresh comfy-demo clean

help:
	@echo "make demo                         set up, then write out/demo.mp4 from the embedded checkpoint"
	@echo "make test                         set up, then run all tests"
	@echo "make test-fast                    the same without ComfyUI servers and what takes over ten seconds"
	@echo "make test-lowest                  test-fast with the oldest versions that pyproject.toml allows, in .venv-lowest"
	@echo "make fuzz                         five thousand hostile files and texts, each in a watched process (ten minutes)"
	@echo "make load                         two hundred prompts from four clients in a real ComfyUI (six minutes)"
	@echo "make check                        lint, formatting, types, and independent checks of the nodes and workflows"
	@echo "make bench                        time operations, model and generation on this machine"
	@echo "make refresh                      make the tables, seeds, thumbnails and pictures of the checkpoint anew (half an hour)"
	@echo "make comfy-demo COMFYUI_PATH=...  the same demo through a ComfyUI"

setup: $(READY)

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -e ".[standalone,train,weights,chinese,dev]"
	touch $@

demo: setup
	$(BIN)/harmony generate "a red ball bounces on metal" --audio-prompt "a ball hits metal" --seed 7 -o out/demo.mp4 --overwrite

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not host and not slow"

# The oldest versions that pyproject.toml allows.
test-lowest:
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct -e ".[standalone,train,weights,chinese,dev]"
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 --dist loadgroup -m "not host and not slow"

fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.robustness.fuzz --cases 5000 --processes 2

load: setup
	$(BIN)/python -m tools.comfyui.load --output out/load.csv

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/python -m tools.comfyui.lint

bench: setup
	$(BIN)/harmony bench ops -o out/ops.csv
	$(BIN)/harmony bench model -o out/model.csv
	$(BIN)/harmony bench sampling -o out/sampling.csv

# After a new checkpoint or another measure: the table, the shipped seed, the workflows, their thumbnails, the pictures.
refresh: setup
	$(BIN)/harmony bench quality -o benchmarks/quality.csv --overwrite
	$(BIN)/harmony bench quality joint audio_to_video ground_truth shuffled --world free_speech --clips 96 -o benchmarks/quality_free_speech.csv --overwrite
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.workflows.build --seed --thumbnails
	$(BIN)/python -m benchmarks.pictures

comfy-demo: setup
	$(BIN)/python -m tools.comfyui.demo $(COMFYUI_PATH)

clean:
	rm -rf $(VENV) out .pytest_cache .ruff_cache
