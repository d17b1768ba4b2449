"""From features to a probability: a small logistic model whose coefficients are a data file.

`eval/calibration/<model>-<readout>.json` holds feature names, means, scales, coefficients and thresholds, and says
what it was fitted on. A model without a file of its own gets `generic`, and the fingerprint says so.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coach.config import resource
from coach.errors import CoachError
from coach.text import sha256


@dataclass(frozen=True, slots=True)
class Head:
    """logit P = intercept + Σ coefficient · (feature − mean) / scale."""

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficient: tuple[float, ...]
    intercept: float

    def probability(self, values: dict[str, float]) -> float:
        z = self.intercept
        for name, mean, scale, coefficient in zip(
            self.features, self.mean, self.scale, self.coefficient, strict=True
        ):
            z += coefficient * (values[name] - mean) / scale
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, z))))


@dataclass(frozen=True, slots=True)
class Levels:
    """Ordered logit (McCullagh 1980): P(at least the share s of the levels) = σ(slope · logit − cut(s)).

    `logit` is that of the claim the highest level describes. `cuts` stand at equal shares up to 1, between them they
    are interpolated: a rubric of two levels reads the same file as one of three.
    """

    slope: float
    cuts: tuple[float, ...]

    def probabilities(self, logit: float, top: int) -> tuple[float, ...]:
        """P(level = n) for n in 0 … top."""
        at_least = [1.0]
        for n in range(1, top + 1):
            where = n / top * len(self.cuts) - 1
            below = max(0, min(len(self.cuts) - 2, math.floor(where)))
            cut = self.cuts[below] + (where - below) * (self.cuts[below + 1] - self.cuts[below])
            at_least.append(1 / (1 + math.exp(max(-30.0, min(30.0, cut - self.slope * logit)))))
        return tuple(p - q for p, q in zip(at_least, [*at_least[1:], 0.0], strict=True))


@dataclass(frozen=True, slots=True)
class Calibration:
    """`version` names file and content. `covered` > `partial` are probability thresholds of the verdicts.

    `made_for`: digests of model, adapter and prompt that it was fitted on, None when it is for anyone. `levels` is
    None when the readout was never fitted on criteria.
    """

    version: str
    fitted_on: str
    made_for: dict[str, str] | None
    point: Head
    pitfall: Head
    covered: float
    partial: float
    asserted: float
    levels: Levels | None


def _head(data: dict[str, Any]) -> Head:
    return Head(
        features=tuple(data["features"]),
        mean=tuple(data["mean"]),
        scale=tuple(data["scale"]),
        coefficient=tuple(data["coefficient"]),
        intercept=data["intercept"],
    )


def load_calibration(model: str, readout: str, folder: Path | None = None) -> Calibration:
    folder = folder or resource("eval") / "calibration"
    path = folder / f"{model}-{readout}.json"
    if not path.is_file():
        path = folder / "generic.json"
    try:
        text = path.read_text(encoding="utf8")
        data = json.loads(text)
        thresholds = data["thresholds"]
        return Calibration(
            version=f"{path.stem}@{sha256(text)[:8]}",
            fitted_on=data["fitted_on"],
            made_for=data.get("made_for"),
            point=_head(data["point"]),
            pitfall=_head(data["pitfall"]),
            covered=thresholds["covered"],
            partial=thresholds["partial"],
            asserted=thresholds["asserted"],
            levels=Levels(data["levels"]["slope"], tuple(data["levels"]["cuts"]))
            if "levels" in data
            else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CoachError(
            f"{path}: the calibration cannot be read: {e}", "restore the file from the distribution"
        ) from e
