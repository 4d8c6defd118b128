"""The peers of `peers.py` as programs of their own: python benchmarks/peer_loops.py NAME PLAN OUT.

PLAN is JSON: model, data, epochs, lr, size, batch, workers, bf16. Each prints "ACCURACY x" at last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

Plan = Mapping[str, Any]


def train_timm(plan: Plan, out: Path) -> float:
    """timm's parts in a plain loop: its loader, augmentation, network, optimizer, schedule."""
    import timm
    import torch
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler

    size = {"img_size": plan["size"]} if "vit" in plan["model"] else {}
    torch.manual_seed(0)
    model = timm.create_model(plan["model"], num_classes=10, **size)
    layout = torch.channels_last if plan["bf16"] else torch.contiguous_format
    model.to(memory_format=layout)
    common = {"input_size": (3, plan["size"], plan["size"]), "batch_size": plan["batch"]}
    common |= {"num_workers": plan["workers"], "use_prefetcher": False, "pin_memory": False}
    sets = {split: create_dataset("", plan["data"], split=split) for split in ("train", "val")}
    # color_jitter 0: the others do not change colours either.
    train = create_loader(sets["train"], is_training=True, color_jitter=0.0, **common)
    val = create_loader(sets["val"], is_training=False, **common)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=plan["lr"], weight_decay=2e-5)
    schedule = CosineLRScheduler(optimizer, t_initial=plan["epochs"])
    accuracy = 0.0
    for epoch in range(plan["epochs"]):
        model.train()
        for images, targets in train:
            images = images.contiguous(memory_format=layout)
            with torch.autocast("cpu", torch.bfloat16, enabled=plan["bf16"]):
                loss = torch.nn.functional.cross_entropy(model(images), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        schedule.step(epoch + 1)
        model.eval()
        right = count = 0
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=plan["bf16"]):
            for images, targets in val:
                found = model(images.contiguous(memory_format=layout)).argmax(1)
                right, count = right + int((found == targets).sum()), count + len(targets)
        accuracy = right / count
    torch.save(model.state_dict(), out / "model.pth")
    return accuracy


def train_transformers(plan: Plan, out: Path) -> float:
    """transformers' Trainer on timm's network, with torchvision's usual augmentation."""
    import timm
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2
    from transformers import Trainer, TrainingArguments

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = {"img_size": plan["size"]} if "vit" in plan["model"] else {}
            self.net = timm.create_model(plan["model"], num_classes=10, **size)

        def forward(self, pixel_values: Any, labels: Any) -> dict[str, Any]:
            logits = self.net(pixel_values)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    tail = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    tail.append(v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    crops = {
        "train": [v2.RandomResizedCrop(plan["size"]), v2.RandomHorizontalFlip()],
        "val": [v2.Resize((plan["size"], plan["size"]))],
    }
    sets = {
        split: ImageFolder(f"{plan['data']}/{split}", v2.Compose([*steps, *tail]))
        for split, steps in crops.items()
    }
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=plan["epochs"],
        per_device_train_batch_size=plan["batch"],
        per_device_eval_batch_size=plan["batch"],
        learning_rate=plan["lr"],
        weight_decay=2e-5,
        optim="sgd",
        optim_args="momentum=0.9",
        lr_scheduler_type="cosine",
        dataloader_num_workers=plan["workers"],
        eval_strategy="epoch",
        save_strategy="epoch",
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(
        model=Wrapped(),
        args=arguments,
        train_dataset=sets["train"],
        eval_dataset=sets["val"],
        data_collator=lambda samples: {
            "pixel_values": torch.stack([image for image, _ in samples]),
            "labels": torch.tensor([label for _, label in samples]),
        },
        compute_metrics=lambda found: {
            "accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())
        },
    )
    trainer.train()
    trainer.save_model(str(out / "last"))
    return float(trainer.evaluate()["eval_accuracy"])


def train_fastai(plan: Plan, out: Path) -> float:
    """fastai's Learner on timm's network; its schedule is its own one-cycle."""
    import timm
    from fastai.vision.all import (
        SGD,
        ImageDataLoaders,
        Learner,
        Normalize,
        RandomResizedCrop,
        accuracy,
        imagenet_stats,
    )

    loaders = ImageDataLoaders.from_folder(
        plan["data"],
        train="train",
        valid="val",
        item_tfms=RandomResizedCrop(plan["size"]),
        batch_tfms=Normalize.from_stats(*imagenet_stats),
        bs=plan["batch"],
        num_workers=plan["workers"],
    )
    size = {"img_size": plan["size"]} if "vit" in plan["model"] else {}
    net = timm.create_model(plan["model"], num_classes=10, **size)
    # Its SGD has neither momentum nor decay unless it is given them.
    optimizer = partial(SGD, mom=0.9)
    learner = Learner(loaders, net, metrics=accuracy, opt_func=optimizer, wd=2e-5, path=out)
    learner.fit_one_cycle(plan["epochs"], plan["lr"])
    learner.save("model")
    return float(learner.recorder.values[-1][2])


LOOPS: Mapping[str, Callable[[Plan, Path], float]] = {
    "timm": train_timm,
    "transformers": train_transformers,
    "fastai": train_fastai,
}

if __name__ == "__main__":
    name, plan_text, out_text = sys.argv[1:]
    out_dir = Path(out_text)
    out_dir.mkdir(parents=True, exist_ok=True)
    print("ACCURACY", LOOPS[name](json.loads(plan_text), out_dir))
