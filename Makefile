# The two commands are `make demo` and `make test`; each makes .venv itself when it is absent.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: install demo test lint bench clean

install: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/fieldmark demo --out runs/demo-$$(date +%Y%m%d-%H%M%S)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

# Speed beside peers and limits; hours. The data lie in a folder `shared` beside the project.
bench: $(READY)
	$(BIN)/python benchmarks/run_all.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
