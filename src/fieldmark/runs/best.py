"""`best/`: the selected weights with all that prediction needs, in the timm / Hugging Face layout.

`config.json` holds architecture and preprocessing as timm writes them, `id2label`, and a
`fieldmark` block. Where the network is timm's own with a linear head, the weights stand under
timm's names, and `timm.create_model("local-dir:RUN/best", pretrained=True)` loads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from fieldmark.errors import RunError
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.probabilities import num_outputs
from fieldmark.models.timm_format import from_timm_state, timm_config, to_timm_state
from fieldmark.recipes.schema import Model, Task
from fieldmark.runs.checkpoints import WEIGHTS_NAME, save_weights
from fieldmark.runs.files import save_folder, save_json
from fieldmark.transforms import TransformRecord

CONFIG_NAME = "config.json"
FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """What a classifier is, apart from its weights: enough to build and use it again."""

    task: Task
    class_names: tuple[str, ...]
    model: Model
    transform: TransformRecord


def save_best(
    folder: Path, classifier: Classifier, identity: Identity, scores: Mapping[str, Any]
) -> None:
    """Replace the selected weights; `scores` says which epoch they are and what it reached."""
    timm_state = to_timm_state(classifier)
    config = timm_config(classifier, identity.transform.image_size)
    config["num_classes"] = num_outputs(identity.task, len(identity.class_names))
    config["id2label"] = {str(i): name for i, name in enumerate(identity.class_names)}
    config["fieldmark"] = {
        "format": FORMAT,
        "layout": "fieldmark" if timm_state is None else "timm",
        "task": identity.task,
        "class_names": list(identity.class_names),
        "model": identity.model.model_dump(mode="json"),
        "transform": identity.transform.to_json(),
        "selected": dict(scores),
    }
    if identity.task != "binary":  # whose one logit is the second class
        config["label_names"] = list(identity.class_names)
    config["pretrained_cfg"].update(_preprocessing(identity.transform))

    def fill(part: Path) -> None:
        save_weights(timm_state or classifier.state_dict(), part / WEIGHTS_NAME)
        save_json(part / CONFIG_NAME, config)

    save_folder(folder, fill)


def _preprocessing(transform: TransformRecord) -> dict[str, Any]:
    """The evaluation transform in timm's words."""
    crop_mode = {"squash": "squash", "shorter": "center", "pad": "border"}[transform.resize]
    return {
        "mean": list(transform.mean),
        "std": list(transform.std),
        "interpolation": transform.interpolation,
        "crop_pct": transform.crop,
        "crop_mode": crop_mode,
    }


def load_best(folder: Path) -> tuple[Classifier, Identity]:
    """Build the classifier in `best/`, in evaluation mode on the CPU."""
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))["fieldmark"]
        weights = load_file(folder / WEIGHTS_NAME)
        identity = Identity(
            task=config["task"],
            class_names=tuple(config["class_names"]),
            model=Model.model_validate(config["model"]),
            transform=TransformRecord.from_json(config["transform"]),
        )
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RunError(
            f"{folder}: does not hold a classifier of fieldmark, or was changed: {error!r}. "
            "Restore the folder, or train a new run"
        ) from error
    # The weights come from this folder, not from where training once started.
    plain = identity.model.model_copy(update={"pretrained": False, "weights": None})
    classifier, _ = build_classifier(
        plain,
        num_classes=num_outputs(identity.task, len(identity.class_names)),
        image_size=identity.transform.image_size,
    )
    state = from_timm_state(classifier, weights) if config["layout"] == "timm" else weights
    classifier.load_state_dict(state)
    return classifier.eval(), identity
