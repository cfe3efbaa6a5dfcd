"""The embeddings of a trained text model as a folder of sentence-transformers."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from hf_mlcl.inspection.report import uses_embeddings

MODES = {"cls": "cls", "mean": "mean", "max": "max", "last": "lasttoken"}


def export_sentence_transformers(model: Any, tokenizer: Any, folder: str | Path) -> None:
    """Writes a folder that `SentenceTransformer(folder)` loads: encoder, pooling, projection, L2 normalisation.

    Its embeddings are those of `model.encode`. Of a model whose projection was not trained (the classification
    objective) they are the pooled features, normalised. Prototypes, classifier and thresholds stay behind; an adapter
    is merged first.

    Args:
        model: A trained text model.
        tokenizer: Its tokenizer.
        folder: Where to write.

    Raises:
        ValueError: For a model of images or of text pairs, or the pooling "pooled".
        ImportError: Without sentence-transformers.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    except ImportError as error:
        raise ImportError("export needs the package: pip install 'hf-mlcl[sentence-transformers]'") from error
    config = model.config
    if config.task != "text" or config.text_pairs:
        raise ValueError("model: sentence-transformers takes single texts, and this model does not")
    if config.pooling not in MODES:
        raise ValueError(f"pooling: sentence-transformers has no pooling {config.pooling!r}")
    model = model.merge_adapter() if model.has_adapter else model
    tokenizer = copy.deepcopy(model.limit_tokens(tokenizer))
    tokenizer.padding_side = "right"  # where the model itself moves padding to
    with tempfile.TemporaryDirectory() as encoder:
        model.encoder.save_pretrained(encoder)
        tokenizer.save_pretrained(encoder)
        transformer = Transformer(encoder, max_seq_length=min(tokenizer.model_max_length, 2**31 - 1))
        modules: list[nn.Module] = [transformer, Pooling(config.feature_dim, MODES[config.pooling])]
        if uses_embeddings(config):
            for linear, activation in ((model.projection.hidden, nn.ReLU()), (model.projection.output, nn.Identity())):
                size = linear.in_features, linear.out_features
                weights = {"init_weight": linear.weight.detach(), "init_bias": linear.bias.detach()}
                modules.append(Dense(*size, activation_function=activation, **weights))
        SentenceTransformer(modules=[*modules, Normalize()], device="cpu").save(str(folder))
