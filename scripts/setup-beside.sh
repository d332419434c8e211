#!/bin/sh
# Make an environment beside ours, for what cannot live in it: sh scripts/setup-beside.sh PYTHON VENV PINS.
# It holds exactly what the pins file lists.
set -eu
python=$1
venv=$2
pins=$3
uv=$(sh scripts/find-uv.sh "$python")
started=$(date +%s)
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python "$python" "$venv"
"$uv" pip sync --quiet --python "$venv/bin/python" "$pins"
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" > /dev/null 2>&1 || true
echo "set up $venv in $(($(date +%s) - started)) s, $(du -sm "$venv" | cut -f1) MB"
