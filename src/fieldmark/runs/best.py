"""`best/`: the selected weights with all that prediction needs, in the timm / Hugging Face layout.

`config.json` holds architecture and preprocessing as timm writes them, `id2label`, and a
`fieldmark` block. Where the network is timm's own with a linear head, the weights stand under
timm's names, and `timm.create_model("local-dir:RUN/best", pretrained=True)` loads them. A network
that takes tags has their vocabulary beside it, in `tags.json`; its digest is in the block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fieldmark.data.tags import TagVocabulary
from fieldmark.errors import RunError, WeightsError
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.models.probabilities import num_outputs
from fieldmark.models.weights.timm_format import from_timm_state, timm_config, to_timm_state
from fieldmark.recipes.schema import Model, Task
from fieldmark.runs.checkpoints import WEIGHTS_NAME, save_weights
from fieldmark.runs.files import save_folder, save_json
from fieldmark.transforms import TransformRecord

CONFIG_NAME = "config.json"
TAGS_NAME = "tags.json"
FORMAT = 1
WORD_EMBEDDING = "backbone.tags.word.weight"


@dataclass(frozen=True)
class Identity:
    """What a classifier is, apart from its weights: enough to build and use it again."""

    task: Task
    class_names: tuple[str, ...]
    model: Model
    transform: TransformRecord
    vocabulary: TagVocabulary | None = None


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
    vocabulary = identity.vocabulary
    if vocabulary is not None:
        about = {"file": TAGS_NAME, "size": vocabulary.size, "digest": vocabulary.digest}
        config["fieldmark"]["tag_vocabulary"] = about
    if identity.task != "binary":  # whose one logit is the second class
        config["label_names"] = list(identity.class_names)
    config["pretrained_cfg"].update(_preprocessing(identity.transform))

    def fill(part: Path) -> None:
        save_weights(timm_state or classifier.state_dict(), part / WEIGHTS_NAME)
        save_json(part / CONFIG_NAME, config)
        if vocabulary is not None:
            save_json(part / TAGS_NAME, vocabulary.to_json())

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
    """Build the classifier in `best/`, in evaluation mode on the CPU.

    Raises `RunError` where the folder was changed, or holds another vocabulary than its weights.
    """
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))["fieldmark"]
        weights = load_file(folder / WEIGHTS_NAME)
        identity = Identity(
            task=config["task"],
            class_names=tuple(config["class_names"]),
            model=Model.model_validate(config["model"]),
            transform=TransformRecord.from_json(config["transform"]),
            vocabulary=_load_vocabulary(folder, config),
        )
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RunError(
            f"{folder}: does not hold a classifier of fieldmark, or was changed: {error!r}. "
            "Restore the folder, or train a new run"
        ) from error
    _check_vocabulary(folder, identity.vocabulary, config, weights)
    classifier, _ = build_classifier(
        identity.model,
        num_classes=num_outputs(identity.task, len(identity.class_names)),
        image_size=identity.transform.image_size,
        tag_vocabulary_size=0 if identity.vocabulary is None else identity.vocabulary.size,
        tag_pad_id=0 if identity.vocabulary is None else identity.vocabulary.pad_id,
        # They come from this folder, not from where training once started.
        with_weights=False,
    )
    state = from_timm_state(classifier, weights) if config["layout"] == "timm" else weights
    classifier.load_state_dict(state)
    return classifier.eval(), identity


def load_selected(folder: Path) -> tuple[TransformRecord, Mapping[str, Any]]:
    """The transform in `best/`, and which epoch its weights are of, without the weights.

    Raises `RunError` where the folder was changed.
    """
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))["fieldmark"]
        return TransformRecord.from_json(config["transform"]), dict(config["selected"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder / CONFIG_NAME}: was changed: {error!r}. Restore it, or train a new run"
        ) from error


def check_start(weights: str | Path, vocabulary: TagVocabulary) -> None:
    """Refuse to start from the weights of a run whose tags have other ids than `vocabulary`.

    Files without a vocabulary beside them pass. Raises `WeightsError`.
    """
    path = Path(weights).expanduser().with_name(TAGS_NAME)
    if not path.is_file():
        return
    try:
        other = TagVocabulary.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: is not a tag vocabulary of fieldmark: {error!r}") from error
    if other.digest != vocabulary.digest:
        raise WeightsError(
            f"model.weights: {weights} was trained with another tag vocabulary ({other.size:,} "
            f"entries, here {vocabulary.size:,}), so its embedded tags mean others here. Use that "
            f"vocabulary: model.tags.tokenizer={other.tokenizer} model.tags.vocabulary={path}"
        )


def _load_vocabulary(folder: Path, config: Mapping[str, Any]) -> TagVocabulary | None:
    """The vocabulary of the run's tags, None where it takes none."""
    if config["model"].get("tags", {}).get("tokenizer", "off") == "off":
        return None
    path = folder / TAGS_NAME
    if not path.is_file():
        raise RunError(
            f"{path}: the vocabulary of its tags is gone, and without it the weights cannot be "
            "used. Restore the folder, or train a new run"
        )
    return TagVocabulary.from_json(json.loads(path.read_text(encoding="utf-8")))


def _check_vocabulary(
    folder: Path,
    vocabulary: TagVocabulary | None,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
) -> None:
    if vocabulary is None:
        return
    embedding = weights.get(WORD_EMBEDDING)
    found = None if embedding is None else len(embedding)
    expected = config.get("tag_vocabulary", {}).get("digest")
    if found == vocabulary.size and vocabulary.digest == expected:
        return
    raise RunError(
        f"{folder / TAGS_NAME}: this vocabulary of {vocabulary.size:,} entries is not the one that "
        f"the weights beside it were trained with ({found or 'no'} embedded entries). Restore the "
        "folder, or train a new run"
    )
