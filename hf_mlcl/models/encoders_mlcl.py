"""Encoders of any architecture: loading, pooling, feature size. Imports torch and transformers.

Flat on purpose: this file travels with a checkpoint beside `modeling_mlcl.py`.
"""

import inspect
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file, logging

from .configuration_mlcl import MLCLConfig

logger = logging.get_logger(__name__)

# How encoders name their position embeddings. OPT's, `decoder.embed_positions`, counts no padding, and stays out.
_POSITIONS = ("position_embeddings", "position_embedding", ".wpe", "encoder.embed_positions", ".positions_embed")


def pool(outputs: Any, attention_mask: Tensor | None, pooling: str) -> Tensor:
    """Features (B, h) from what an encoder returned; `attention_mask` is (B, T), 1 for tokens that count."""
    if pooling == "pooled":
        if outputs.get("pooler_output") is None:
            raise ValueError("pooling: the encoder has no pooler for 'pooled'; choose cls, mean, max or last")
        return outputs.pooler_output.flatten(1)
    hidden = outputs.get("last_hidden_state")
    if hidden is None:  # a model with a head on top
        raise ValueError(f"encoder: it returns {', '.join(outputs)}, but no last_hidden_state")
    if hidden.ndim == 4:  # a map of channels instead of tokens
        hidden, attention_mask = hidden.flatten(2).transpose(1, 2), None
    if pooling == "cls":
        return hidden[:, 0]
    if attention_mask is None:
        attention_mask = hidden.new_ones(hidden.shape[:2])
    elif attention_mask.ndim != 2:  # which token sees which does not say which are text
        got = [*attention_mask.shape]
        raise ValueError(f"attention_mask: the pooling {pooling!r} needs 2 axes (B, T), got {got}")
    keep = attention_mask.unsqueeze(-1)
    if pooling == "mean":
        return (hidden * keep).sum(1) / keep.sum(1).clamp(min=1).to(hidden.dtype)
    if pooling == "max":
        return hidden.masked_fill(keep == 0, torch.finfo(hidden.dtype).min).amax(1)
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    last = (attention_mask.long() * positions).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def padding_moved_behind(inputs: dict[str, Any]) -> tuple[dict[str, Any], Tensor | None]:
    """Texts with the padding behind them, wherever the tokenizer put it, and the place (B, T) of each token before.

    Encoders count positions from the first column, padding or not, and pooling takes the first token from there: with
    padding in front, features would depend on how long the other texts of the batch are. None where nothing moved.
    """
    mask = inputs.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return inputs, None
    before = mask.ne(0).long().argmax(1, keepdim=True)
    if has_values(mask) and mask.device.type == "cpu" and not before.any():  # elsewhere, asking would be waiting
        return inputs, None
    length = torch.ones_like(mask, dtype=torch.long).sum(1, keepdim=True)  # a tensor, which exporters follow
    places = (torch.arange(mask.shape[1], device=mask.device) + before) % length
    moved = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            value = value.expand_as(mask) if name == "position_ids" else value
            moved[name] = _columns(value, places, 1) if value.shape[:2] == mask.shape else value
    return moved, places


def padding_moved_back(states: Any, places: Tensor | None) -> Any:
    """Hidden states (B, T, h) or attentions (B, heads, T, T) of each layer, with the tokens where they were given."""
    if places is None or states is None:
        return states
    back, restored = places.argsort(1), []
    for state in states:
        for axis in (1,) if state.ndim == 3 else (2, 3):
            if state.ndim in (3, 4) and state.shape[axis] == back.shape[1]:
                state = _columns(state, back, axis)
        restored.append(state)
    return tuple(restored)


def _columns(values: Tensor, places: Tensor, axis: int) -> Tensor:
    rows = torch.arange(len(values), device=values.device)[:, None]
    return values.movedim(axis, 1)[rows, places].movedim(1, axis)


def has_values(tensor: Tensor) -> bool:
    """Whether the values can be looked at: a FakeTensor and its like have none."""
    return type(tensor) is Tensor and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def native_bf16(device: torch.device) -> bool:
    """Whether a device is a processor that computes in bfloat16 itself, two to three times as fast as in float32."""
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private, and not in every release
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in questions)


@cache  # once in a process
def warn_if_bf16_is_slow(device: torch.device) -> None:
    """Warns of an x86 processor that only emulates bfloat16; others do not say what they can."""
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64") and not native_bf16(device):
        logger.warning("bf16: this processor has no bfloat16 instructions; float32 is up to ten times as fast")


def unwrapped(encoder: Any) -> Any:
    """The encoder inside of what torch.compile, data parallelism or peft wraps around it."""
    if isinstance(encoder, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(encoder.module)
    if hasattr(encoder, "_orig_mod"):
        return unwrapped(encoder._orig_mod)
    return unwrapped(encoder.get_base_model()) if hasattr(encoder, "get_base_model") else encoder


def _auto_class(config: Any) -> Any:
    # Of encoder-decoders such as T5, the encoder alone; for all others both classes give the same model.
    text_encoder = type(config) in AutoModelForTextEncoding._model_mapping.keys()
    return AutoModelForTextEncoding if text_encoder else AutoModel


def encoder_from_config(config: Any, pooling: str) -> PreTrainedModel:
    """An encoder without weights of its own yet, and without a pooler that `pooling` has no use for."""
    try:
        return _auto_class(config).from_config(config, add_pooling_layer=pooling == "pooled")
    except TypeError:  # an encoder whose pooler cannot be left out
        encoder = _auto_class(config).from_config(config)
        drop_unused_pooler(encoder, pooling)
        return encoder


def reason_of(error: Exception) -> str:
    """What an error of loading says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "ignore_mismatched_sizes" in lines[0]:  # transformers has printed the shapes before, in a table
        return "its weights are of other shapes than its config.json says"
    reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"model.safetensors: {reason}" if isinstance(error, SafetensorError) else reason


def encoder_source(encoder: Any) -> str:
    """Folder or Hub id of an encoder, given as that or as a model; ValueError for anything else."""
    if isinstance(encoder, (str, os.PathLike)):
        return os.fspath(encoder)
    if not isinstance(encoder, PreTrainedModel):
        hint = ""
        if hasattr(encoder, "tokenize") and isinstance(encoder, nn.Sequential):  # of sentence-transformers
            hint = "; give its folder or Hub id, or the model in it, encoder[0].auto_model, and pooling"
        raise ValueError(f"encoder: expected a folder, a Hub id or a model, got {type(encoder).__name__}{hint}")
    return str(getattr(encoder.config, "name_or_path", ""))


def check_task(encoder: PreTrainedModel, task: str) -> None:
    """Raises ValueError unless the encoder takes what the task ("text" or "vision") gives it."""
    takes = encoder.main_input_name
    if (takes == "pixel_values") != (task == "vision"):
        raise ValueError(f"encoder: {encoder.config.model_type!r} takes {takes} and is no {task} encoder")


def check_inputs(encoder: PreTrainedModel, name: str, inputs: dict[str, Any]) -> None:
    """Raises ValueError unless the main input is a batch the encoder takes: token ids (B, T), or pixels of 4 axes.

    Values are looked at on the CPU only: elsewhere that would wait for the device.
    """
    given = inputs.get(name)
    if name == "input_ids" and given is None and inputs.get("inputs_embeds") is not None:
        return
    axes, what = (2, "integer") if name == "input_ids" else (4, "floating-point")
    if not isinstance(given, Tensor) or given.ndim != axes or given.is_floating_point() != (axes == 4):
        got = f"{given.dtype} of {given.ndim}" if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"{name}: a batch is a tensor of {axes} axes and {what} dtype, got {got}")
    if name == "pixel_values":
        channels = getattr(encoder.config, "num_channels", None)
        if channels not in (None, given.shape[1]):
            raise ValueError(f"pixel_values: the encoder takes {channels} channels (B, C, H, W), got {[*given.shape]}")
        size, patch = getattr(encoder.config, "image_size", None), getattr(encoder.config, "patch_size", None)
        height, width = given.shape[2:]
        if isinstance(size, int) and isinstance(patch, int) and (height, width) != (size, size):
            # One vector for each patch, and none for others; encoders that know how stretch theirs.
            other = (height // patch) * (width // patch) != (size // patch) ** 2
            if other and learned_positions(encoder)[0] is not None:
                raise ValueError(f"pixel_values: the encoder takes {size} x {size} pixels, got {height} x {width}")
        return
    mask, length = inputs.get("attention_mask"), given.shape[1]
    if isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape != given.shape:
        raise ValueError(f"attention_mask: its shape {[*mask.shape]} is not that of input_ids, {[*given.shape]}")
    if not has_values(given):
        return
    # Some keep two positions for padding; only then is it worth the search for the module.
    numbered = inputs.get("position_ids") is None  # else the caller has positions for texts of any length
    if numbered and length > (getattr(encoder.config, "max_position_embeddings", None) or length + 2) - 2:
        most, padding = learned_positions(encoder)
        # Those that keep a position for padding give it to all of it.
        length = length if padding is None or not given.numel() else int((given != padding).sum(1).max())
        if most is not None and length > most:
            raise ValueError(f"input_ids: a text has at most {most} tokens, got {length}; see truncation=True")
    if given.device.type == "cpu" and given.numel():
        vocabulary = _vocabulary(encoder)
        if vocabulary is not None and not (0 <= given.min() and given.max() < vocabulary):
            raise ValueError(
                f"input_ids: the encoder knows ids of 0 to {vocabulary - 1}, got {given.min():d} to {given.max():d}; "
                "is the tokenizer that of the model?"
            )


def _vocabulary(encoder: PreTrainedModel) -> int | None:
    """How many token ids the encoder has vectors for, where it tells."""
    try:
        return getattr(encoder.get_input_embeddings(), "num_embeddings", None)
    except NotImplementedError:
        return None


def learned_positions(encoder: nn.Module) -> tuple[int | None, int | None]:
    """How many tokens have a position, of an encoder that learned one vector for each; the token without one."""
    for name, module in encoder.named_modules():
        if f".{name}".endswith(_POSITIONS) and isinstance(module, nn.Embedding):
            padding, unused = module.padding_idx, getattr(module, "offset", 0)
            return module.num_embeddings - (unused if padding is None else padding + 1), padding
    return None, None


def load_encoder(source: str, task: str, dtype: Any, kwargs: dict[str, Any]) -> PreTrainedModel:
    """A pretrained encoder from a folder or the Hub; of a dual model the half for `task` ("text" or "vision").

    Raises:
        ValueError: In one line where there is no model, no encoder in it, no weights of it, or a package is missing.
    """
    expected = "encoder: expected the folder or Hub id of a model"
    kwargs = {"trust_remote_code": False, **kwargs}  # without an answer transformers would ask for one
    try:
        config = AutoConfig.from_pretrained(source, **kwargs)
        if isinstance(config, MLCLConfig):
            raise ValueError("this is a multi-label model; use from_pretrained")
        if getattr(config, "model_args", None):  # of timm, which names the classes, as does transformers: twice
            config.model_args = {name: value for name, value in config.model_args.items() if name != "num_classes"}
        half = getattr(config, f"{task}_config", None)
        if isinstance(half, PreTrainedConfig):
            config = half
        auto_class = _auto_class(config)
        if config.is_encoder_decoder and auto_class is AutoModel:
            raise ValueError("this is an encoder-decoder without an encoder class of its own")
        encoder, report = auto_class.from_pretrained(
            source, config=config, dtype=dtype, output_loading_info=True, **kwargs
        )
    except Exception as error:  # damaged files show as errors of any type
        raise ValueError(f"{expected}, got {source!r}: {reason_of(error)}") from error
    parameters = dict(encoder.named_parameters())
    if parameters and len(set(report["missing_keys"]) & set(parameters)) > len(parameters) / 2:
        raise ValueError(
            f"{expected} with the weights of a {type(encoder).__name__}, got {source!r}, which lacks most of them"
        )
    return encoder


def load_tokenizer(source: str, kwargs: dict[str, Any]) -> Any:
    """The tokenizer of an encoder's folder or Hub id; ValueError in one line where there is none."""
    try:
        return AutoTokenizer.from_pretrained(source, **{"trust_remote_code": False, **kwargs})
    except Exception as error:  # damaged files show as errors of any type, in tokenizers of none but Exception
        raise ValueError(f"tokenizer: none is given, and none is in {source!r}: {reason_of(error)}") from error


def without_empty(tokens: Mapping[str, list[list[int]]], tokenizer: Any) -> dict[str, list[list[int]]]:
    """The tokens of texts, with one token for each text that has none: attention to nothing would be NaN."""
    known = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, 0)
    filler = {"input_ids": next(id_ for id_ in known if id_ is not None), "attention_mask": 1}
    return {name: [row or [filler.get(name, 0)] for row in rows] for name, rows in tokens.items()}


def load_image_processor(source: str, kwargs: dict[str, Any]) -> Any:
    """The image processor of a folder or Hub id; ValueError in one line where there is none."""
    try:
        return AutoImageProcessor.from_pretrained(source, **{"trust_remote_code": False, **kwargs})
    except Exception as error:
        raise ValueError(f"image_processor: none is given, and none is in {source!r}: {reason_of(error)}") from error


def aligned(model: PreTrainedModel) -> PreTrainedModel:
    """The model with weights that start at multiples of 64 bytes."""
    # safetensors maps a file, so weights may start at any address, and CPU kernels round differently where a weight is
    # not aligned: outputs would then differ in the last bits from those of the model that was saved.
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone()
    return model


class NoPooler(nn.Module):
    """In the place of a pooler, for encoders that call theirs without asking whether there is one."""

    def forward(self, *inputs: Any, **options: Any) -> None:
        """Gives nothing."""


def _has_weighted_pooler(encoder: PreTrainedModel) -> bool:
    pooler = getattr(encoder, "pooler", None)
    return isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters())


def drop_unused_pooler(encoder: PreTrainedModel, pooling: str) -> None:
    """Takes away a pooler with weights that `pooling` does not use."""
    # Parameters without a gradient break data-parallel training, and nobody should load or save them.
    if pooling != "pooled" and _has_weighted_pooler(encoder):
        asks = "add_pooling_layer" in inspect.signature(type(encoder)).parameters  # whether there is one
        setattr(encoder, "pooler", None if asks else NoPooler())  # noqa: B010 - type checkers take it for a tensor


def default_pooling(encoder: PreTrainedModel, outputs: Any) -> str:
    """The pooling of an encoder whose files name none, from what it returned for one input."""
    if outputs.get("pooler_output") is not None and not _has_weighted_pooler(encoder):
        # What the encoder was trained to give; a dense layer on top, as BERT's, belongs to another task.
        return "pooled"
    if encoder.main_input_name == "pixel_values":
        return "cls" if any(name.endswith("cls_token") for name, _ in encoder.named_parameters()) else "mean"
    kind = type(encoder.config)
    if kind in AutoModelForMaskedLM._model_mapping.keys():
        return "cls"
    return "last" if kind in AutoModelForCausalLM._model_mapping.keys() else "mean"


def cached_if_there(source: Any, name: str, kwargs: dict[str, Any]) -> str | None:
    """The file of a folder or Hub id; None where there is none or the Hub cannot be reached."""
    quiet = {f"_raise_exceptions_for_{reason}": False for reason in ("missing_entries", "connection_errors")}
    return cached_file(source, name, **quiet, **kwargs)


def sentence_transformers_pooling(source: str, kwargs: dict[str, Any]) -> str | None:
    """What `modules.json` and the pooling module of a sentence-transformers folder say, None where there are none."""
    modules = cached_if_there(source, "modules.json", kwargs)
    if modules is None:
        return None
    try:
        with open(modules, encoding="utf-8") as file:
            paths = [module["path"] for module in json.load(file) if module["type"].endswith("Pooling")]
        settings = cached_if_there(source, f"{paths[0]}/config.json", kwargs) if paths else None
        if settings is None:
            return None
        with open(settings, encoding="utf-8") as file:
            modes = json.load(file)
        names = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "last": "lasttoken"}
        found = (name for name, key in names.items() if modes.get(f"pooling_mode_{key}"))
        return next(found, modes.get("pooling_mode"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"encoder: modules.json and the pooling's config.json in {source!r} are not as sentence-transformers "
            f"writes them: {reason_of(error)}"
        ) from error


def run_once(encoder: PreTrainedModel) -> Any:
    """What an encoder returns for one small input in evaluation mode; feature size and used weights show in it."""
    config = encoder.config
    if encoder.main_input_name == "pixel_values":
        of_timm = getattr(config, "pretrained_cfg", None) or {}
        size = getattr(config, "image_size", None) or of_timm.get("input_size", (64, 64))[-2:]
        height, width = (size, size) if isinstance(size, int) else size
        shape = (1, getattr(config, "num_channels", 3), height, width)
        inputs = {"pixel_values": torch.zeros(shape, dtype=encoder.dtype, device=encoder.device)}
    else:
        inputs = {"input_ids": torch.zeros((1, 4), dtype=torch.long, device=encoder.device)}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with evaluating(encoder):
        return encoder(**inputs, return_dict=True)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():  # one by one: normalisations may be frozen in a model that trains
            module.training = training


@torch.no_grad()
def warn_of_padding(encoder: PreTrainedModel, pooling: str) -> None:
    """Warns where the features of a text change with the padding behind it, as of encoders that take no mask."""
    if encoder.main_input_name != "input_ids":
        return
    ids = torch.zeros((1, 4), dtype=torch.long, device=encoder.device)
    takes = inspect.signature(encoder.forward).parameters
    features = []
    for length in (2, 4):
        mask = (torch.arange(length, device=encoder.device) < 2).long()[None]
        inputs = {"attention_mask": mask} if "attention_mask" in takes else {}
        with evaluating(encoder):
            features.append(pool(encoder(input_ids=ids[:, :length], **inputs, return_dict=True), mask, pooling))
    alone, padded = features
    if not torch.allclose(alone, padded, rtol=1e-2, atol=1e-2 * float(alone.abs().max())):
        logger.warning(
            "%s: the features of a text change with the padding behind it, so scores depend on the batch a text is in",
            type(encoder).__name__,
        )


def unused_parameters(encoder: PreTrainedModel, pooling: str) -> list[nn.Parameter]:
    """Parameters that require a gradient and that the pooled features do not depend on."""
    # The graph of one forward pass says so without computing a gradient. In evaluation mode it is whole: gradient
    # checkpointing, which may hide parts, is for training.
    with torch.enable_grad():
        features = pool(run_once(encoder), None, pooling)
    used, seen, pending = set(), set(), [features.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            used.add(id(node.variable))
        pending.extend(next_node for next_node, _ in node.next_functions)
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad and id(parameter) not in used]
