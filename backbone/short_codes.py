"""Codes of 64 bytes in the place of long descriptors, in whose order the nearest of a gallery come early."""

import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backbone.files import atomic_file
from backbone.reading import check_archive, pass_on_lack_of_memory

if TYPE_CHECKING:  # it takes a while to import
    import faiss

COMPONENTS = 256
CENTRES = 16  # of a pair of components: 4 bits
FITTED_ROWS = 16_384
LEAST_ROWS = 39 * CENTRES  # below which faiss warns
LARGEST = 60_000.0  # in float16


@dataclass(frozen=True, eq=False)
class Coder:
    """A map from descriptors to codes, fitted to some of them.

    A descriptor is centred, turned to its principal components (at most 256) and coded by the nearest of 16
    centres for each pair of these (product quantisation: Jegou et al., 2011).

    Attributes:
        mean: the mean descriptor, float32 (D,).
        scale: length that makes a centred descriptor's numbers fit float16, float32 ().
        projection: the principal components, float32 (D, K).
        centres: centres of each part of the components, float32 (M, 16, K / M).
    """

    mean: np.ndarray
    scale: np.ndarray
    projection: np.ndarray
    centres: np.ndarray

    @staticmethod
    def fit(descriptors: np.ndarray) -> "Coder":
        """Fit the map to descriptors, float32 (N, D), or to 16,384 rows spread over them."""
        import faiss  # as scipy, it takes a while
        import scipy.linalg

        rows = np.unique(np.linspace(0, len(descriptors) - 1, min(FITTED_ROWS, len(descriptors))).astype(np.int64))
        sample = descriptors[rows]
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        sample = sample - mean
        size = sample.shape[1]
        covariance = sample.T @ sample / len(sample)
        scale = np.float32(np.sqrt(np.trace(covariance, dtype=np.float64) / size) or 1)
        kept = (max(size - COMPONENTS, 0), size - 1)
        _, components = scipy.linalg.eigh(covariance, subset_by_index=kept)
        components = components[:, ::-1]
        if components.shape[1] % 2 == 0:  # one of much variance with one of little: both share 16 centres
            halves = np.arange(components.shape[1]).reshape(2, -1)
            components = components[:, halves.T.ravel()]
        projection = np.ascontiguousarray(components, dtype=np.float32)
        short = sample @ projection
        short = np.ascontiguousarray(short[np.arange(max(len(short), LEAST_ROWS)) % len(short)])
        quantizer = faiss.ProductQuantizer(short.shape[1], _num_parts(short.shape[1]), 4)
        quantizer.train(short)
        centres = faiss.vector_to_array(quantizer.centroids).reshape(quantizer.M, CENTRES, -1)
        return Coder(mean, np.asarray(scale), projection, centres)

    def halves(self, descriptors: np.ndarray) -> np.ndarray:
        """Return centred and scaled descriptors, float16 (N, D), of the descriptors, float32 (N, D)."""
        return np.clip((descriptors - self.mean) / self.scale, -LARGEST, LARGEST).astype(np.float16)

    def project(self, descriptors: np.ndarray) -> np.ndarray:
        """Return the principal components, float32 (N, K), of descriptors, float32 (N, D)."""
        return np.ascontiguousarray((descriptors - self.mean) @ self.projection)

    def codes(self, descriptors: np.ndarray) -> np.ndarray:
        """Return the codes, uint8 (N, M / 2 rounded up), of descriptors, float32 (N, D)."""
        return self._quantizer().compute_codes(self.project(descriptors))

    def index(self, codes: np.ndarray) -> "faiss.Index":
        """Return faiss's index over codes, in which `project`ed queries are searched."""
        import faiss

        plain = faiss.IndexPQ(self.projection.shape[1], len(self.centres), 4)
        plain.pq = self._quantizer()
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), plain.codes)
        plain.ntotal, plain.is_trained = len(codes), True
        return faiss.IndexPQFastScan(plain)

    def _quantizer(self) -> "faiss.ProductQuantizer":
        import faiss

        quantizer = faiss.ProductQuantizer(self.projection.shape[1], len(self.centres), 4)
        faiss.copy_array_to_vector(np.ascontiguousarray(self.centres).ravel(), quantizer.centroids)
        return quantizer

    def save(self, path: Path) -> None:
        """Write the map as an `.npz`, atomically."""
        with atomic_file(path) as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @staticmethod
    def load(path: Path) -> "Coder":
        """Read a map that `save` wrote; nothing in the file is run.

        Raises:
            ValueError: the file is missing, damaged, or holds something else; the message names it.
        """
        try:
            check_archive(path)
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                parts = {field.name: file[field.name] for field in fields(Coder)}
            size, width = parts["projection"].shape
            shapes = {
                "mean": (size,),
                "scale": (),
                "centres": (_num_parts(width), CENTRES, width // _num_parts(width)),
            }
            for name, array in parts.items():
                if array.dtype != np.float32 or array.shape != shapes.get(name, array.shape):
                    raise TypeError(f"{name} is {array.dtype} {array.shape}")
                if not np.isfinite(array).all():
                    raise ValueError(f"{name} holds NaN or infinity")
            return Coder(**parts)
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            pass_on_lack_of_memory(error)
            raise ValueError(f"{path} holds no codes that can be read: {error}") from error


def _num_parts(width: int) -> int:
    """Return M: a code of 4 bits for each pair of components, or for each one of an odd number."""
    return width if width % 2 else width // 2
