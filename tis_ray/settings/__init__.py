"""The sections of a config, as pydantic models: importable without torch or Ray.

Every field's docstring is its help text. A method's own settings lie beside the method; the whole
config is `tis_ray.config.Config`.
"""

from tis_ray.section import Section, Seed, Stop
from tis_ray.settings.compute import ComputeConfig, TrackingConfig
from tis_ray.settings.data import (
    AnySource,
    BuiltinSource,
    DataConfig,
    FileSource,
    HubSource,
    ListSource,
    TaskConfig,
)
from tis_ray.settings.evaluation import EvaluationConfig, HarnessTask
from tis_ray.settings.model import BatchConfig, FeatureType, LoraConfig, ModelConfig
from tis_ray.settings.price import PriceConfig
from tis_ray.settings.subset import (
    ConstraintsConfig,
    DrawsConfig,
    OverlapConfig,
    QuantilesConfig,
    as_draws,
)
from tis_ray.settings.template import TemplateConfig
from tis_ray.settings.training import FinetuneConfig, SearchConfig, TrainingConfig

__all__ = [
    "AnySource",
    "BatchConfig",
    "BuiltinSource",
    "ComputeConfig",
    "ConstraintsConfig",
    "DataConfig",
    "DrawsConfig",
    "EvaluationConfig",
    "FeatureType",
    "FileSource",
    "FinetuneConfig",
    "HarnessTask",
    "HubSource",
    "ListSource",
    "LoraConfig",
    "ModelConfig",
    "OverlapConfig",
    "PriceConfig",
    "QuantilesConfig",
    "SearchConfig",
    "Section",
    "Seed",
    "Stop",
    "TaskConfig",
    "TemplateConfig",
    "TrackingConfig",
    "TrainingConfig",
    "as_draws",
]
