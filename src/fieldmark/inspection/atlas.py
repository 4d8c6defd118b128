"""A map of a split: images that the network sees alike lie close together."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from fieldmark.data.stores import ImageStore
from fieldmark.data.table import Table
from fieldmark.errors import InspectionError
from fieldmark.inspection.frames import bare
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.pictures import choose_rows
from fieldmark.inspection.readings import Count, ignore_count, need_table, read_features
from fieldmark.inspection.specimens import read_picture, say, shorten
from fieldmark.inspection.style import FAINT, INK, SERIES, SMALL_PT, new_figure
from fieldmark.inspection.subject import Subject
from fieldmark.runs.figures import Drawing

MOST_IMAGES = 1000
THUMBNAIL_PX, THUMBNAIL_QUALITY = 72, 62
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
MOST_NAMED = 40


@dataclass(frozen=True)
class Spot:
    """An image on the map: x and y in 0..1, y upwards."""

    image: str
    label: str
    x: float
    y: float


def compute_atlas(
    subject: Subject, table: Table, *, seed: int = 0, count: Count = ignore_count
) -> list[Spot]:
    """Place the images of `table` by t-SNE of their pooled features (van der Maaten 2008).

    Features become unit vectors, so that distance is cosine; perplexity 30, less for few images;
    start from the principal components. Distances within a cluster mean more than those between
    clusters. Raises `InspectionError` for fewer than 5 readable images.
    """
    from sklearn.manifold import TSNE

    readings = read_features(subject, table, count=count)
    number = len(readings.images)
    if number < 5:
        raise InspectionError(f"neighbours: {number} images are too few for a map, which takes 5")
    lengths = np.linalg.norm(readings.values, axis=1, keepdims=True)
    units = readings.values / np.maximum(lengths, np.finfo(np.float32).tiny)
    perplexity = min(30.0, (number - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(
        units
    )
    low, high = places.min(axis=0), places.max(axis=0)
    scaled = (places - low) / np.maximum(high - low, 1e-12)
    return [
        Spot(image, label, float(x), float(y))
        for image, label, (x, y) in zip(readings.images, readings.labels, scaled, strict=True)
    ]


def draw_atlas(subject: Subject, options: InspectOptions) -> Drawing:
    """The map of a split as a figure, coloured by class."""
    table = need_table(subject, "draw a map of")
    part = table.select(options.split)
    rows = choose_rows(part, MOST_IMAGES, options.seed)
    spots = compute_atlas(
        subject,
        table.with_rows(rows),
        seed=options.seed,
        count=lambda done, total: options.progress("features of the map", done, total),
    )
    title = f"Map of the {options.split} split, seen by {subject.model}"
    which = "all" if len(rows) == len(part) else f"{len(rows)} of the {len(part)}"
    caption = (
        f"{subject.model}: {which} images of the {options.split} split, t-SNE of the pooled "
        f"features by cosine, seed {options.seed}. Each class has a colour and a mark; names "
        "stand above the middle one of their images."
    )
    figure = draw_spots(spots, title=title, subtitle=caption)
    page = _as_page(render_atlas(spots, table.store, title=caption), title)
    return Drawing(
        "neighbours", subject.model, f"map-{options.split}", title, caption, figure, page
    )


def draw_spots(spots: Sequence[Spot], *, title: str, subtitle: str) -> Figure:
    """The spots, a name at the median of each class."""
    figure, box = new_figure(7.4, 6.6, title, subtitle)
    axes = box.axes(0, 0, 7.4, 6.6)
    labels = sorted({spot.label for spot in spots})
    for index, label in enumerate(labels):
        places = np.array([(s.x, s.y) for s in spots if s.label == label])
        axes.scatter(
            places[:, 0],
            places[:, 1],
            s=17,
            color=_colour(index),
            marker=_marker(index),
            linewidths=0.3,
            edgecolors="white",
            alpha=0.85,
        )
    if len(labels) <= MOST_NAMED:
        for label, (x, y) in _name_places(spots, labels).items():
            text = axes.text(
                x, y, shorten(say(label), 24), fontsize=SMALL_PT - 1, color=INK, ha="center"
            )
            text.set_bbox({"facecolor": "white", "alpha": 0.62, "linewidth": 0, "pad": 0.6})
    else:
        axes.text(0, -0.02, f"{len(labels)} classes", fontsize=SMALL_PT, color=FAINT, va="top")
    bare(axes)
    axes.margins(0.03)
    return figure


def _name_places(spots: Sequence[Spot], labels: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Of each class the spot nearest to its median, moved up where names would overlap."""
    found: dict[str, tuple[float, float]] = {}
    middles = {}
    for label in labels:
        places = np.array([(s.x, s.y) for s in spots if s.label == label])
        distances = np.linalg.norm(places - np.median(places, axis=0), axis=1)
        middles[label] = places[distances.argmin()]
    for label, middle in sorted(middles.items(), key=lambda entry: float(entry[1][1])):
        x, y = float(middle[0]), float(middle[1]) + 0.012
        while any(abs(x - a) < 0.17 and abs(y - b) < 0.021 for a, b in found.values()):
            y += 0.006
        found[label] = (x, y)
    return found


def render_atlas(spots: Sequence[Spot], store: ImageStore, *, title: str) -> str:
    """The map as a piece of a page: hovering, touching or tabbing shows image and label.

    Self-contained: its own style, script and thumbnails, nothing is loaded. Names and labels
    come from users' files and are escaped. Works without the script, then without thumbnails.
    """
    labels = sorted({spot.label for spot in spots})
    place_of = {label: index for index, label in enumerate(labels)}
    marks = "".join(
        f'<circle class="spot" cx="{20 + 660 * spot.x:.1f}" cy="{500 - 480 * spot.y:.1f}" r="5" '
        f'fill="{_colour(place_of[spot.label])}" data-place="{place}">'
        f"<title>{_safe(spot.label)}: {_safe(spot.image)}</title></circle>"
        for place, spot in enumerate(spots)
    )
    content = [
        {"label": _as_text(s.label), "image": _as_text(s.image), "src": _thumbnail(store, s.image)}
        for s in spots
    ]
    # In a script nothing is escaped but what could end it.
    data = json.dumps(content, ensure_ascii=True).replace("<", "\\u003c")
    return (
        f'<figure class="atlas"><style>{_STYLE}</style>'
        f'<svg viewBox="0 0 700 520" role="img" tabindex="0" aria-label="{_safe(title)}">'
        f'{marks}</svg><div class="atlas-card" hidden><img alt=""><b></b><span></span></div>'
        f"<figcaption>{_safe(title)}</figcaption>"
        f'<script type="application/json">{data}</script><script>{_SCRIPT}</script></figure>'
    )


def _as_page(piece: str, title: str) -> str:
    """A piece as a page of its own, which can load nothing."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{_safe(title)}</title><style>{_PAGE_STYLE}</style></head>"
        f"<body><h1>{_safe(title)}</h1>{piece}</body></html>"
    )


_PAGE_STYLE = (
    ":root{color-scheme:light dark}body{max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "font:1rem/1.5 system-ui,sans-serif}h1{font-size:1.3rem}.atlas{max-width:none!important}"
)

_STYLE = (
    ".atlas{position:relative;margin:0;max-width:44rem}"
    ".atlas svg{width:100%;height:auto;display:block}"
    ".atlas .spot{opacity:.82;stroke:#fff;stroke-width:.8;cursor:pointer}"
    ".atlas .spot.chosen{opacity:1;stroke:#000;stroke-width:2}"
    ".atlas-card{position:absolute;display:grid;gap:.15rem;padding:.5rem;border-radius:6px;"
    "background:#fff;color:#1d2321;font:.8rem/1.3 system-ui,sans-serif;max-width:11rem;"
    "box-shadow:0 2px 12px #0004;pointer-events:none;overflow-wrap:anywhere}"
    ".atlas-card[hidden]{display:none}.atlas-card img{width:100%;border-radius:3px}"
)

_SCRIPT = (
    "(()=>{const f=document.currentScript.parentElement,"
    "d=JSON.parse(f.querySelector('script[type]').textContent),"
    "v=f.querySelector('svg'),c=f.querySelector('.atlas-card'),s=[...v.querySelectorAll('.spot')];"
    "let n=-1;const show=i=>{if(n>=0)s[n].classList.remove('chosen');n=i;"
    "if(i<0){c.hidden=true;return}const e=s[i],p=d[i];e.classList.add('chosen');"
    "const g=c.querySelector('img');g.hidden=!p.src;if(p.src)g.src=p.src;"
    "c.querySelector('b').textContent=p.label;c.querySelector('span').textContent=p.image;"
    "c.hidden=false;const a=e.getBoundingClientRect(),b=f.getBoundingClientRect(),"
    "l=a.left-b.left;c.style.top=a.bottom-b.top+6+'px';"
    "c.style.left=Math.max(0,Math.min(l,b.width-c.offsetWidth))+'px'};"
    "v.addEventListener('pointerover',e=>{const t=e.target.closest('.spot');"
    "show(t?+t.dataset.place:-1)});v.addEventListener('pointerleave',()=>show(-1));"
    "v.addEventListener('blur',()=>show(-1));v.addEventListener('keydown',e=>{"
    "const k={ArrowRight:1,ArrowDown:1,ArrowLeft:-1,ArrowUp:-1}[e.key];"
    "if(k){e.preventDefault();show((n+k+s.length)%s.length)}else if(e.key=='Escape')show(-1)})})()"
)


def _thumbnail(store: ImageStore, image: str) -> str:
    pixels: NDArray[np.uint8] = read_picture(store, image, THUMBNAIL_PX)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + b64encode(out.getvalue()).decode("ascii")


def _safe(text: str) -> str:
    return html.escape(_as_text(text), quote=True)


def _as_text(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _colour(index: int) -> str:
    return SERIES[index % len(SERIES)]


def _marker(index: int) -> str:
    return MARKERS[index // len(SERIES) % len(MARKERS)]
