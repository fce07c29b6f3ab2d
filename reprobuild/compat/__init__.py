"""The names of the library ``repro`` (github.com/danieldeutsch/repro) on top of our engines.

A model that was wrapped for it runs with its import lines changed to
``from reprobuild.compat import DockerContainer, Model, read_jsonl_file``. ``docs/python.md`` says what
differs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.compat.container import DockerContainer as DockerContainer
    from reprobuild.compat.container import image_exists as image_exists
    from reprobuild.compat.container import make_volume_map as make_volume_map
    from reprobuild.compat.container import run_command as run_command
    from reprobuild.compat.measures import aggregate_metrics_by_group as aggregate_metrics_by_group
    from reprobuild.compat.measures import aggregate_parallel_metrics as aggregate_parallel_metrics
    from reprobuild.compat.measures import average_dicts as average_dicts
    from reprobuild.compat.measures import flatten_nested_dict as flatten_nested_dict
    from reprobuild.compat.measures import get_default_dict as get_default_dict
    from reprobuild.compat.measures import unflatten_dict as unflatten_dict
    from reprobuild.compat.models import Model as Model
    from reprobuild.compat.models import QuestionAnsweringModel as QuestionAnsweringModel
    from reprobuild.compat.models import QuestionGenerationModel as QuestionGenerationModel
    from reprobuild.compat.models import RecipeGenerationModel as RecipeGenerationModel
    from reprobuild.compat.models import SingleDocumentSummarizationModel as SingleDocumentSummarizationModel
    from reprobuild.compat.models import TruecasingModel as TruecasingModel
    from reprobuild.compat.models import load_model as load_model
    from reprobuild.compat.models import predict_with_model as predict_with_model
    from reprobuild.compat.parallel import ParallelModel as ParallelModel
    from reprobuild.compat.registrable import ConfigurationError as ConfigurationError
    from reprobuild.compat.registrable import Registrable as Registrable
    from reprobuild.compat.testing import assert_dicts_approx_equal as assert_dicts_approx_equal
    from reprobuild.compat.testing import get_testing_device_parameters as get_testing_device_parameters
    from reprobuild.compat.text_files import TemporaryDirectory as TemporaryDirectory
    from reprobuild.compat.text_files import read_jsonl_file as read_jsonl_file
    from reprobuild.compat.text_files import write_to_jsonl_file as write_to_jsonl_file
    from reprobuild.compat.text_files import write_to_text_file as write_to_text_file
    from reprobuild.compat.texts import check_for_single_texts as check_for_single_texts
    from reprobuild.compat.texts import flatten as flatten
    from reprobuild.compat.texts import group_by_references as group_by_references
    from reprobuild.compat.texts import insert_empty_values as insert_empty_values
    from reprobuild.compat.texts import is_empty_text as is_empty_text
    from reprobuild.compat.texts import remove_empty_inputs as remove_empty_inputs
    from reprobuild.compat.texts import ungroup_values as ungroup_values
    from reprobuild.compat.types import DocumentType as DocumentType
    from reprobuild.compat.types import InstanceDict as InstanceDict
    from reprobuild.compat.types import MetricsType as MetricsType
    from reprobuild.compat.types import NestedDict as NestedDict
    from reprobuild.compat.types import SummaryType as SummaryType
    from reprobuild.compat.types import TextType as TextType

_MODULES = {
    "container": ("DockerContainer", "image_exists", "make_volume_map", "run_command"),
    "measures": (
        "aggregate_metrics_by_group",
        "aggregate_parallel_metrics",
        "average_dicts",
        "flatten_nested_dict",
        "get_default_dict",
        "unflatten_dict",
    ),
    "models": (
        "Model",
        "QuestionAnsweringModel",
        "QuestionGenerationModel",
        "RecipeGenerationModel",
        "SingleDocumentSummarizationModel",
        "TruecasingModel",
        "load_model",
        "predict_with_model",
    ),
    "parallel": ("ParallelModel",),
    "registrable": ("ConfigurationError", "Registrable"),
    "testing": ("assert_dicts_approx_equal", "get_testing_device_parameters"),
    "text_files": ("TemporaryDirectory", "read_jsonl_file", "write_to_jsonl_file", "write_to_text_file"),
    "texts": (
        "check_for_single_texts",
        "flatten",
        "group_by_references",
        "insert_empty_values",
        "is_empty_text",
        "remove_empty_inputs",
        "ungroup_values",
    ),
    "types": ("DocumentType", "InstanceDict", "MetricsType", "NestedDict", "SummaryType", "TextType"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)  # one list, kept above


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'reprobuild.compat' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"reprobuild.compat.{_HOMES[name]}"), name)
