"""Numbers and other values as people read them; the filters of the templates."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

_MINUS = "\N{MINUS SIGN}"
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "top5_accuracy": "top-5 accuracy",
    "macro_f1": "macro-F1",
    "kappa": "Cohen’s κ",
    "sum": "sum of accuracy, macro-F1 and κ",
    "nll": "NLL",
    "ece": "calibration error",
    "brier": "Brier score",
    "auroc": "AUROC",
}


def name_metric(name: str) -> str:
    """The key of a metric as people say it."""
    return _METRICS.get(name, name.replace("_", " "))


def say_share(value: float) -> str:
    """0.8734 -> '87.3 %'."""
    return f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"


def say_number(value: float) -> str:
    """A score with three decimals, and a true minus sign."""
    return f"{value:.3f}".replace("-", _MINUS)


def say_signed(value: float) -> str:
    """0.014 -> '+0.014', with a true minus sign."""
    return f"{value:+.3f}".replace("-", _MINUS)


def say_signed_share(value: float) -> str:
    """0.0173 -> '+1.7 %'."""
    return f"{100 * value:+.1f}\N{NARROW NO-BREAK SPACE}%".replace("-", _MINUS)


def say_p_value(value: float) -> str:
    """0.0002 -> '< 0.001'."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def say_plain(value: float) -> str:
    """A round number without superfluous zeros."""
    return f"{value:g}".replace("-", _MINUS)


def say_count(value: int) -> str:
    """12345 -> '12 345', with narrow spaces."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def say_duration(seconds: float) -> str:
    """4.2 -> '4.2 s', 340 -> '5 min 40 s', 7300 -> '2 h 2 min'."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def say_memory(megabytes: float) -> str:
    """812.4 -> '812 MB', 20300 -> '20.3 GB'."""
    return f"{megabytes:.0f} MB" if megabytes < 10_000 else f"{megabytes / 1000:.1f} GB"


def say_energy(watt_hours: float) -> str:
    """0.42 -> '0.42 Wh', 1830 -> '1.83 kWh'."""
    return f"{watt_hours:.2f} Wh" if watt_hours < 1000 else f"{watt_hours / 1000:.2f} kWh"


def say_command(words: Sequence[str]) -> str:
    """The words of a command as one would type them."""
    if words and words[0] == "__main__.py":
        words = ["python", "-m", "fieldmark", *words[1:]]
    return shlex.join(words)


def say_sentence(text: str) -> str:
    """The text with a capital at its start and a full stop at its end."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def shorten(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis where it is longer."""
    return text if len(text) <= length else text[: length - 1].rstrip() + _ELLIPSIS


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that reach from `low` or below to `high` or above."""
    high = high if high > low else low + 1.0
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.999 * rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


WORDING: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "share": say_share,
        "number": say_number,
        "count": say_count,
        "signed": say_signed,
        "signed_share": say_signed_share,
        "p_value": say_p_value,
        "plain": say_plain,
        "command": say_command,
        "sentence": say_sentence,
    }
)
