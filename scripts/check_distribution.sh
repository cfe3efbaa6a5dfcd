#!/usr/bin/env bash
# Builds wheel and sdist, checks what is in them, and installs the wheel for every Python there is, with the oldest and
# the newest dependencies. Each try is kept in benchmarks/results/distribution.json. Takes gigabytes of downloads.
#
#   bash scripts/check_distribution.sh                  build, contents, and an environment for each Python and edge
#   bash scripts/check_distribution.sh --reuse FOLDER   one environment of `PYTHON`, with FOLDER (a site-packages) for
#                                                       the dependencies: a minute; recorded as "those of an environment"
#
# Environment variables:
#   HF_MLCL_TORCH  what pip installs as PyTorch with the newest dependencies (as scripts/test.sh; default: torch==2.13.0)
#   PYTHON         the Python that builds (default: python3)
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
read -r -a torch <<<"${HF_MLCL_TORCH:-torch==2.13.0}"
python="${PYTHON:-python3}"
reuse=""
if [ $# -gt 0 ]; then
    if [ "$1" != --reuse ] || [ ! -d "${2:-}" ]; then
        echo "usage: check_distribution.sh [--reuse SITE_PACKAGES]" >&2
        exit 2
    fi
    reuse="$(cd "$2" && pwd)"
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

echo "== build"
"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet build twine
"$work/tools/bin/python" -m build --outdir "$work/dist" "$root" >"$work/log" 2>&1 || { tail "$work/log" && exit 1; }
# `python -m build` makes the wheel from the sdist; that the repository itself gives the same one is checked here.
"$work/tools/bin/python" -m build --wheel --outdir "$work/direct" "$root" >"$work/log" 2>&1 || { tail "$work/log" && exit 1; }
"$work/tools/bin/python" -m twine check --strict "$work"/dist/*

echo "== contents"
"$python" - "$root" "$work" <<'END'
import sys
import zipfile
from pathlib import Path

root, work = map(Path, sys.argv[1:])
contents = []
for folder in ("dist", "direct"):
    (path,) = (work / folder).glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        contents.append({name: wheel.read(name) for name in wheel.namelist()})
from_sdist, direct = contents
assert from_sdist == direct, "the sdist builds another wheel than the repository"
package = {
    path.relative_to(root).as_posix(): path.read_bytes()
    for path in (root / "hf_mlcl").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
found = {name: content for name, content in direct.items() if ".dist-info/" not in name}
assert found == package, f"the wheel differs from hf_mlcl in {sorted(found.keys() ^ package.keys())}"
print(f"{len(found)} files, no other; the sdist builds the same wheel")
END

wheel="$(echo "$work"/dist/*.whl)"
record() { # Python, dependencies, environment, result
    "$python" - "$root" "$@" <<'END'
import json
import subprocess
import sys
from pathlib import Path

root, version, dependencies, environment, result = sys.argv[1:]
packages = {}
if result == "passed":
    code = "import json; from importlib.metadata import version as v\n" + (
        "print(json.dumps({n: v(n) for n in ('hf-mlcl', 'torch', 'transformers', 'datasets', 'numpy', 'accelerate')}))"
    )
    packages = json.loads(subprocess.check_output([f"{environment}/bin/python", "-c", code]))
path = Path(root, "benchmarks/results/distribution.json")
tried = json.loads(path.read_text()) if path.exists() else []
tried = [one for one in tried if (one["python"], one["dependencies"]) != (version, dependencies)]
tried.append({"python": version, "dependencies": dependencies, "result": result, "versions": packages})
tried.sort(key=lambda one: ([int(part) for part in one["python"].split(".")], one["dependencies"]))
path.write_text("[\n" + ",\n".join(map(json.dumps, tried)) + "\n]\n")
END
}

failed=0
try() { # Python, dependencies; what is installed stands in the array `install`
    local environment="$work/$2" version result=passed
    version="$("$1" -c 'import platform; print(platform.python_version())')"
    echo "== Python $version, $2"
    rm -rf "$environment"
    "$1" -m venv "$environment"
    if [ -n "$reuse" ]; then
        echo "$reuse" >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/reused.pth"
    fi
    # Not in the repository: there Python would import its folder instead of the wheel.
    if ! (cd "$work" && "$environment/bin/python" -m pip install --quiet "${install[@]}"); then
        result="not installed"
    elif ! (cd "$work" && unset PYTHONPATH && "$environment/bin/hf-mlcl" --version &&
        "$environment/bin/hf-mlcl" losses >/dev/null &&
        "$environment/bin/python" -m hf_mlcl --help >/dev/null &&
        "$environment/bin/python" -c "import hf_mlcl, sys; assert hf_mlcl.__file__.startswith(sys.prefix)
from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer"); then
        result="failed"
    fi
    record "$version" "$2" "$environment" "$result"
    echo "$result"
    [ "$result" = passed ] || failed=1
}

if [ -n "$reuse" ]; then
    install=(--no-deps "$wheel")
    try "$python" "those of an environment"
    exit "$failed"
fi
# The lower bounds of pyproject.toml, as pip's constraints.
"$work/tools/bin/python" -m pip install --quiet "tomli; python_version < '3.11'"
"$work/tools/bin/python" - "$root/pyproject.toml" >"$work/oldest.txt" <<'END'
import re
import sys

try:
    import tomllib
except ImportError:
    import tomli as tomllib
for line in tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"]:
    name, lowest = re.match(r"([\w-]+)>=([\w.]+)", line).groups()
    print(f"{name}=={lowest}")
END
for minor in 10 11 12 13 14; do
    # A name on the path that starts nothing (a shim of pyenv) is no interpreter.
    interpreter="python3.$minor"
    "$interpreter" -c "" 2>/dev/null || continue
    install=("${torch[@]}" "$wheel")
    try "$interpreter" newest
    install=(--constraint "$work/oldest.txt" "$wheel")
    try "$interpreter" oldest
done
exit "$failed"
