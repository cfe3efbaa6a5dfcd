"""Adapters on a model: added, saved with the heads, loaded, merged. Imports torch, transformers, for adapters peft.

Flat on purpose: this file travels with a checkpoint beside `modeling_mlcl.py`.
"""

import copy
import os
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations.peft import MIN_PEFT_VERSION
from transformers.utils import CONFIG_NAME, check_peft_version, find_adapter_config_file

from .encoders_mlcl import aligned, cached_if_there, drop_unused_pooler, load_encoder, unwrapped

HEADS = ("projection", "prototypes", "classifier")
# The modules of the heads, each named so that no module of an encoder ends in it: peft would take, say, the patch
# projection of a ViT for "projection".
HEAD_MODULES = ("projection.hidden", "projection.output", "prototypes", "classifier")
_PREFIX = "base_model.model."
_HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "token")
_INTERNAL = ("adapter_kwargs", "adapter_name", "state_dict", "trust_remote_code", "code_revision")


def peft_package() -> Any:
    """The package peft; ImportError in one line where it is absent, or older than transformers wants.

    The latter is looked at first of all: transformers itself would refuse to save what has been trained.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError("adapters need the package peft: pip install 'hf-mlcl[adapters]'") from error
    try:
        check_peft_version(MIN_PEFT_VERSION)
    except ValueError as error:
        raise ImportError(
            f"adapters need peft {MIN_PEFT_VERSION} or newer with transformers {transformers.__version__}, "
            f"got {peft.__version__}: pip install 'hf-mlcl[adapters]'"
        ) from error
    return peft


class MLCLAdapters(PreTrainedModel):
    """What a model with an adapter does otherwise than one without; the heads are always part of the adapter."""

    config_class: Any
    task: str

    @property
    def has_adapter(self) -> bool:
        """Whether the model carries an adapter."""
        return bool(self._hf_peft_config_loaded)

    def check_encoder(self) -> None:
        """Raises ValueError where what is around the encoder, or in it, would get lost when the model is saved."""
        encoder: Any = self.encoder
        if not self.has_adapter or hasattr(encoder, "get_base_model"):
            check_no_adapter(encoder)
        if unwrapped(encoder) is not encoder:
            raise ValueError(
                f"encoder: the weights of an encoder in a {type(encoder).__name__} would be saved under other names; "
                "compile or wrap the whole model, or use model.encoder.compile()"
            )

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Adds an adapter to the encoder and freezes the rest of it; the heads are trained and saved with the adapter.

        The adapter stands on the encoder as it is stored where it was loaded from: add it before any training.

        Args:
            adapter_config: A `PeftConfig` that adapts layers, such as `LoraConfig(r=16)`; it is not changed. A
                `LoraConfig` without `target_modules` adapts all linear layers of the encoder.
            adapter_name: As in peft; "default" by default.

        Raises:
            ValueError: Where the model has an adapter already, was not loaded from anywhere, or the adapter does not
                fit it.
        """
        peft = peft_package()
        if not isinstance(adapter_config, peft.PeftConfig):
            raise ValueError(f"adapter_config must be a PeftConfig, got {type(adapter_config).__name__}")
        if self.has_adapter:
            raise ValueError("adapter_config: the model has an adapter already; see merge_adapter")
        config = copy.deepcopy(adapter_config)
        config.inference_mode = False
        _check_adapts_layers(config, "adapter_config")
        if isinstance(config, peft.LoraConfig) and config.target_modules is None:
            config.target_modules = "all-linear"
        config.modules_to_save = sorted({*(config.modules_to_save or ()), *HEAD_MODULES})
        self._prepare_for_adapter(config)
        try:
            super().add_adapter(config, adapter_name)
        except ValueError as error:
            raise ValueError(f"adapter_config does not fit the encoder: {_line(error)}") from error

    def _prepare_for_adapter(self, config: Any) -> None:
        base = self.__dict__.get("name_or_path")
        if not base:
            raise ValueError(
                "adapter_config: the encoder is from no folder or Hub id in which the adapter can find it again; save "
                "it and load it first"
            )
        config.base_model_name_or_path = base
        if config.revision is None:
            config.revision = getattr(self.config.encoder_config, "_commit_hash", None)
        if config.task_type is None:
            config.auto_mapping = {"base_model_class": type(self).__name__, "parent_library": type(self).__module__}
        # Its statistics belong to the frozen encoder and are not saved with the adapter.
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.modules()):
            self.config.freeze_batch_norm = True

    def merge_adapter(self) -> Any:
        """Folds the adapter into the weights, in place, and returns the model: an ordinary one of the same outputs.

        Raises:
            ValueError: Where there is no adapter, or one whose layers cannot be merged.
        """
        if not self.has_adapter:
            raise ValueError("merge_adapter: the model has no adapter")
        peft_package()
        for name, module in list(self.named_modules()):
            try:
                if hasattr(module, "unload_and_optionally_merge_module"):  # a head, or a layer of its own kind
                    merged = module.unload_and_optionally_merge_module(
                        merge=True, safe_merge=False, adapter_names=None
                    )
                elif hasattr(module, "base_layer") and hasattr(module, "merge"):
                    module.merge()
                    merged = module.get_base_layer()
                else:
                    continue
            except (ValueError, NotImplementedError) as error:
                raise ValueError(f"merge_adapter: {name} cannot be merged: {error}") from error
            self.set_submodule(name, merged)
        del self.peft_config
        self._hf_peft_config_loaded = False
        self.requires_grad_(True)
        self.name_or_path = ""  # these weights are stored nowhere yet
        return self

    def save_pretrained(  # type: ignore[override]
        self, save_directory: Any, is_main_process: bool = True, **kwargs: Any
    ) -> None:
        """As `PreTrainedModel.save_pretrained`; of a model with an adapter, the adapter, the heads and the config."""
        with_adapter, present = self.has_adapter and is_main_process, type(self)
        self.check_encoder()
        # FSDP2 makes a class of its own from the model's, and not torch's code is to travel with the weights.
        self.__class__ = next(kind for kind in present.__mro__ if not kind.__module__.startswith("torch."))
        auto_map = getattr(self.config, "auto_map", None) or {}
        self.config.auto_map = {"AutoModel": "modeling_mlcl.MLCLModel", **auto_map}
        try:
            if with_adapter:  # before, because what follows may upload the folder
                self.config.architectures, self.config.dtype = [type(self).__name__], self.dtype
                os.makedirs(save_directory, exist_ok=True)
                self.config.save_pretrained(save_directory)
            super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
            if with_adapter:  # and after, because what came before has noted where the code is
                self.config.save_pretrained(save_directory)
        finally:
            self.__class__ = present

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, encoder: str | None = None, **kwargs: Any
    ) -> Any:
        """Loads a saved model or adapter, with the bit-identical outputs of the saved one on a CPU.

        Args:
            pretrained_model_name_or_path: Folder or Hub id of a model, or of an adapter, which brings its heads,
                labels and thresholds.
            encoder: Of an adapter: folder or Hub id of what it stands on, if not where its file says.
            *args: As of `PreTrainedModel.from_pretrained`.
            **kwargs: As of `PreTrainedModel.from_pretrained`; of an adapter, they go to its encoder.

        Raises:
            ValueError: For an adapter whose encoder is not found or does not fit, or that lacks weights of a head.
        """
        source = pretrained_model_name_or_path
        hub = {name: kwargs[name] for name in (*_HUB, "revision", "subfolder") if kwargs.get(name) is not None}
        is_adapter = (
            isinstance(source, (str, os.PathLike)) and find_adapter_config_file(str(source), **hub) is not None
        )
        if is_adapter and cached_if_there(source, CONFIG_NAME, hub) is not None:
            return cls._from_adapter(str(source), encoder, hub, kwargs)
        if encoder is not None:
            raise ValueError(f"encoder={encoder!r} belongs to an adapter, and {source!r} is a whole model")
        loaded = super().from_pretrained(source, *args, **kwargs)
        aligned(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded

    @classmethod
    def _from_adapter(cls, source: str, encoder: str | None, hub: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        peft = peft_package()
        kwargs = {name: value for name, value in kwargs.items() if name not in (*hub, *_INTERNAL) and name[0] != "_"}
        config, dtype = kwargs.pop("config", None), kwargs.pop("dtype", torch.float32)
        with_info = kwargs.pop("output_loading_info", False)
        if not isinstance(config, cls.config_class):
            config = cls.config_class.from_pretrained(source, **hub)
        adapter = peft.PeftConfig.from_pretrained(source, **hub)
        base = encoder or adapter.base_model_name_or_path
        place = {name: value for name, value in hub.items() if name in _HUB}
        if adapter.revision is not None and encoder is None and not os.path.isdir(str(base)):
            place["revision"] = adapter.revision
        try:
            model = cls._on_base(base, config, dtype, {**place, **kwargs})
            adapter.inference_mode = False  # as every loaded model, it may be trained on
            peft.inject_adapter_in_model(adapter, model)
            model._hf_peft_config_loaded = True
            model.load_adapter_weights(source, **hub)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{source}: the adapter cannot be put on its encoder: {_line(error)}") from error
        model = aligned(model.eval())
        # Weights that are missing or too many have raised.
        keys: dict[str, Any] = {f"{kind}_keys": set() for kind in ("missing", "unexpected", "mismatched")}
        return (model, keys | {"error_msgs": []}) if with_info else model

    @classmethod
    def _on_base(cls, base: str | None, config: Any, dtype: Any, kwargs: dict[str, Any]) -> Any:
        """A model of `config` on the encoder stored at `base`; its heads are yet to be loaded."""
        if base is None:
            raise ValueError("encoder: give the folder or Hub id of what the adapter stands on; its file names none")
        try:
            is_whole = PreTrainedConfig.get_config_dict(base)[0].get("model_type") == cls.config_class.model_type
        except (OSError, ValueError):
            is_whole = False  # the error comes in one line below
        if is_whole:
            whole = cls.from_pretrained(base, dtype=dtype, **kwargs)
            encoder = (whole.merge_adapter() if whole.has_adapter else whole).encoder
        else:
            encoder = load_encoder(base, cls.task, dtype, kwargs)
        size, expected = encoder.config.get_text_config(), config.get_text_config()
        if getattr(size, "vocab_size", None) != getattr(expected, "vocab_size", None):
            raise ValueError(
                f"encoder: the adapter needs {expected.vocab_size} tokens, {base!r} has {size.vocab_size}"
            )
        drop_unused_pooler(encoder, config.pooling)
        config.name_or_path = base
        return cls.around_encoder(encoder, config)

    @classmethod
    def around_encoder(cls, encoder: PreTrainedModel, config: Any) -> Any:
        """A model of `config` on this very encoder, with new heads."""
        # Built without memory, and the encoder replaced, so that a large one exists once.
        with torch.device("meta"):
            model: Any = cls(config)
        model.encoder = aligned(encoder)
        for head in (model.projection, model.prototypes, model.classifier):
            head.to_empty(device=encoder.device).to(encoder.dtype)
            for module in head.modules():
                model._init_weights(module)
        return model

    def load_adapter_weights(self, source: str, **hub: Any) -> None:
        """Loads the weights of an adapter and its heads from a folder or the Hub into the adapter of this model.

        Raises:
            ValueError: Where they are not just those that this model has.
        """
        peft = peft_package()
        (name,) = self.peft_config
        config = self.peft_config[name]
        weights = peft.load_peft_weights(source, device="cpu", **hub)
        weights = {key.removeprefix(_PREFIX): value for key, value in weights.items()}
        # Otherwise peft would look on the Hub whether the vocabulary has grown.
        own = peft.get_peft_model_state_dict(self, adapter_name=name, save_embedding_layers=False)
        lost = [head for head in HEADS if not any(key.startswith(f"{head}.") for key in own)]
        shapes, found = ({key: value.shape for key, value in values.items()} for values in (own, weights))
        different = sorted(key for key in {*own, *weights} if shapes.get(key) != found.get(key))
        if lost or different:
            raise ValueError(
                f"{source} lacks weights of the {config.peft_type.value} adapter with its heads, or has others: "
                f"{(lost or different)[0]}"
            )
        peft.set_peft_model_state_dict(self, weights, adapter_name=name)


def unwrapped_adapter(model: Any) -> Any:
    """The model inside of what `peft.get_peft_model` returned, with heads that are trained and saved with the adapter.

    The wrapper stays usable, for instance for `merge_and_unload`. Anything else comes back as it is.
    """
    if not hasattr(model, "get_base_model"):
        return model
    core, config = model.get_base_model(), model.active_peft_config
    if not isinstance(core, MLCLAdapters) or core.has_adapter:
        return core
    _check_adapts_layers(config, "model")
    for name in HEAD_MODULES:
        if hasattr(core.get_submodule(name), "base_layer"):
            raise ValueError(
                f"target_modules: {name} is no layer of the encoder but one of the heads; add the adapter with "
                f"model.add_adapter, or with modules_to_save={list(HEAD_MODULES)}"
            )
    trained = {name.partition(".")[0] for name, _ in core.named_parameters() if ".modules_to_save." in name}
    missing = [name for name in HEAD_MODULES if name.partition(".")[0] not in trained]
    if missing:
        added = copy.copy(config)
        added.modules_to_save = missing
        peft_package().utils.set_additional_trainable_modules(core, added, {}, model.active_adapter)
        config.modules_to_save = sorted({*(config.modules_to_save or ()), *missing})
    core._prepare_for_adapter(config)
    core._hf_peft_config_loaded = True
    return core


def _check_adapts_layers(config: Any, argument: str) -> None:
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise ValueError(f"{argument}: {type(config).__name__} is not supported; LoraConfig and others adapt layers")


def check_no_adapter(encoder: nn.Module) -> None:
    """Raises ValueError where an encoder carries an adapter of its own, which no model saves or loads with it."""
    if (
        hasattr(encoder, "get_base_model")
        or getattr(encoder, "_hf_peft_config_loaded", False)
        or any(hasattr(module, "base_layer") or hasattr(module, "original_module") for module in encoder.modules())
    ):
        raise ValueError(
            "encoder: its adapter would not be saved with the model; give the adapter's config to model.add_adapter "
            "or to MLCLTrainer(peft_config=...), or merge it into the encoder first"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


__all__ = ["HEADS", "HEAD_MODULES", "MLCLAdapters", "peft_package", "unwrapped_adapter"]
