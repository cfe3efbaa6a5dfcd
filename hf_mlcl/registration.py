"""Registers the models with transformers as soon as its Auto classes and pipelines are imported, and not before.

So `import hf_mlcl` alone imports neither transformers nor its models, and `import hf_mlcl.losses` torch only.
"""

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


# What is to be done when a module of transformers has been imported.
HOOKS: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_models,
    "transformers.pipelines": _register_pipelines,
}
_MODELS = "hf_mlcl.models."
_due: list[Callable[[], None]] = []


def _being_imported(name: str) -> bool:
    return getattr(getattr(sys.modules[name], "__spec__", None), "_initializing", False)


def _register_what_is_due(just_imported: str = "") -> None:
    """Registers, unless one of our own modules is on its way, which may be the one that imports transformers."""
    others = [name for name in list(sys.modules) if name.startswith(_MODELS) and name != just_imported]
    while _due and not any(map(_being_imported, others)):
        _due.pop(0)()


class _Hooks(importlib.abc.MetaPathFinder):
    """Finds modules as Python does, and registers when they have been imported."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if (name not in HOOKS and not name.startswith(_MODELS)) or self not in sys.meta_path:
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
            if name in HOOKS:
                _due.append(HOOKS[name])
            _register_what_is_due(name)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def register_when_imported() -> None:
    """Registers now what can be, and the rest when it is imported."""
    if not any(isinstance(finder, _Hooks) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Hooks())
    _due.extend(hook for name, hook in HOOKS.items() if name in sys.modules and not _being_imported(name))
    _register_what_is_due()
