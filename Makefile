# Two commands: `make demo` and `make test`. Both set everything up first.

VENV := .venv
BIN := $(VENV)/bin
PYTHON_312 := $(shell sh scripts/find-python.sh)
READY := $(VENV)/.ready

export PYTHONDONTWRITEBYTECODE := 1
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test campaign check setup clean

demo: $(READY)  ## run the whole demo study: data, fine-tunes, questions, verdicts, report
	$(BIN)/ccluster run studies/demo.toml

test: $(READY) check  ## format, lint, types and the tests (under 10 minutes on two cores)
	$(BIN)/pytest -m "not campaign" -n 2 --dist loadfile --no-loadscope-reorder

campaign: $(READY) .venv-skyrl/.ready .venv-quantised/.ready  ## the heavier checks
	$(BIN)/pytest -m "campaign and not quantised"
	PYTHONPATH=.venv-quantised/lib/python3.12/site-packages $(BIN)/pytest -m quantised tests/train/test_local_quantised.py

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(READY)

# The environment is kept while the pins are the same.
$(READY): constraints.txt pyproject.toml
	@test -n "$(PYTHON_312)" || { echo "Python 3.12 was not found: install it (for example with 'uv python install 3.12', 'pyenv install 3.12' or your system's package 'python3.12') and run make again."; exit 2; }
	@sh scripts/setup.sh "$(PYTHON_312)" "$(VENV)"
	@touch $@

# What cannot live beside our own pins has an environment of its own: the open server of the Tinker API, trl for the speed benchmark.
# bitsandbytes could, but peft imports it wherever it is installed: 1.2 s at the start of every process. It is put on one test's path.
.venv-skyrl/.ready .venv-trl/.ready .venv-quantised/.ready: .venv-%/.ready: constraints-%.txt scripts/setup-beside.sh $(READY)
	@sh scripts/setup-beside.sh "$(PYTHON_312)" .venv-$* constraints-$*.txt
	@touch $@

clean:  ## remove the environments and the tools, never the runs
	rm -rf $(VENV) .venv-skyrl .venv-trl .venv-quantised .tools
