"""Records of the networks of the image-classification lecture and of CIFAR-10's ResNets."""

from __future__ import annotations

from fieldmark.models.records import ModelRecord

CLASSIC_RECORDS: tuple[ModelRecord, ...] = ()
