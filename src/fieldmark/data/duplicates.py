"""Find pictures that are the same or look it, so that they cannot sit on two sides of a split.

Pixel-identical pictures share a hash. Others are compared by how brightness varies locally in a
32 x 32 thumbnail, which changes little with encoding, size, exposure or a crop of a few per cent.
One fixed threshold cannot serve both leaves on white paper, where strangers look alike, and drawn
scenes, where they do not. So a pair counts only if it is much closer than either picture is to its
own neighbours: a ratio test, as D. Lowe's for keypoints (IJCV 2004, section 7.1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fieldmark.data.scan import COLOUR_SIDE, FINGERPRINT_BYTES, GREY_SIDE, Scan
from fieldmark.data.table import Row, Table

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Node = TypeVar("Node", bound=Hashable)

# Distances are 1 - cosine. Chosen on photographs of leaves, drawn faces, pictograms and CIFAR-10
# by looking at the pairs on both sides of each value.
SAME_DISTANCE = 0.03
LOOKALIKE_DISTANCE = 0.35
NEIGHBOUR_RATIO = 0.4
COLOUR_DISTANCE = 16.0

_BLUR_PX = 3.0
_CONTRAST_FLOOR = 4.0
_HASH_BITS = 256
_HASH_DISTANCE = 80
_NUM_SORTS = 32
_WINDOW = 16
_CROWD_SIZE = 10_000
_CHUNK = 8192
_BLOCK = 512  # what a description needs besides itself is five times as large


@dataclass(frozen=True)
class Duplicates:
    """Groups of image names, each sorted, in the order of their first names.

    exact: pictures whose pixels are identical. near: pictures that look alike, at least two of
    them with different pixels; a group's pixel-identical copies are in it too.
    """

    exact: tuple[tuple[str, ...], ...]
    near: tuple[tuple[str, ...], ...]

    def groups(self, *, near: bool = True) -> tuple[tuple[str, ...], ...]:
        """Disjoint groups: those of both kinds, or the exact ones alone."""
        if not near:
            return self.exact
        covered = {image for group in self.near for image in group}
        alone = [group for group in self.exact if group[0] not in covered]
        return tuple(sorted([*self.near, *alone]))


@dataclass(frozen=True)
class Conflict:
    """A row whose picture also stands under another label."""

    image: str
    label: str
    reason: str


def find_duplicates(scan: Scan, *, near: bool = True) -> Duplicates:
    """Group the readable images of a scan; the order in which they were read plays no part.

    Without `near` no look-alikes are searched, and the scan needs no fingerprints.
    """
    copies: defaultdict[str, list[str]] = defaultdict(list)
    for image in sorted(scan.facts):
        copies[scan.facts[image].pixel_hash].append(image)
    # Ordered by what is in the pictures, so that names and rows decide nothing below.
    pictures = [copies[pixel_hash] for pixel_hash in sorted(copies)]
    exact = tuple(sorted(tuple(names) for names in pictures if len(names) > 1))
    return Duplicates(exact, _group_look_alikes(scan, pictures) if near else ())


def _group_look_alikes(
    scan: Scan, pictures: Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], ...]:
    """Sorted groups of the names of pictures, each of which stands under one or more of them."""
    prints = b"".join(scan.facts[names[0]].fingerprint for names in pictures)
    fingerprints = np.frombuffer(prints, dtype=np.uint8).reshape(-1, FINGERPRINT_BYTES)
    pairs = find_near_pairs(fingerprints)
    groups = join_pairs((int(first), int(second)) for first, second in pairs)
    return tuple(
        sorted(
            tuple(sorted(name for index in group for name in pictures[index])) for group in groups
        )
    )


def find_conflicts(table: Table, duplicates: Duplicates) -> tuple[Conflict, ...]:
    """Rows of one picture, listed twice or pixel-identical, under different labels; in order."""
    picture_of = {image: group[0] for group in duplicates.exact for image in group}
    rows_of: defaultdict[str, list[Row]] = defaultdict(list)
    for row in table.rows:
        if row.labels:
            rows_of[picture_of.get(row.image, row.image)].append(row)
    conflicts = []
    for row in table.rows:
        rivals = [
            other
            for other in rows_of[picture_of.get(row.image, row.image)]
            if row.labels and set(other.labels) != set(row.labels)
        ]
        if rivals:
            rival = rivals[0]
            how = "listed again" if rival.image == row.image else f"the same as {rival.image}"
            conflicts.append(
                Conflict(row.image, row.label, f"is {how} under label '{rival.label}'")
            )
    return tuple(conflicts)


def drop_conflicts(table: Table, duplicates: Duplicates) -> tuple[Table, tuple[Conflict, ...]]:
    """Leave out every row in conflict, and all but the first of rows that say the same.

    Copies of one picture under one label stay: they are only kept on one side of the split.
    """
    conflicts = find_conflicts(table, duplicates)
    refused = {(conflict.image, conflict.label) for conflict in conflicts}
    kept: dict[tuple[str, tuple[str, ...], str | None], Row] = {}
    num_consistent = 0
    for row in table.rows:
        if (row.image, row.label) not in refused:
            num_consistent += 1
            kept.setdefault((row.image, row.labels, row.split), row)
    notes = []
    if conflicts:
        first = conflicts[0]
        notes.append(
            f"{len(conflicts)} images are left out because the same picture stands under "
            f"different labels, for example {first.image} ('{first.label}') {first.reason}."
        )
    if num_consistent > len(kept):
        notes.append(
            f"{num_consistent - len(kept)} rows repeat an image under the same label; "
            "each image is kept once."
        )
    return table.with_rows(list(kept.values()), *notes), conflicts


def join_pairs(pairs: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """Connected components of an undirected graph given by its edges."""
    parent: dict[Node, Node] = {}

    def root_of(node: Node) -> Node:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for first, second in pairs:
        parent[root_of(first)] = root_of(second)
    members: defaultdict[Node, list[Node]] = defaultdict(list)
    for node in parent:
        members[root_of(node)].append(node)
    return list(members.values())


def find_near_pairs(
    fingerprints: Bytes, wanted: Callable[[Indices], npt.NDArray[np.bool_]] | None = None
) -> Indices:
    """Index pairs (P, 2) of fingerprints (N, bytes) that show the same thing.

    The lower index comes first. `wanted` says of pairs (P, 2) which are to be looked at.
    """
    num_grey = GREY_SIDE**2
    grey, colour = fingerprints[:, :num_grey], fingerprints[:, num_grey:]
    candidates = _find_candidates(grey)
    if wanted is not None:
        candidates = candidates[wanted(candidates)]
    pairs, distance = _verify(grey, colour, candidates)
    doubtful = distance > SAME_DISTANCE
    images = np.unique(pairs[doubtful])
    crowd = np.full(len(grey), np.inf, dtype=np.float32)
    crowd[images] = _crowd_distance(grey, images)
    allowed = NEIGHBOUR_RATIO * crowd[pairs].min(axis=1, initial=np.inf)
    near: Indices = pairs[~doubtful | (distance <= allowed)]
    return near


def form_distance(first: Bytes, second: Bytes) -> Floats:
    """How unlike two thumbnails (P, 1024) are, pair by pair, (P,): 1 - cosine of local contrast."""
    distance: Floats = 1 - (_describe(first) * _describe(second)).sum(axis=1)
    return distance


def _find_candidates(grey: Bytes) -> Indices:
    """Pairs of images (P, 2) whose 256-bit hashes are close, without comparing all with all.

    The hash is the side of 256 random planes on which a description lies, so the share of
    differing bits is the angle between two descriptions over pi (Charikar, STOC 2002). Sorted by
    different choices of bits, close hashes come to stand near each other in some of the orders.
    """
    random = np.random.default_rng(256)
    planes = random.standard_normal((GREY_SIDE**2, _HASH_BITS), dtype=np.float32)
    bits = np.empty((len(grey), _HASH_BITS), dtype=np.bool_)
    for start in range(0, len(grey), _CHUNK):
        bits[start : start + _CHUNK] = _describe(grey[start : start + _CHUNK]) @ planes > 0
    words = np.packbits(bits, axis=1).view(np.uint64)
    found = [np.empty(0, dtype=np.int64)]
    for _ in range(_NUM_SORTS):
        chosen = random.permutation(_HASH_BITS)[:64]
        keys = np.ascontiguousarray(np.packbits(bits[:, chosen], axis=1)).view(">u8")
        order = np.argsort(keys[:, 0], kind="stable")
        found.append(np.unique(_close_in_order(words, order)))
    codes = np.unique(np.concatenate(found))
    pairs: Indices = np.stack(np.divmod(codes, max(len(grey), 1)), axis=1)
    return pairs


def _close_in_order(words: npt.NDArray[np.uint64], order: Indices) -> Indices:
    """Codes `low * N + high` of neighbours in `order` whose hashes (N, words) are close."""
    codes = [np.empty(0, dtype=np.int64)]
    sorted_words = words[order]
    for step in range(1, min(_WINDOW, len(order) - 1) + 1):
        differing = np.bitwise_count(sorted_words[step:] ^ sorted_words[:-step])
        close = np.flatnonzero(differing.sum(axis=1, dtype=np.int64) <= _HASH_DISTANCE)
        first, second = order[close], order[close + step]
        codes.append(np.minimum(first, second) * len(words) + np.maximum(first, second))
    return np.concatenate(codes)


def _verify(grey: Bytes, colour: Bytes, pairs: Indices) -> tuple[Indices, Floats]:
    """The pairs that look alike in form and colour, and their distances in form."""
    kept, distances = [np.empty((0, 2), dtype=np.int64)], [np.empty(0, dtype=np.float32)]
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        distance = form_distance(grey[chunk[:, 0]], grey[chunk[:, 1]])
        difference = colour[chunk[:, 0]].astype(np.float32) - colour[chunk[:, 1]]
        # A cast over the whole picture is a matter of light, not of what it shows.
        planes = difference.reshape(-1, 2, COLOUR_SIDE**2)
        planes -= planes.mean(axis=2, keepdims=True)
        alike = distance <= LOOKALIKE_DISTANCE
        alike &= np.sqrt((planes**2).sum(axis=1).mean(axis=1)) <= COLOUR_DISTANCE
        kept.append(chunk[alike])
        distances.append(distance[alike])
    return np.concatenate(kept), np.concatenate(distances)


def _crowd_distance(grey: Bytes, images: Indices) -> Floats:
    """How far each of `images` is from its 10th nearest of a sample; nearer ones in small sets.

    The sample is the first 10,000 pictures; their order is that of their hashes, hence random.
    """
    sample = _describe(grey[:_CROWD_SIZE])
    rank = min(max(len(sample) // 50, 3), 10, len(sample) - 1)
    distances = [np.empty(0, dtype=np.float32)]
    for start in range(0, len(images), 1024):
        chunk = images[start : start + 1024]
        distance = 1 - _describe(grey[chunk]) @ sample.T
        distance[chunk[:, None] == np.arange(len(sample))] = np.inf
        distances.append(np.partition(distance, rank, axis=1)[:, rank])
    return np.concatenate(distances)


def _describe(grey: Bytes) -> Floats:
    """Unit vectors (N, 1024) of local contrast; zeros, at distance 1 from all, for a blank one."""
    described = np.empty((len(grey), GREY_SIDE**2), dtype=np.float32)
    for start in range(0, len(grey), _BLOCK):
        block = grey[start : start + _BLOCK]
        pixels = block.reshape(-1, GREY_SIDE, GREY_SIDE).astype(np.float32)
        detail = pixels - _blur(pixels)
        local = detail / (np.sqrt(np.maximum(_blur(detail**2), 0)) + _CONTRAST_FLOOR)
        vectors = local.reshape(-1, GREY_SIDE**2)
        length = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        described[start : start + _BLOCK] = vectors / np.maximum(length, 1e-6)
    return described


def _blur(pixels: Floats) -> Floats:
    """Gaussian mean around each pixel of (N, 32, 32), of what lies inside the picture."""
    position = np.arange(GREY_SIDE, dtype=np.float32)
    weights = np.exp(-((position[:, None] - position) ** 2) / (2 * _BLUR_PX**2))
    weights /= weights.sum(axis=1, keepdims=True)
    blurred: Floats = weights @ pixels @ weights.T
    return blurred
