#!/bin/sh
# Make the environment: sh scripts/setup.sh PYTHON VENV.
set -eu
python=$1
venv=$2
uv=$(sh scripts/find-uv.sh "$python")
started=$(date +%s)
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python "$python" "$venv"
"$uv" pip install --quiet --python "$venv/bin/python" --constraint constraints.txt --editable ".[dev,embeddings]"
# Every process of ours starts torch: compiled once here, it starts in half the time, wherever the caller forbids bytecode too.
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" > /dev/null 2>&1 || true
echo "set up in $(($(date +%s) - started)) s, $(du -sm "$venv" | cut -f1) MB"
