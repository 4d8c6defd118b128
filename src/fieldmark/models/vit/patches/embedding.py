"""Images to tokens: the plain embedding, the published one of all views, and the sum of both."""

from __future__ import annotations

import torch
from timm.layers.format import nchw_to
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from fieldmark.errors import ImageSizeError, ModelError
from fieldmark.models.vit.patches.tokens import ViewTokens
from fieldmark.recipes.schema import Patches


def build_patch_embedding(
    patches: Patches,
    *,
    image_size: int,
    patch_size: int,
    width: int,
    in_channels: int = 3,
    plain: nn.Module | None = None,
) -> nn.Module:
    """Return what maps images (B, C, H, W) to tokens (B, N, D), row by row.

    `patches.form` is "published" or "added", not "auto". `plain` is timm's `PatchEmbed` of the
    same sizes, to stay (plain), to be added to (added) or replaced (published); without it a new
    one is made. New projections start Xavier-uniform with zero bias, as Keras starts a dense layer.
    Raises `ImageSizeError` where patches do not tile the image, and `ModelError` for patches that
    have no half and for a `plain` of another kind.
    """
    if image_size % patch_size:
        raise ImageSizeError(_explain_size(image_size, patch_size))
    if plain is None:
        plain = PatchEmbed(image_size, patch_size, in_channels, width)
        nn.init.xavier_uniform_(plain.proj.weight.view(width, -1))
        nn.init.constant_(plain.proj.bias, 0.0)  # type: ignore[arg-type]
    if patches.kind == "plain":
        return plain
    if patches.form == "auto":
        raise ValueError("patches.form: decide between 'published' and 'added' before building")
    views = ViewTokens(
        patches,
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        in_channels=in_channels,
    )
    return ViewPatchEmbed(views, plain, keeps_plain=patches.form == "added")


class ViewPatchEmbed(nn.Module):
    """Tokens of views, with the attributes that timm's networks read of a patch embedding.

    Published: `views` alone. Added: also `proj` and `norm` of the plain embedding, under their own
    names so that published weights load; the projection in `views` starts at zero.
    """

    def __init__(self, views: ViewTokens, plain: nn.Module, *, keeps_plain: bool) -> None:
        """Take sizes and layout from `plain`, timm's `PatchEmbed`.

        Raises `ModelError` where it is none, or where it cuts anything but square patches.
        """
        super().__init__()
        plain = check_plain(plain)
        self.img_size: tuple[int, int] = plain.img_size
        self.patch_size: tuple[int, int] = plain.patch_size
        self.grid_size: tuple[int, int] = plain.grid_size
        self.num_patches: int = plain.num_patches
        self.flatten: bool = plain.flatten
        self.output_fmt = plain.output_fmt
        self.strict_img_size: bool = plain.strict_img_size
        self.dynamic_img_pad = False
        self.proj: nn.Conv2d | None = plain.proj if keeps_plain else None
        self.norm: nn.Module | None = plain.norm if keeps_plain else None
        self.views = views
        if keeps_plain:
            nn.init.zeros_(views.proj.weight)
            nn.init.zeros_(views.proj.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> tokens (B, N, D), or (B, h, w, D) where timm wants a map."""
        self._check_size(*images.shape[-2:])
        tokens: Tensor = self.views(images)
        if self.proj is not None and self.norm is not None:
            plain = self.norm(self.proj(images).flatten(2).transpose(1, 2))
            tokens = plain + tokens
        if self.flatten:
            return tokens
        grid = self.dynamic_feat_size((images.shape[2], images.shape[3]))
        maps = torch.unflatten(tokens.transpose(1, 2), 2, grid)
        return nchw_to(maps, self.output_fmt)  # type: ignore[no-any-return]

    def feat_ratio(self, as_scalar: bool = True) -> int | tuple[int, int]:
        """Pixels per token, as timm asks for them."""
        return max(self.patch_size) if as_scalar else self.patch_size

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Grid (h, w) of images of that size."""
        return img_size[0] // self.patch_size[0], img_size[1] // self.patch_size[1]

    def set_input_size(
        self,
        img_size: int | tuple[int, int] | None = None,
        patch_size: int | tuple[int, int] | None = None,
    ) -> None:
        """Expect images of another size from now on; patches keep theirs."""
        if patch_size is not None and patch_size not in (self.patch_size, self.patch_size[0]):
            raise ModelError(
                f"model.patches: patches of {self.patch_size[0]} px cannot become {patch_size} px "
                "once the network is built. Build it with the other patch size."
            )
        if img_size is not None:
            self.img_size = (img_size, img_size) if isinstance(img_size, int) else img_size
            self.grid_size = self.dynamic_feat_size(self.img_size)
            self.num_patches = self.grid_size[0] * self.grid_size[1]

    def _check_size(self, height: int, width: int) -> None:
        if self.strict_img_size and (height, width) != tuple(self.img_size):
            raise ImageSizeError(
                f"images of {width} x {height} px in a network built for "
                f"{self.img_size[1]} x {self.img_size[0]} px. Resize them, or set data.image_size."
            )
        for size in (height, width):
            if size % self.patch_size[0]:
                raise ImageSizeError(_explain_size(size, self.patch_size[0]))


def check_plain(plain: object) -> PatchEmbed:
    """Return timm's `PatchEmbed` of square patches, or raise `ModelError`."""
    if type(plain) is not PatchEmbed or not isinstance(plain.proj, nn.Conv2d):
        raise ModelError(
            f"model.patches: {type(plain).__name__} does not cut images into patches by one "
            "convolution, so it has no shifted or rotated form. Choose a Vision Transformer such "
            "as vit_tiny_patch16_224, or model.patches=plain."
        )
    rows, columns = plain.patch_size
    if rows != columns or plain.dynamic_img_pad:
        raise ModelError(
            f"model.patches: patches of {columns} x {rows} px, padded to size or not square, have "
            "no shifted or rotated form. Choose another network, or model.patches=plain."
        )
    return plain


def _explain_size(image_size: int, patch_size: int) -> str:
    """Say which sizes near `image_size` patches of that size tile."""
    lower = image_size - image_size % patch_size
    sizes = [size for size in (lower, lower + patch_size) if size > 0]
    return (
        f"data.image_size: patches of {patch_size} px do not divide images of {image_size} px. "
        f"The nearest sizes that work are {' and '.join(map(str, sizes))} px. "
        f"Set data.image_size={sizes[-1]}."
    )
