#!/bin/sh
# venv.sh DIR [EXTRA]: a virtual environment with this project (editable, with this extra), from the first Python >= 3.11.
set -eu
venv=$1
extra=${2:+[$2]}

fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if ! { [ -x "$venv/bin/python" ] && fits "$venv/bin/python"; }; then
    for python in python3 python3.14 python3.13 python3.12 python3.11 none; do
        fits "$python" && break
    done
    if [ "$python" = none ]; then
        found=$(python3 --version 2>&1 || true)
        echo "ramure needs Python 3.11 or newer as python3 (found: ${found:-none})" >&2
        exit 1
    fi
    rm -rf "$venv"
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
            apt-get update -q </dev/null >/dev/null
            DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv </dev/null >/dev/null
        else
            echo "$python has no venv module. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2
            exit 1
        fi
    fi
    "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$extra" </dev/null
