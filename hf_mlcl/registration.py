"""Registers the models with transformers as soon as its Auto classes and pipelines are imported, and not before.

So `import hf_mlcl` alone imports neither transformers nor its models, and `import hf_mlcl.losses` torch only.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from .models.configuration_mlcl import MLCLConfig

    AutoConfig.register("mlcl", MLCLConfig, exist_ok=True)
    MLCLConfig.register_for_auto_class()


def _register_models() -> None:
    _register_config()
    from transformers.models.auto import modeling_auto

    from .models.configuration_mlcl import MLCLConfig
    from .models.modeling_mlcl import MLCLForImageClassification, MLCLForSequenceClassification

    models = {
        "SequenceClassification": MLCLForSequenceClassification,
        "ImageClassification": MLCLForImageClassification,
    }
    for task, model in models.items():
        name = f"AutoModelFor{task}"
        getattr(modeling_auto, name).register(MLCLConfig, model, exist_ok=True)
        model.register_for_auto_class(name)


def _register_pipelines() -> None:
    from .models.pipelines import register

    register()


def _being_imported(name: str) -> bool:
    return name in sys.modules and getattr(sys.modules[name].__spec__, "_initializing", False)


_MODELS = "hf_mlcl.models.modeling_mlcl"

# What is to be done when a module has been imported.
HOOKS: dict[str, Callable[[], object]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    # The module of the models imports the Auto classes; then the models are there a little later.
    "transformers.models.auto.modeling_auto": lambda: None if _being_imported(_MODELS) else _register_models(),
    "transformers.pipelines": _register_pipelines,
    _MODELS: _register_models,
}


class _Hooks(importlib.abc.MetaPathFinder):
    """Finds modules as Python does, and runs the hook of one when it has been imported."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name not in HOOKS or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            HOOKS[name]()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def register_when_imported() -> None:
    """Registers now what can be, and the rest when it is imported."""
    if not any(isinstance(finder, _Hooks) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Hooks())
    for name, hook in HOOKS.items():
        if name in sys.modules and not _being_imported(name):
            hook()
