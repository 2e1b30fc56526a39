#!/usr/bin/env bash
# On a machine with a GPU, from the repository's root: all that needs one, into OUT/gpu.json (see research/gpu.py).
#   bash research/gpu.sh OUT
set -uo pipefail
out=${1:-gpu}
mkdir -p "$out"
export PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python3 -m research.gpu -o "$out/gpu.json" 2>&1 | tee "$out/gpu.log"
