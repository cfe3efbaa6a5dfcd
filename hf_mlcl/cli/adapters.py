"""The adapter that the flags of `hf-mlcl train` describe. Imports peft only where there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_mlcl.models.adapters_mlcl import peft_package

from .arguments import TrainArguments


def adapter_config(job: TrainArguments) -> Any:
    """A `PeftConfig` from `--lora_r` and what belongs to it, or from the file `--peft_config`; None for neither.

    Raises:
        ValueError: For flags that do not go together, or a file that is no adapter's configuration; one line.
    """
    for name in ("lora_alpha", "lora_target_modules"):
        if getattr(job, name) is not None and job.lora_r is None:
            raise ValueError(f"--{name}: expected beside --lora_r, got it alone")
    if job.lora_r is not None and job.peft_config is not None:
        raise ValueError("--peft_config: expected none beside --lora_r, got both")
    if job.lora_r is not None:
        if job.lora_r < 1:
            raise ValueError(f"--lora_r: expected at least 1, got {job.lora_r}")
        if job.lora_alpha is not None and not 0 < job.lora_alpha < float("inf"):
            raise ValueError(f"--lora_alpha: expected a finite number above 0, got {job.lora_alpha}")
        names = [name.strip() for name in (job.lora_target_modules or "").split(",") if name.strip()]
        alpha = 2 * job.lora_r if job.lora_alpha is None else job.lora_alpha
        return peft_package().LoraConfig(r=job.lora_r, lora_alpha=alpha, target_modules=names or None)
    return None if job.peft_config is None else _from_file(Path(job.peft_config))


def _from_file(path: Path) -> Any:
    peft = peft_package()
    try:
        return peft.get_peft_config(json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"--peft_config: expected a JSON file of an adapter's configuration, got {path}: {reason}"
        ) from error
