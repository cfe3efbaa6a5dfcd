#!/usr/bin/env bash
# Builds wheel and sdist, checks what is in them, and tries the wheel on several Pythons, with the oldest and the newest
# dependencies: both ways to call the command, and quick tests of every layer, training and prediction on the command
# line among them. Each try is kept in benchmarks/results/distribution.json and in the table of docs/index.md. Takes 25
# gigabytes of downloads and of disk, which the environments share.
#
#   bash scripts/check_distribution.sh [PYTHON...]      PYTHON is an interpreter's name or path; default: python3.10 to
#                                                       python3.14. One that is not there is recorded as not tried
#   bash scripts/check_distribution.sh --reuse FOLDER   one environment of `PYTHON`, with FOLDER (a site-packages) for
#                                                       the dependencies; recorded as "those of an environment"
#
# Environment variables:
#   PYTHON  the Python that builds (default: python3)
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}"
reuse=""
if [ "${1:-}" = --reuse ]; then
    if [ ! -d "${2:-}" ]; then
        echo "usage: check_distribution.sh [--reuse SITE_PACKAGES | PYTHON...]" >&2
        exit 2
    fi
    reuse="$(cd "$2" && pwd)"
fi
interpreters=("$@")
[ $# -gt 0 ] || interpreters=(python3.10 python3.11 python3.12 python3.13 python3.14)
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

echo "== build"
"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet build twine uv
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
# The tests as the sdist has them, without the package: what they import is the wheel.
mkdir "$work/sdist"
tar -xf "$work"/dist/*.tar.gz -C "$work/sdist" --strip-components 1
rm -r "$work/sdist/hf_mlcl"
tests=(losses/test_reference_values.py losses/test_registry.py models/test_modeling_mlcl.py
    models/test_adapters_mlcl.py data/test_loading.py data/test_images.py data/test_augmentation.py
    data/test_collator.py evaluation/test_probe.py evaluation/test_thresholds.py training/test_trainer.py
    training/test_fitting.py training/test_private.py training/test_vision_training.py cli/test_cli.py
    test_saved_models.py)

record() { # Python, dependencies, environment, result
    "$python" - "$root" "$@" <<'END'
import json
import re
import subprocess
import sys
from pathlib import Path

root, version, dependencies, environment, result = sys.argv[1:]
shown = ("torch", "transformers", "datasets", "numpy", "pandas", "accelerate")
packages = {}
if environment:
    code = f"import json; from importlib.metadata import version as v; print(json.dumps({{n: v(n) for n in {shown}}}))"
    packages = json.loads(subprocess.check_output([f"{environment}/bin/python", "-c", code]))
path = Path(root, "benchmarks/results/distribution.json")
tried = json.loads(path.read_text()) if path.exists() else []
tried = [one for one in tried if (one["python"], one["dependencies"]) != (version, dependencies)]
tried = [one for one in tried if not version.startswith(f"{one['python']}.")]  # "3.14", which was not there before
tried.append({"python": version, "dependencies": dependencies, "result": result, "versions": packages})
tried.sort(key=lambda one: ([int(part) for part in one["python"].split(".")], one["dependencies"]))
path.write_text("[\n" + ",\n".join(map(json.dumps, tried)) + "\n]\n")

lines = [f"| Python | dependencies | result | {' | '.join(shown[:-1])} |", "|---" * (len(shown) + 2) + "|"]
for one in tried:
    cells = [one["versions"].get(name, "") for name in shown[:-1]]
    lines.append("| " + " | ".join([one["python"], one["dependencies"], one["result"], *cells]) + " |")
page = Path(root, "docs/index.md")
text = page.read_text(encoding="utf-8")
(before,) = re.findall(r"(?m)^\| Python \| dependencies .*\n(?:\|.*\n)+", text)
page.write_text(text.replace(before, "\n".join(lines) + "\n"), encoding="utf-8")
END
}

failed=0
try() { # Python, dependencies; what is installed stands in the array `install`
    local environment="$work/environment" version result=passed
    version="$("$1" -c 'import platform; print(platform.python_version())')"
    echo "== Python $version, $2"
    "$work/tools/bin/uv" venv --quiet --clear --python "$1" "$environment"
    if [ -n "$reuse" ]; then
        echo "$reuse" >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/reused.pth"
    fi
    if ! "$work/tools/bin/uv" pip install --quiet --no-build --python "$environment" "${install[@]}"; then
        result="not installed"
        environment=""
    # Not in the repository: there Python would import its folder instead of the wheel.
    elif ! (cd "$work/sdist" && unset PYTHONPATH && "$environment/bin/hf-mlcl" --version &&
        "$environment/bin/hf-mlcl" losses >/dev/null &&
        "$environment/bin/python" -m hf_mlcl --help >/dev/null &&
        "$environment/bin/python" -c "import hf_mlcl, sys; assert hf_mlcl.__file__.startswith(sys.prefix)" &&
        "$environment/bin/python" -m pytest -q "${tests[@]/#/tests/}" >"$work/log" 2>&1); then
        result="failed"
        tail -n 60 "$work/log"
    else
        tail -n 1 "$work/log"
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
# The lower bounds of pyproject.toml, all at once. A newer Python has no wheel for some of them: there, the lowest
# releases that have one.
"$python" - "$root/pyproject.toml" >"$work/oldest.txt" <<'END'
import re
import sys

text = open(sys.argv[1], encoding="utf-8").read()
required = re.search(r"(?ms)^dependencies = \[$(.*?)^\]$", text)[1]
for name, lowest, where in re.findall(r'(?m)^ *"([\w-]+)>=([\w.]+)[^;"]*(;[^"]*)?"', required):
    print(f"{name}=={lowest} {where}")
END
for interpreter in "${interpreters[@]}"; do
    # A name on the path that starts nothing (a shim of pyenv) is no interpreter.
    if ! "$interpreter" -c "" 2>/dev/null; then
        record "${interpreter##*python}" "newest, oldest" "" "not tried: no interpreter"
        continue
    fi
    install=("$wheel[adapters]" "pytest>=8.0" "hypothesis>=6.100")
    try "$interpreter" newest
    # Of the wheel alone its dependencies would not count as direct.
    install+=(--resolution lowest-direct --requirement "$root/pyproject.toml" --extra adapters)
    "$work/tools/bin/uv" venv --quiet --clear --python "$interpreter" "$work/environment"
    if "$work/tools/bin/uv" pip install --quiet --no-build --dry-run --python "$work/environment" \
        --constraint "$work/oldest.txt" "${install[@]}" 2>/dev/null; then
        install+=(--constraint "$work/oldest.txt")
    fi
    try "$interpreter" oldest
done
exit "$failed"
