#!/usr/bin/env bash
# Everything that is measured on a GPU, where there is one; without one it says so, and nothing is claimed.
#
#   bash benchmarks/gpu.sh [OUTPUT.json]      default: benchmarks/results/gpu.json
#   bash benchmarks/gpu.sh --dry_run          the same code with tiny sizes on a CPU: nothing is measured or written
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python}"
if [ "${1:-}" = "--dry_run" ]; then
    exec "$python" "$here/gpu.py" --dry_run
fi
exec "$python" "$here/gpu.py" --output "${1:-$here/results/gpu.json}"
