"""The embeddings of a trained text model as a folder of sentence-transformers."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_mlcl.inspection.neighbours import unit_rows
from hf_mlcl.inspection.report import uses_embeddings
from hf_mlcl.models.encoders_mlcl import evaluating

MODES = {"cls": "cls", "mean": "mean", "max": "max", "last": "lasttoken"}


def export_sentence_transformers(model: Any, tokenizer: Any, folder: str | Path) -> None:
    """Writes a folder that `SentenceTransformer(folder)` loads: encoder, pooling, projection, L2 normalisation.

    Its embeddings are those of `model.encode`; what was written is loaded and compared with them. Of a model whose
    projection was not trained (the classification objective) they are the pooled features, normalised. Prototypes,
    classifier and thresholds stay behind; an adapter is merged first.

    Args:
        model: A trained text model.
        tokenizer: Its tokenizer.
        folder: Where to write.

    Raises:
        ValueError: For a model of images or of text pairs, the pooling "pooled", or where embeddings differ: for some
            encoders transformers takes another tokenizer than the one that was saved.
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
    with tempfile.TemporaryDirectory() as temporary:
        encoder, whole = f"{temporary}/encoder", f"{temporary}/whole"
        model.encoder.save_pretrained(encoder)
        tokenizer.save_pretrained(encoder)
        transformer = Transformer(encoder, max_seq_length=min(tokenizer.model_max_length, 2**31 - 1))
        modules: list[nn.Module] = [transformer, Pooling(config.feature_dim, MODES[config.pooling])]
        if uses_embeddings(config):
            for linear, activation in ((model.projection.hidden, nn.ReLU()), (model.projection.output, nn.Identity())):
                size = linear.in_features, linear.out_features
                weights = {"init_weight": linear.weight.detach(), "init_bias": linear.bias.detach()}
                modules.append(Dense(*size, activation_function=activation, **weights))
        SentenceTransformer(modules=[*modules, Normalize()], device="cpu").save(whole)
        _check(model, tokenizer, SentenceTransformer(whole, device="cpu"))
        shutil.copytree(whole, folder, dirs_exist_ok=True)


def _check(model: Any, tokenizer: Any, written: Any) -> None:
    """ValueError where the embeddings of some texts are others."""
    texts = model.config.label_names[:8]
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(model.device)
    with evaluating(model), torch.inference_mode():
        output = model(**inputs, return_dict=True)
    own = unit_rows((output.embeddings if uses_embeddings(model.config) else output.features).float().cpu().numpy())
    difference = float(np.linalg.norm(own - unit_rows(written.encode(texts)), axis=1).max())
    if not difference < (1e-3 if model.dtype == torch.float32 else 0.05):  # of unit vectors
        kinds = " and ".join(type(of).__name__ for of in (tokenizer, written.tokenizer))
        raise ValueError(f"model: in sentence-transformers its embeddings differ by {difference:.1e} ({kinds})")
