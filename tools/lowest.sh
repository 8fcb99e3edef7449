#!/bin/sh
# lowest.sh UV DIR: a virtual environment DIR with this project on the lowest versions that pyproject.toml allows
# of each library that it names. UV is the uv command; what the tests need is as new as these allow.
set -eu
uv=$1 dir=$2
rm -rf "$dir"
"$uv" venv --quiet --python "$(dirname "$uv")/python" "$dir"
export VIRTUAL_ENV="$dir"
"$uv" pip install --quiet --resolution lowest-direct --editable . </dev/null
"$uv" pip freeze --exclude-editable >"$dir/lowest.txt"
"$uv" pip install --quiet --constraint "$dir/lowest.txt" --editable '.[dev]' </dev/null
"$uv" pip freeze --exclude-editable | grep -i -E "$(sed -n '/^dependencies/,/^]/s/.*"\([a-z]*\)>=.*/^\1==/p' pyproject.toml | paste -s -d'|')"
