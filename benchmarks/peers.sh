#!/usr/bin/env bash
# `benchmarks/peers.py` in an environment of its own, with sentence-transformers and setfit.
#
#   bash benchmarks/peers.sh ENCODER DATASET [other options of peers.py]
#
# Environment variables: PEERS_VENV, its folder (default: .venv-peers in the repository); HF_MLCL_TORCH, as in
# scripts/test.sh.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${PEERS_VENV:-$root/.venv-peers}"
encoder="$1" dataset="$2"
shift 2

if ! "$venv/bin/python" -c "import hf_mlcl, sentence_transformers, setfit" 2>/dev/null; then
    python3 -m venv "$venv"
    read -r -a torch <<<"${HF_MLCL_TORCH:-torch==2.13.0}"
    "$venv/bin/python" -m pip install --quiet "${torch[@]}"
    "$venv/bin/python" -m pip install --quiet --constraint "$root/tests/constraints.txt" \
        --editable "$root" sentence-transformers setfit
fi
exec "$venv/bin/python" "$root/benchmarks/peers.py" --encoder "$encoder" --dataset "$dataset" "$@"
