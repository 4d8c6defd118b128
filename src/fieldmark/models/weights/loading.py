"""Loading weights from a file into a classifier, and saying exactly what was loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from fieldmark.errors import WeightsError
from fieldmark.models.backbones import Backbone
from fieldmark.models.heads import Head
from fieldmark.models.timm_backbone import TimmBackbone
from fieldmark.models.weights.files import FileWeights, check_file, read_tensors
from fieldmark.models.weights.names import rename_to_timm, rename_to_torchvision
from fieldmark.models.weights.npz import read_npz
from fieldmark.models.weights.positions import Positions
from fieldmark.models.weights.recognition import guess_model
from fieldmark.models.weights.timm_format import State, adapt_timm_state, split_timm_state

if TYPE_CHECKING:
    from fieldmark.models.classifier import Classifier

Shape = tuple[int, ...]
SMALLEST_SHARE = 0.5
NUM_NAMED = 5


@dataclass(frozen=True)
class LoadReport:
    """What became of a weights file.

    source: file or place of publication.
    loaded: tensors of the backbone that were loaded.
    resized: (name, shape in the file, shape here), brought to this network's grid.
    skipped: (name, reason) of tensors in the file that were not used.
    missing: tensors of the backbone that stay random.
    head: "kept", or why the head is new.
    """

    source: str
    loaded: int
    resized: tuple[tuple[str, Shape, Shape], ...]
    skipped: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    head: str

    @property
    def is_head_kept(self) -> bool:
        """Whether the classifying layer came from the file."""
        return self.head == "kept"

    def render(self) -> str:
        """The report in sentences."""
        sentences = [f"Loaded {self.loaded} tensors from {self.source}."]
        sentences += [
            f"Resampled {name} from {source} to {here}." for name, source, here in self.resized
        ]
        if self.missing:
            sentences.append(f"Not in the file, so random: {_shorten(self.missing)}.")
        if self.skipped:
            texts = [f"{name} ({reason})" for name, reason in self.skipped]
            sentences.append(f"Not used: {_shorten(texts)}.")
        kept = "The head came with them."
        sentences.append(kept if self.is_head_kept else f"The head is new: {self.head}.")
        return " ".join(sentences)


def load_weights(
    classifier: Classifier,
    path: str | Path,
    *,
    source: str | None = None,
    label_offset: int = 0,
    positions: Positions = "timm",
) -> LoadReport:
    """Load a file of fieldmark, timm, torchvision, transformers or Google into a classifier.

    The head is kept when its shape fits, else it stays as it is. `label_offset` rows at the
    start of the file's classifier are dropped. `positions` says how position embeddings reach
    another grid, as `recipes.schema` describes. Nothing is changed unless at least half of the
    backbone's parameters fit: else raises `WeightsError`, as for files that are broken or would
    run code.
    """
    path = Path(path).expanduser()
    check_file(path)
    backbone = classifier.backbone
    if path.suffix.lower() == ".npz":
        found = read_npz(backbone, path, positions)
    else:
        found = _divide(backbone, read_tensors(path), positions)
    fitting, skipped = _match(found.body, backbone.state_dict())
    _check_share(backbone, fitting, found, path)
    _check_numbers(fitting, path)
    backbone.load_state_dict(fitting, strict=False)
    skipped += _load_decoder(classifier, found.decoder)
    return LoadReport(
        source=source or str(path),
        loaded=len(fitting),
        resized=tuple(
            (name, found.shapes[name], tuple(tensor.shape))
            for name, tensor in fitting.items()
            if found.shapes.get(name, tensor.shape) != tensor.shape
        ),
        skipped=skipped,
        missing=tuple(
            name
            for name in backbone.state_dict()
            if name not in fitting and not name.endswith("num_batches_tracked")
        ),
        head=_load_head(classifier.head, found.head, label_offset),
    )


def _divide(backbone: Backbone, state: State, positions: Positions) -> FileWeights:
    """Tell backbone from head: in our own files by name, in others as published files name them."""
    if any(name.startswith("backbone.") for name in state):
        body, head = _take(state, "backbone."), _take(state, "head.")
        shapes = {name: tuple(tensor.shape) for name, tensor in body.items()}
        body = (
            adapt_timm_state(backbone, body, positions)
            if isinstance(backbone, TimmBackbone)
            else body
        )
        return FileWeights(body, head, shapes, _take(state, "tag_decoder."))
    state = (
        rename_to_timm(state)
        if isinstance(backbone, TimmBackbone)
        else rename_to_torchvision(state)
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if isinstance(backbone, TimmBackbone):
        body, head = split_timm_state(backbone, adapt_timm_state(backbone, state, positions))
    else:
        body, head = _part(state, getattr(backbone, "classifier_name", None))
    return FileWeights(body, head, shapes)


def _part(state: State, classifier_name: str | None) -> tuple[State, State]:
    """Part the file of a network of our own: all but its last layer, and that."""
    if classifier_name is None:
        return state, {}
    head = _take(state, f"{classifier_name}.")
    return {k: v for k, v in state.items() if not k.startswith(f"{classifier_name}.")}, head


def _take(state: State, prefix: str) -> State:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }


def _match(body: State, wanted: Mapping[str, Tensor]) -> tuple[State, tuple[tuple[str, str], ...]]:
    """Part a state dict into what fits and (name, reason) of what does not."""
    fitting: State = {}
    skipped: list[tuple[str, str]] = []
    for name, tensor in body.items():
        if name not in wanted:
            skipped.append((name, "not in this network"))
        elif tensor.shape != wanted[name].shape:
            shapes = f"shape {tuple(tensor.shape)}, here {tuple(wanted[name].shape)}"
            skipped.append((name, shapes))
        else:
            fitting[name] = tensor
    return fitting, tuple(skipped)


def _check_share(backbone: Backbone, fitting: State, found: FileWeights, path: Path) -> None:
    names = [name for name, _ in backbone.named_parameters()]
    num_found = sum(name in fitting for name in names)
    if num_found >= SMALLEST_SHARE * len(names):
        return
    guess = guess_model(found.body)
    choice = f" They look like '{guess}': set model.name={guess}." if guess else ""
    raise WeightsError(
        f"{path}: weights of another architecture: only {num_found} of {len(names)} parameters of "
        f"'{backbone.name}' are in it with the right shape. It holds "
        f"{_shorten(list(found.shapes) or list(found.body))}.{choice}"
    )


def _check_numbers(fitting: State, path: Path) -> None:
    broken = [
        name
        for name, tensor in fitting.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if broken:
        raise WeightsError(
            f"{path}: {_shorten(broken)} holds values that are infinite or not numbers: the "
            "training that wrote it had failed. Use an earlier checkpoint."
        )


def _load_decoder(classifier: Classifier, found: State) -> tuple[tuple[str, str], ...]:
    """Load the tag decoder where there is one; return what was not used of the file's."""
    decoder = classifier.tag_decoder
    fitting, skipped = _match(found, {} if decoder is None else decoder.state_dict())
    if decoder is not None:
        decoder.load_state_dict(fitting, strict=False)
    return tuple((f"tag_decoder.{name}", reason) for name, reason in skipped)


def _load_head(head: Head, found: State, label_offset: int) -> str:
    """Load the head if it fits; return "kept", or the reason why it is new."""
    if not found:
        return "the file has no linear one for it"
    wanted = head.state_dict()
    if label_offset:
        found = {
            name: tensor[label_offset:]
            if len(tensor) == head.num_classes + label_offset
            else tensor
            for name, tensor in found.items()
        }
    if not found.keys() <= wanted.keys():
        return "the file's is of another kind"
    found = {name: found[name] for name in wanted if name in found}
    _, skipped = _match(found, wanted)
    if skipped:
        name, shapes = skipped[0]
        return f"the file's is for other classes or features ({name}: {shapes})"
    head.load_state_dict({**wanted, **found})
    absent = [name for name in wanted if name not in found]
    if absent:
        return f"only {_shorten(list(found))} came from the file, not {_shorten(absent)}"
    return "kept"


def _shorten(names: Sequence[str]) -> str:
    """Name the first few."""
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return ", ".join(names[:NUM_NAMED]) + more
