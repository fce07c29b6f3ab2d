"""One model several times, each with a part of the inputs.

Knows nothing of what the models do. The workers are threads: what is heavy runs in containers and
sandboxes, which are processes of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reprobuild.compat.models import Model
from reprobuild.errors import UsageError


class ParallelModel(Model):
    """Several models of a class: ``ParallelModel(Mine, [{"device": 0}, {"device": 1}])``."""

    def __init__(
        self,
        model_cls: type,
        model_kwargs_list: Sequence[dict[str, Any]] | None = None,
        num_models: int | None = None,
    ) -> None:
        """``model_kwargs_list``: the arguments of each model, or ``num_models`` of them without any."""
        if (model_kwargs_list is None) == (num_models is None):
            raise UsageError("ParallelModel takes either model_kwargs_list or num_models")
        listed = [{}] * num_models if num_models and num_models > 0 else list(model_kwargs_list or ())
        if not listed:
            raise UsageError("ParallelModel needs at least one model")
        self.model_cls = model_cls
        self.model_kwargs_list: list[dict[str, Any]] = listed

    def predict_batch(self, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Give what each model's ``predict_batch`` gave for its part: parts are contiguous, in order.

        ``args``, ``kwargs`` go to every model. No inputs: no parts. The error of the first part that
        failed is raised when all have ended.
        """
        size = math.ceil(len(inputs) / len(self.model_kwargs_list)) or 1
        parts = [inputs[start : start + size] for start in range(0, len(inputs), size)]
        if not parts:
            return []

        def predict(model_kwargs: dict[str, Any], part: Sequence[Any]) -> Any:
            return self.model_cls(**model_kwargs).predict_batch(part, *args, **kwargs)

        with ThreadPoolExecutor(len(parts)) as pool:
            return list(pool.map(predict, self.model_kwargs_list, parts))
