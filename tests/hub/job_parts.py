"""What the jobs share: a tokenizer of few words, and the command line in this process."""

import contextlib
import io

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_mlcl.cli import main


def tokenizer():
    words = Tokenizer(models.WordLevel({"[PAD]": 0, **{f"w{n}": n for n in range(1, 40)}}, unk_token="[PAD]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", model_input_names=["input_ids", "attention_mask"]
    )


def command(*arguments):
    """Exit status, output and errors of `hf-mlcl`."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            status = end.code
    # What comes before is the client's own, such as its progress bars.
    return status, out.getvalue().strip(), err.getvalue().strip().splitlines()[-1:]
