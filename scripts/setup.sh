#!/bin/sh
# Make the environment: sh scripts/setup.sh PYTHON VENV. Uses uv; where it is missing, gets it into .tools.
set -eu
python=$1
venv=$2
if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
    uv=uv
else
    [ -x .tools/bin/uv ] || { "$python" -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check uv; }
    uv=.tools/bin/uv
fi
started=$(date +%s)
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python "$python" "$venv"
"$uv" pip install --quiet --python "$venv/bin/python" --constraint constraints.txt --editable ".[dev,embeddings]"
echo "set up in $(($(date +%s) - started)) s, $(du -sm "$venv" | cut -f1) MB"
