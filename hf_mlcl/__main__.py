"""`python -m hf_mlcl` is the command `hf-mlcl`."""

from hf_mlcl.cli import main

if __name__ == "__main__":
    main()
