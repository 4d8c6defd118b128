"""Transforms: images into tensors for training and evaluation, built from one record."""

from fieldmark.transforms.mixing import mix_batch
from fieldmark.transforms.pipelines import (
    EvalTransform,
    TrainTransform,
    build_eval_transform,
    build_train_transform,
)
from fieldmark.transforms.preparation import Preparation
from fieldmark.transforms.record import TransformRecord, build_transform_record
from fieldmark.transforms.statistics import measure_statistics

__all__ = [
    "EvalTransform",
    "Preparation",
    "TrainTransform",
    "TransformRecord",
    "build_eval_transform",
    "build_train_transform",
    "build_transform_record",
    "measure_statistics",
    "mix_batch",
]
