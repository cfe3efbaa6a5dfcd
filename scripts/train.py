"""`hf-mlcl train` for several processes: `accelerate launch scripts/train.py ...` or `torchrun ... scripts/train.py ...`."""

import sys

from hf_mlcl.cli import run_command
from hf_mlcl.cli.train import run

if __name__ == "__main__":
    run_command(run, sys.argv[1:])
