"""The config of a study: its schema, and how it is read. Importable without torch or Ray."""

from tis_ray.config.load import config_yaml, load_config, load_run, parse_config, run_config
from tis_ray.config.plan import Part, parts, plan, require_files, require_test, together
from tis_ray.config.schema import Config

__all__ = [
    "Config",
    "Part",
    "config_yaml",
    "load_config",
    "load_run",
    "parse_config",
    "parts",
    "plan",
    "require_files",
    "require_test",
    "run_config",
    "together",
]
