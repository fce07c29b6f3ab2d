"""Base classes of models that people wrap by themselves, and how they are found and called by name.

Knows nothing of recipes: such a model runs its own commands (``container``).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from reprobuild.compat.registrable import Registrable
from reprobuild.errors import InputError, UsageError

Text = str | list[str]


class Model(Registrable):
    """A model: ``predict`` for one input, ``predict_batch`` for many; registered by ``@Model.register``."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict for one input."""
        raise NotImplementedError

    def predict_batch(self, inputs: list[dict[str, Any]], *args: Any, **kwargs: Any) -> Any:
        """Predict for several; the keys of each are the names of the arguments of ``predict``."""
        raise NotImplementedError


class QuestionAnsweringModel(Model):
    """Answers a question about a text."""

    def predict(self, context: str, question: str, *args: Any, **kwargs: Any) -> Any:
        return self.predict_batch([{"context": context, "question": question}], *args, **kwargs)[0]


class QuestionGenerationModel(Model):
    """Asks for what a text has between two characters."""

    def predict(self, context: str, start: int, end: int, *args: Any, **kwargs: Any) -> Any:
        return self.predict_batch([{"context": context, "start": start, "end": end}], *args, **kwargs)[0]


class RecipeGenerationModel(Model):
    """Writes a recipe, of those that one cooks by."""

    def predict(self, name: str, ingredients: list[str], *args: Any, **kwargs: Any) -> Any:
        return self.predict_batch([{"name": name, "ingredients": ingredients}], *args, **kwargs)[0]


class SingleDocumentSummarizationModel(Model):
    """Summarises a document."""

    def predict(self, document: Text, *args: Any, **kwargs: Any) -> Any:
        return self.predict_batch([{"document": document}], *args, **kwargs)[0]


class TruecasingModel(Model):
    """Gives words their capitals back."""

    def predict(self, text: str, *args: Any, **kwargs: Any) -> Any:
        return self.predict_batch([{"text": text}], *args, **kwargs)[0]


def load_model(name: str, kwargs: str | Mapping[str, Any] | None = None) -> Model:
    """Make the model that is registered under a name; ``kwargs``: its constructor's, as a dict or as JSON."""
    made = Model.by_name(name)(**_arguments(kwargs))
    if not isinstance(made, Model):
        raise UsageError(f"{name} makes {type(made).__name__}, which is no Model")
    return made


def predict_with_model(
    model: Any, instances: Sequence[Mapping[str, Any]], kwargs: str | Mapping[str, Any] | None = None
) -> Any:
    """Predict for instances that may have more keys than ``predict`` has arguments.

    Each is checked before anything is done: an argument without a default has to be there. Raises
    InputError, which names the instance and the argument.
    """
    arguments = _arguments(kwargs)
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [
        name
        for name, one in inspect.signature(model.predict).parameters.items()
        if one.default is one.empty and one.kind in (*plain, inspect.Parameter.KEYWORD_ONLY)
    ]
    for index, instance in enumerate(instances):
        missing = [name for name in needed if name not in instance and name not in arguments]
        if missing:
            raise InputError(
                f"instance {index} lacks {missing[0]}, which {type(model).__name__}.predict needs",
                f"it has {', '.join(map(str, instance)) or 'nothing'}",
            )
    return model.predict_batch([dict(instance) for instance in instances], **arguments)


def _arguments(given: str | Mapping[str, Any] | None) -> dict[str, Any]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except json.JSONDecodeError as error:
            raise UsageError(f"kwargs are no JSON: {error}") from None
    if not isinstance(given, Mapping | None):
        raise UsageError(f"kwargs are {type(given).__name__}, and not a dict", 'for example {"device": 0}')
    return dict(given or {})
