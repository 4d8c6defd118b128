"""Images as tensors for training: plain JPEGs by torchvision's decoder, the rest by Pillow.

Both are libjpeg-turbo. torchvision's takes two thirds of the time, because it writes rows of three
bytes a pixel at once, where Pillow writes four, copies them, and copies them again for torch. What
it does not decode, Pillow decodes or refuses with a reason.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from fieldmark.data.images import LeastSize, check_jpeg_scans, decode_image, probe_image

# From here on, decoding a part of the DCT coefficients beats decoding all by another decoder.
_WORTH_REDUCING = 4


def decode_pixels(data: bytes, *, least_size: LeastSize | None = None) -> Tensor:
    """Decode the bytes of an image as `decode_image` does: (3, H, W) uint8, stored as (H, W, 3).

    With `least_size`, a JPEG comes whole unless a quarter of its sides is enough. Raises
    `UnreadableImageError`.
    """
    if data.startswith(b"\xff\xd8\xff") and _decoders_agree():
        pixels = _decode_plain(data, least_size)
        if pixels is not None:
            return pixels
    picture = decode_image(data, least_size=least_size)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _decode_plain(data: bytes, least_size: LeastSize | None) -> Tensor | None:
    """The pixels of an upright JPEG of three colours; None where that is for Pillow to do."""
    header = probe_image(data)
    if header.format != "JPEG" or header.mode != "RGB" or header.orientation != 1:
        return None
    if least_size is not None:
        height, width = least_size(header.height, header.width)
        if min(header.height / height, header.width / width) >= _WORTH_REDUCING:
            return None
    check_jpeg_scans(data)
    try:
        return _decode_jpeg(data)
    except RuntimeError:
        return None


def _decode_jpeg(data: bytes) -> Tensor:
    # A tensor of `bytes` would be one that must not be written to, of which torch warns.
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels: Tensor = decode_jpeg(encoded, mode=ImageReadMode.RGB)
    return pixels


@cache
def _decoders_agree() -> bool:
    """Whether torchvision is there with its decoder, and gives the same bits as Pillow.

    As both come with a libjpeg of their own, a build may differ; prediction uses Pillow.
    """
    noise = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        file = BytesIO()
        Image.fromarray(noise).save(file, "JPEG", subsampling=subsampling)
        data = file.getvalue()
        try:
            theirs = _decode_jpeg(data).permute(1, 2, 0).numpy()
        except RuntimeError:
            return False
        if not np.array_equal(theirs, np.array(decode_image(data))):
            return False
    return True
