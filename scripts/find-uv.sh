#!/bin/sh
# Print a uv that runs: sh scripts/find-uv.sh PYTHON. Where there is none, get it into .tools with that Python.
set -eu
if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
    echo uv
else
    [ -x .tools/bin/uv ] || { "$1" -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check uv; } >&2
    echo .tools/bin/uv
fi
