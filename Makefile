PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test e2e lint docs figures comfyui clean

demo: $(VENV)/demo.installed  ## set up, draw, enhance and measure portraits, and write demo/index.html
	$(BIN)/undistill demo -o demo

# A worker that dies ends the run: with another in its place xdist waits without end. Two processes with a thread each
# are faster than one with two.
test: $(VENV)/dev.installed  ## set up for development, and run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not e2e" --numprocesses auto --dist loadfile --max-worker-restart 0

e2e: $(VENV)/dev.installed  ## run the commands of the README and the docs, and what takes minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m e2e --numprocesses auto --dist loadgroup --max-worker-restart 0

docs: $(VENV)/dev.installed  ## build the site, build/site/index.html
	$(BIN)/python -m research.site

figures: $(VENV)/dev.installed  ## write the figures of README, docs and cards from docs/figures; CHECK=--check says what differs
	$(BIN)/python -m research.figures $(CHECK)

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# ComfyUI wants torchvision, which has no build beside a CPU's torch: its Python parts are enough (tests/integrations).
COMFYUI_NEEDS = torchvision==0.28.0 torchsde trampoline einops sentencepiece av spandrel
COMFYUI_NEEDS_TOO = aiohttp alembic pydantic-settings

comfyui: $(VENV)/dev.installed  ## COMFYUI_PATH=...: prepare a checkout of ComfyUI, and run the nodes in it
	@test -f "$(COMFYUI_PATH)/main.py" || \
		{ echo "COMFYUI_PATH is no checkout: git clone https://github.com/comfyanonymous/ComfyUI" >&2; exit 2; }
	$(INSTALL) $(COMFYUI_NEEDS_TOO)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$(COMFYUI_PATH)/.packages" \
		$(COMFYUI_NEEDS) $$(grep '^comfyui-frontend-package' "$(COMFYUI_PATH)/requirements.txt")
	COMFYUI_PATH="$(COMFYUI_PATH)" $(BIN)/python -m pytest tests/integrations/test_comfyui_server.py

clean:
	rm -rf $(VENV) demo build

$(VENV)/demo.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[faces]'
	touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[dev]'
	touch $@
