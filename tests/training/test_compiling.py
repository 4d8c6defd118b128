from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor, nn

from fieldmark.data.samples import draw_sample
from fieldmark.errors import RecipeError
from fieldmark.training import assembly
from fieldmark.training.compiling import EAGER_BATCHES, CompileGain, compile_network
from fieldmark.training.events import Event, Note, StepDone
from fieldmark.verbs import train

SETTINGS = [
    "data.image_size=32",
    "data.split.near_duplicates=false",
    "model.name=resnet10t",
    "optim.batch_size=4",
    "optim.epochs=2",
    "workers=0",
    "precision=fp32",
]


class Stop(Exception):
    pass


class StandIn(nn.Module):
    """Holds a network as what torch.compile returns does, and runs it as it is."""

    def __init__(self, network: nn.Module, passes: list[int]) -> None:
        super().__init__()
        self._orig_mod = network
        self.passes = passes

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        return self._orig_mod(images)  # type: ignore[no-any-return]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch sizes that went through the compiled network."""
    seen: list[int] = []
    monkeypatch.setattr(assembly, "compile_network", lambda network, _: StandIn(network, seen))
    return seen


def test_compiled_run_saves_the_same_keys_and_resumes_to_the_same_bits(
    tmp_path: Path, passes: list[int]
) -> None:
    table = draw_sample("leaves", num_images=48, num_classes=2)
    settings = [*SETTINGS, "compile=true"]
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    whole = train(table, recipe="quick", overrides=settings, out=tmp_path / "a", listener=listen)
    assert len(passes) == 2 * 9 - EAGER_BATCHES
    assert any("pays on long runs only" in note for note in notes)
    assert any(note.startswith("compile: took") for note in notes)
    steps = 0

    def stop(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == 11:
            raise Stop

    with pytest.raises(Stop):
        train(table, recipe="quick", overrides=settings, out=tmp_path / "b", listener=stop)
    resumed = train(table, recipe=None, out=tmp_path / "b", resume=True)
    for name in ("best/model.safetensors", "checkpoints/last/model.safetensors"):
        assert (whole.path / name).read_bytes() == (resumed.path / name).read_bytes()
    keys = load_file(whole.path / "checkpoints/last/model.safetensors").keys()
    assert all(key.startswith(("backbone.", "head.")) for key in keys)
    whole.predictor()


def test_machine_without_a_compiler_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RecipeError, match=r"needs a C\+\+ compiler.*compile=false"):
        compile_network(nn.Linear(2, 2), "cpu")


@pytest.mark.parametrize(
    ("compiled", "num_batches", "verdict"),
    [
        (0.20, 100, r"took 40 s; a batch takes 200 ms.*from about 402 batches.*does not pay"),
        (0.20, 1000, "from about 402 batches on; this run has 1,000, so it pays"),
        (0.35, 1000, "Nothing is gained: set compile=false"),
    ],
)
def test_gain_is_measured_and_told_once(compiled: float, num_batches: int, verdict: str) -> None:
    gain = CompileGain(num_batches)
    seconds = [0.9, 0.3, 0.3, 40.4, *[compiled] * 8]
    totals = [sum(seconds[: i + 1]) for i in range(len(seconds))]
    said = [text for text in map(gain.observe, totals) if text is not None]
    assert len(said) == 1
    assert re.search(verdict, said[0])
