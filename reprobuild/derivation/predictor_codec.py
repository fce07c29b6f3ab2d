"""Predictors to JSON values and back: what travels in an image's config.

Knows nothing of steps or files.
"""

from __future__ import annotations

from collections.abc import Mapping

from reprobuild.derivation.predictors import Example, Json, Parameter, Predictor


def predictors_to_json(predictors: Mapping[str, Predictor]) -> dict[str, Json]:
    """Write predictors as a JSON value; fields keep their order by being lists of pairs."""
    return {name: _predictor_to_json(predictor) for name, predictor in predictors.items()}


def predictors_from_json(value: Mapping[str, Json]) -> dict[str, Predictor]:
    """Read what ``predictors_to_json`` wrote."""
    return {name: _predictor_from_json(item) for name, item in value.items()}


def _predictor_to_json(predictor: Predictor) -> dict[str, Json]:
    # What few have is left out where it is empty: config and key of all others stay what they were.
    few = {
        "refusal": predictor.refusal,
        "macro": predictor.macro,
        "exchanges": [dict(one) for one in predictor.exchanges],
    }
    return {
        **{name: value for name, value in few.items() if value},
        "command": predictor.command,
        "inputs": [[name, kind] for name, kind in predictor.inputs.items()],
        "outputs": [[name, kind] for name, kind in predictor.outputs.items()],
        "protocol": predictor.protocol,
        "scope": predictor.scope,
        "parameters": {name: [one.type, one.default] for name, one in predictor.parameters.items()},
        "random": predictor.random,
        "threads": predictor.threads,
        "cuda": predictor.cuda,
        "tolerance": predictor.tolerance,
        "network": predictor.network,
        "examples": [
            {
                "items": [[dict(given), dict(expected)] for given, expected in example.items],
                "parameters": dict(example.parameters),
            }
            for example in predictor.examples
        ],
    }


def _predictor_from_json(value: Mapping[str, Json]) -> Predictor:
    return Predictor(
        command=value["command"],
        inputs=dict(value["inputs"]),
        outputs=dict(value["outputs"]),
        protocol=value["protocol"],
        scope=value["scope"],
        parameters={name: Parameter(*one) for name, one in value["parameters"].items()},
        random=value["random"],
        threads=value["threads"],
        cuda=value["cuda"],
        tolerance=value["tolerance"],
        network=value["network"],
        refusal=value.get("refusal", ""),
        macro=value.get("macro", ""),
        exchanges=tuple(value.get("exchanges", ())),
        examples=tuple(
            Example(
                items=tuple((given, expected) for given, expected in example["items"]),
                parameters=example["parameters"],
            )
            for example in value["examples"]
        ),
    )
