"""Models and their configuration, registered with the Auto classes and the pipelines of transformers.

Saved models carry the files of this room, so that they load with `trust_remote_code=True` where the package is absent.
Where it is imported, its own classes are taken and no remote code runs.
"""

from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

from .configuration_mlcl import MLCLConfig
from .images_mlcl import read_image
from .modeling_mlcl import MLCLForImageClassification, MLCLForSequenceClassification, MLCLOutput
from .pipelines import register

AutoConfig.register("mlcl", MLCLConfig, exist_ok=True)
AutoModelForSequenceClassification.register(MLCLConfig, MLCLForSequenceClassification, exist_ok=True)
AutoModelForImageClassification.register(MLCLConfig, MLCLForImageClassification, exist_ok=True)

MLCLConfig.register_for_auto_class()
MLCLForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
MLCLForImageClassification.register_for_auto_class("AutoModelForImageClassification")
register()

__all__ = ["MLCLConfig", "MLCLForImageClassification", "MLCLForSequenceClassification", "MLCLOutput", "read_image"]
