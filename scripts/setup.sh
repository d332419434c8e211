#!/bin/sh
# Make the environment: sh scripts/setup.sh PYTHON VENV.
set -eu
python=$1
venv=$2
uv=$(sh scripts/find-uv.sh "$python")
started=$(date +%s)
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python "$python" "$venv"
"$uv" pip install --quiet --python "$venv/bin/python" --constraint constraints.txt --editable ".[dev,embeddings]"
echo "set up in $(($(date +%s) - started)) s, $(du -sm "$venv" | cut -f1) MB"
