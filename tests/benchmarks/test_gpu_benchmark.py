"""The GPU benchmark: without one nothing is claimed, and its code runs with tiny sizes."""

import json
import sys

from benchmark_scripts import loaded


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
