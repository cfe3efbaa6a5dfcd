"""Models and their configuration.

Saved models carry files of this folder, so that they load with `trust_remote_code=True` where the package is absent.
Where it is imported, its own classes are taken and no remote code runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_mlcl import MLCLConfig
    from .images_mlcl import read_image
    from .modeling_mlcl import MLCLForImageClassification, MLCLForSequenceClassification, MLCLModel

# Imported when first used: whoever needs the configuration alone does not wait for the models of transformers.
_HOMES = {
    "MLCLConfig": "configuration_mlcl",
    "MLCLForImageClassification": "modeling_mlcl",
    "MLCLForSequenceClassification": "modeling_mlcl",
    "MLCLModel": "modeling_mlcl",
    "MLCLOutput": "modeling_mlcl",
    "read_image": "images_mlcl",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["MLCLConfig", "MLCLForImageClassification", "MLCLForSequenceClassification", "MLCLModel", "read_image"]
