# Every target first makes .venv from requirements.lock, once: nothing but python3 and make is needed.
PYTHON := .venv/bin/python
CONFIG ?= configs/caltech101.yaml
LOCK := $(if $(CPU),build/requirements-cpu.lock,requirements.lock)
SET := $(if $(DATA),--set data=$(DATA)) $(foreach s,$(OVERRIDES),--set $(s))

.PHONY: help demo demo-model wordnet install run plots plan status append predict export test test-all docs lint check format bench bench-head bench-choice bench-names bench-growth bench-gpu bench-curate bench-scale soak fuzz lock audit clean-results clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16
	@echo "Variables: CONFIG=$(CONFIG)  DATA=folder of the inputs  STEPS='fit label'  OVERRIDES='label.top=3 seed=1'  ARGS=--local"

demo: .venv/ready ## Draw 3,000 pictures, cluster and name them: no data, weights or network needed
	$(PYTHON) -m pipelines demo $(ARGS)
demo-model: .venv/ready ## Train the demonstration's small CLIP again, ten to twenty minutes
	$(PYTHON) -m cpp.demo.clip
wordnet: .venv/ready ## Build the file of WordNet nouns in the package from the dict folder of WordNet 3.0: DICT=folder
	$(PYTHON) -m cpp.naming.wordnet_build '$(or $(DICT),$(error name DICT: the folder with data.noun))'
install: .venv/ready ## Make .venv with the locked dependencies; CPU=1 leaves out CUDA
run: .venv/ready ## Bring the run of CONFIG up to date
	$(PYTHON) -m pipelines run $(CONFIG) $(STEPS) $(SET) $(ARGS)
plots: .venv/ready ## Write the curve, sizes, map and contact sheet of CONFIG's run into its folder plots
	$(PYTHON) -m pipelines run $(CONFIG) plots $(SET) $(ARGS)
plan: .venv/ready ## Print the steps of CONFIG, and what is left to do in time, disk, memory, cost: ARGS="--price 12"
	$(PYTHON) -m pipelines plan $(CONFIG) $(STEPS) $(SET) --estimate $(ARGS)
status: .venv/ready ## Print how far the run of CONFIG is and what failed
	$(PYTHON) -m pipelines status $(CONFIG) $(STEPS) $(SET)
append: .venv/ready ## Take new shards into the finished run of CONFIG: SHARDS='...' IMAGES=..., see docs/append.md; none brings it up to date
	$(PYTHON) -m pipelines append $(CONFIG) $(foreach s,$(SHARDS),--shards '$s') $(if $(IMAGES),--images '$(IMAGES)') $(SET) $(ARGS)
predict: .venv/ready ## Print the clusters of the run of CONFIG that WHAT is in: an image, a folder, a tar, an .npy file
	$(PYTHON) -m pipelines predict $(CONFIG) '$(or $(WHAT),$(error name WHAT: an image, a folder of images, a tar or an .npy file of vectors))' $(SET) $(ARGS)
export: .venv/ready ## Write the finished run of CONFIG as a labelled data set: FORMAT=... TO=new folder CURATED=1
	$(PYTHON) -m pipelines export $(CONFIG) --format $(or $(FORMAT),$(error name a FORMAT: webdataset imagefolder csv parquet huggingface fiftyone)) $(if $(TO),--to '$(TO)') $(if $(CURATED),--curated) $(SET) $(ARGS)
test: .venv/ready ## Run the tests that a person waits for (real data: CPP_TEST_DATA=folder)
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)
test-all: .venv/ready ## Run all tests, as CI does
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)
docs: .venv/ready ## Build the documentation as a site in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet
lint: .venv/ready ## Run ruff, the format check and mypy strict
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
check: lint test ## Run lint and test
format: .venv/ready ## Format the code
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format
bench: .venv/ready ## Measure speed and memory against named baselines (with CPP_TEST_DATA those of encode too)
	$(PYTHON) -m tests.bench
	$(PYTHON) -m tests.bench.encode
	$(PYTHON) -m tests.bench.feed
	$(PYTHON) -m tests.bench.runner
	$(PYTHON) -m tests.bench.remote
	$(PYTHON) -m tests.bench.page
bench-head: .venv/ready ## Score clusterings of the real vectors in CPP_TEST_DATA by several methods
	$(PYTHON) -m tests.bench.head $(ARGS)
bench-choice: .venv/ready ## Measure how K is chosen on the real vectors in CPP_TEST_DATA, and its time by size
	$(PYTHON) -m tests.bench.choice $(ARGS)
	$(PYTHON) -m tests.bench.scale
bench-names: .venv/ready ## Score names of clusters of the real vectors in CPP_TEST_DATA, and fit their confidence
	$(PYTHON) -m tests.bench.names
bench-gpu: .venv/ready ## Check a GPU against the CPU, then measure speed beside baselines: OUT=folder for the results
	$(PYTHON) -m tests.bench.gpu $(or $(OUT),build/gpu) $(ARGS)
bench-growth: .venv/ready ## Measure what append says of images of the same kind, new classes and other sets, of CPP_TEST_DATA
	$(PYTHON) -m tests.bench.growth
soak: .venv/ready ## Break runs at random for some minutes: ARGS="--minutes 5 --seed 0"
	$(PYTHON) -m tests.runs.soak $(ARGS)
fuzz: .venv/ready ## Encode random odd inputs, and check that no row is lost or mixed up: ARGS="--minutes 10 --seed 0"
	$(PYTHON) -m tests.runs.fuzz_inputs $(ARGS)
bench-curate: .venv/ready ## Measure curation: near-duplicates of a million vectors, planted copies and oddities, balanced subsets
	$(PYTHON) -m tests.bench.duplicates
	$(PYTHON) -m tests.bench.planted
	$(PYTHON) -m tests.bench.curation
	$(PYTHON) -m tests.bench.balance
bench-scale: .venv/ready ## Measure the growth of fit and clustering, 100,000 shards in the driver, ten million vectors with K = 10,000: two hours, 45 GB of disk
	$(PYTHON) -m tests.bench.cost
	$(PYTHON) -m tests.bench.driver
	$(PYTHON) -m tests.bench.size
lock: .venv/ready ## Resolve the dependencies again into requirements.lock
	.venv/bin/uv pip compile pyproject.toml --group dev --universal --upgrade --no-annotate --no-header --quiet --output-file requirements.lock
audit: .venv/ready ## Look up the locked dependencies among published advisories (needs the network)
	.venv/bin/uv tool run pip-audit==2.10.1 --strict --no-deps --disable-pip --requirement requirements.lock
clean-results: .venv/ready ## List results of CONFIG's folder that it does not refer to: ARGS=--yes removes them
	$(PYTHON) -m pipelines clean $(CONFIG) $(SET) $(ARGS)
clean: ## Remove .venv and caches, not results
	rm -rf .venv *.egg-info .mypy_cache .ruff_cache .pytest_cache

build/requirements-cpu.lock: requirements.lock
	@mkdir -p build
	grep -vE '^(cuda|nvidia|triton)' requirements.lock | sed 's/^faiss-gpu==/faiss-cpu==/' > $@

.venv/ready: $(LOCK) pyproject.toml
	python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check uv==0.13.9
	.venv/bin/uv pip install --quiet --compile-bytecode --python $(PYTHON) --requirements $(LOCK) $(if $(CPU),--torch-backend cpu)
	.venv/bin/uv pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	@touch $@
