"""Models and their configuration, registered with the Auto classes of transformers."""

from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

from .configuration_mlcl import MLCLConfig
from .modeling_mlcl import MLCLForImageClassification, MLCLForSequenceClassification, MLCLOutput

AutoConfig.register("mlcl", MLCLConfig, exist_ok=True)
AutoModelForSequenceClassification.register(MLCLConfig, MLCLForSequenceClassification, exist_ok=True)
AutoModelForImageClassification.register(MLCLConfig, MLCLForImageClassification, exist_ok=True)

__all__ = ["MLCLConfig", "MLCLForImageClassification", "MLCLForSequenceClassification", "MLCLOutput"]
