"""Transforms: images into tensors for training and evaluation, built from one record."""

from fieldmark.transforms.geometry import Picture
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
from fieldmark.transforms.views import PLAIN, View, ViewTransform, choose_views, is_random

__all__ = [
    "PLAIN",
    "EvalTransform",
    "Picture",
    "Preparation",
    "TrainTransform",
    "TransformRecord",
    "View",
    "ViewTransform",
    "build_eval_transform",
    "build_train_transform",
    "build_transform_record",
    "choose_views",
    "is_random",
    "measure_statistics",
    "mix_batch",
]
