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
    from .models.modeling_mlcl import MLCLForImageClassification, MLCLForSequenceClassification, MLCLModel

    models = {
        "AutoModel": MLCLModel,
        "AutoModelForSequenceClassification": MLCLForSequenceClassification,
        "AutoModelForImageClassification": MLCLForImageClassification,
    }
    for name, model in models.items():
        getattr(modeling_auto, name).register(MLCLConfig, model, exist_ok=True)
        model.register_for_auto_class(name)


def _register_pipelines() -> None:
    from .models.pipelines import register

    register()


def _being_imported(name: str) -> bool:
    return name in sys.modules and getattr(sys.modules[name].__spec__, "_initializing", False)


_CONFIG, _MODELS = "hf_mlcl.models.configuration_mlcl", "hf_mlcl.models.modeling_mlcl"


def _unless_importing(name: str, register: Callable[[], None]) -> Callable[[], None]:
    """For modules of transformers that our own module `name` imports: when that is done, it has its own turn."""
    return lambda: None if _being_imported(name) else register()


# What is to be done when a module has been imported.
HOOKS: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _unless_importing(_CONFIG, _register_config),
    "transformers.models.auto.modeling_auto": _unless_importing(_MODELS, _register_models),
    "transformers.pipelines": _register_pipelines,
    _CONFIG: _register_config,
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
