#!/usr/bin/env bash
# From nothing to two trained multi-label models: makes a virtual environment, installs hf-mlcl, runs `hf-mlcl demo`.
# The network is used for the package registry only; the demo brings its data with it.
#
#   bash scripts/quickstart.sh [FOLDER]    FOLDER (default ./hf-mlcl-quickstart) holds environment and results
#
# Environment variables:
#   HF_MLCL_TORCH   what pip installs as PyTorch (default: torch==2.13.0); for a build for other hardware,
#                   e.g. "torch==2.13.0 --index-url URL"
#   PYTHON          the Python that makes the environment (default: python3)
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="${1:-hf-mlcl-quickstart}"
venv="$folder/venv"
results="$folder/demo"
python="${PYTHON:-python3}"
read -r -a torch <<<"${HF_MLCL_TORCH:-torch==2.13.0}"

say() { echo "[quickstart] $*"; }
fail() {
    echo "[quickstart] $*" >&2
    exit 2
}

if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "1/4 environment: $venv is there already and is used again"
else
    version="$("$python" -c 'import platform; print(platform.python_version())')" ||
        fail "no Python found as '$python': install Python 3.10 or newer, or name one, e.g. PYTHON=python3.12 bash scripts/quickstart.sh"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "Python 3.10 or newer is needed, '$python' is $version: name another, e.g. PYTHON=python3.12 bash scripts/quickstart.sh"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "'$python' has no module venv or ensurepip: on Debian and Ubuntu run 'apt-get install python3-venv' first"
    say "1/4 environment: making $venv with Python $version"
    if [ -f "$venv/pyvenv.cfg" ]; then rm -rf "$venv"; fi # a broken environment; any other folder stays as it is
    "$python" -m venv "$venv"
fi

say "2/4 PyTorch: pip install ${torch[*]} (some minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${torch[@]}"

say "3/4 hf-mlcl and what it needs"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${root}[plots]"

say "4/4 hf-mlcl demo --output_dir $results"
"$venv/bin/hf-mlcl" demo --output_dir "$results"

say "done after ${SECONDS} s: the models and the picture are in $results"
say "next: $venv/bin/hf-mlcl train --help"
