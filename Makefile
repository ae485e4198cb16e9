# Two commands do all the set-up: `make demo` to see it work, `make test` to know it does.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test bench format completions clean

# A first run on the built-in data: prepare, train, evaluate, predict, embed, draw. Everything goes into demo/.
demo: $(VENV)/.installed
	mkdir -p $(DEMO)
	cd $(DEMO) && ../$(BIN)/sadcl prepare-data digits
	cd $(DEMO) && ../$(BIN)/sadcl train digits
	cd $(DEMO) && ../$(BIN)/sadcl eval --topk 3 --report
	cd $(DEMO) && ../$(BIN)/sadcl eval --calibrate
	cd $(DEMO) && ../$(BIN)/sadcl predict data/digits/images/test/00000.png data/digits/images/test/00001.png data/digits/images/test/00002.png
	cd $(DEMO) && ../$(BIN)/sadcl embed
	cd $(DEMO) && ../$(BIN)/sadcl visualize prototypes
	cd $(DEMO) && ../$(BIN)/sadcl visualize embeddings
	cd $(DEMO) && ../$(BIN)/sadcl visualize attention data/digits/images/test/00001.png
	cd $(DEMO) && ../$(BIN)/sadcl visualize curves

test: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python completions/generate.py --check
	@echo "pytest, and mypy beside it, whose findings come last"
	@$(BIN)/mypy > $(VENV)/mypy.txt 2>&1 & mypy=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal; tests=$$?; \
	wait $$mypy; types=$$?; cat $(VENV)/mypy.txt; exit $$((tests | types))

# What everything costs, beside its limits and beside other programs: half an hour, into docs/results/bench.md and bench.json.
bench: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/run.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

completions: $(VENV)/.installed-dev
	$(BIN)/python completions/generate.py

clean:
	rm -rf $(VENV) $(DEMO) build .hypothesis *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed
