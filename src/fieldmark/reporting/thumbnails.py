"""Pictures small enough to live inside a page."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from fieldmark.data.images import decode_image
from fieldmark.data.stores import ImageStore
from fieldmark.errors import UnreadableImageError

JPEG_QUALITY = 80


@dataclass(frozen=True)
class Thumbnails:
    """Draws images of a store as JPEG data URIs."""

    store: ImageStore

    def encode(self, image: str, side_px: int) -> str | None:
        """The image with its longer side at most `side_px`; None where it cannot be read."""
        try:
            picture = decode_image(self.store.read(image))
        except UnreadableImageError:
            return None
        picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        out = BytesIO()
        picture.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
        return "data:image/jpeg;base64," + b64encode(out.getvalue()).decode("ascii")
