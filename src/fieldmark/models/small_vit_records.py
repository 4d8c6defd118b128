"""Records of the Vision Transformer for small sets."""

from __future__ import annotations

from fieldmark.models.records import ModelRecord

SMALL_VIT_RECORDS: tuple[ModelRecord, ...] = ()
