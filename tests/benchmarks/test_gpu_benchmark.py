"""The GPU benchmark: without one nothing is claimed, and its code runs with tiny sizes."""

import json
import subprocess
import sys

from benchmark_scripts import REPOSITORY, loaded


def test_without_a_gpu_nothing_is_claimed(tmp_path, monkeypatch, capsys):
    gpu = loaded("gpu")
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path / "gpu.json")])
    gpu.main()
    assert "no GPU here; nothing was measured" in capsys.readouterr().out
    assert not (tmp_path / "gpu.json").exists()


def test_every_part_runs_with_tiny_sizes(monkeypatch, capsys):
    gpu = loaded("gpu")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--dry_run"])
    gpu.main()
    *lines, last = capsys.readouterr().out.strip().splitlines()
    rows = [json.loads(line) for line in lines]
    assert "nothing was measured, nothing is claimed" in last
    kernel = [row for row in rows if "examples" in row]
    assert [row["examples"] for row in kernel] == [16, 32] and all(row["products_bf16_ms"] > 0 for row in kernel)
    assert all(row["difference_to_direct_form"] < 1e-5 for row in kernel)
    steps = [row for row in rows if "precision" in row]
    assert [row["precision"] for row in steps] == ["fp32", "bf16"] and all(row["finite"] for row in steps)


def test_the_shell_script_only_calls_it(tmp_path):
    """With a program in Python's place that says what it was called with."""
    done = subprocess.run(
        ["bash", str(REPOSITORY / "benchmarks" / "gpu.sh"), str(tmp_path / "out.json")],
        env={"PYTHON": "/bin/echo", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(REPOSITORY / "benchmarks" / "gpu.py"), "--output", str(tmp_path / "out.json")]
