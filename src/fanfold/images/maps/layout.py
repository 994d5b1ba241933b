"""The layout of a map: its landmarks, and their places on the plane."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fanfold.images.search.rows import Vectors

SIDE = 65_536
"""The map is a square of this many units a side."""

Spots = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layout:
    """Landmarks and their places, and how to compare a vector with them."""

    mean: Vectors
    """float32[dimension]"""
    axes: Vectors
    """float32[components, dimension], of length 1"""
    landmarks: Vectors
    """float32[landmarks, components]"""
    spots: Spots
    """float32[landmarks, 2]: x and y, in units of the map"""
    rows: int
    """Rows of the table when the layout was made."""

    def components(self, directions: Vectors) -> Vectors:
        """Vectors of length 1 as they are compared. float32[n, components]"""
        return np.asarray((directions - self.mean) @ self.axes.T, np.float32)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The layout as it is kept."""
        named = {"mean": self.mean, "axes": self.axes, "landmarks": self.landmarks, "spots": self.spots}
        return named | {"laid_out": np.array(self.rows)}

    @classmethod
    def of(cls, arrays: dict[str, npt.NDArray[Any]]) -> "Layout | None":
        """The layout in what is kept, or None if that is not one: a database may come from a stranger."""
        try:
            mean, axes, landmarks, spots = (
                arrays[name].astype(np.float32, casting="safe") for name in ("mean", "axes", "landmarks", "spots")
            )
            rows = int(arrays["laid_out"])
        except (KeyError, TypeError, ValueError):
            return None
        fits = (
            axes.shape == (landmarks.shape[-1], len(mean))
            and landmarks.shape == (len(spots), len(axes))
            and spots.shape == (len(landmarks), 2)
            and all(np.isfinite(some).all() for some in (mean, axes, landmarks, spots))
        )
        return cls(mean, axes, landmarks, spots, rows) if fits else None
