"""Brightness and contrast for patches that were painted without: one number a patch, guessed.

Arrays are numpy: pictures (n, H, W), masks and statistics (n, gh, gw), True = hidden.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from scxr.errors import InputError


def spread(patches: np.ndarray, patch_size: int) -> np.ndarray:
    """One value a patch -> one a pixel: (n, gh, gw) -> (n, gh * patch_size, gw * patch_size)."""
    return np.repeat(np.repeat(patches, patch_size, axis=1), patch_size, axis=2)


def visible_statistics(images: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each picture's visible pixels, (n, 1, 1) each."""
    _require_visible(hidden)
    seen = np.where(hidden, np.nan, images)
    mean = np.nanmean(seen, axis=(1, 2), keepdims=True)
    return mean, np.nanstd(seen, axis=(1, 2), keepdims=True)


def neighbour_statistics(values: np.ndarray, mask: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """Fill in a number for every hidden patch from the visible ones around it.

    Args:
        values: (n, gh, gw) one number a patch; those of hidden patches are not looked at.
        mask: (n, gh, gw) bool, True = hidden.
        sigma: standard deviation of the Gaussian weight of a visible patch, in patches.

    Returns:
        (n, gh, gw): weighted means where hidden, `values` where visible.
    """
    _require_visible(mask)
    n, rows, columns = values.shape
    place = np.indices((rows, columns)).reshape(2, -1).T
    distance = ((place[:, None] - place[None]) ** 2).sum(axis=-1)
    weight = np.exp(-distance / (2 * sigma**2)) + 1e-12 / (1 + distance)
    visible = (~mask).reshape(n, -1).astype(float)
    flat = np.where(visible > 0, values.reshape(n, -1), 0.0)
    filled = (flat @ weight) / (visible @ weight)
    return np.where(mask, filled.reshape(values.shape), values).astype(np.float32)


def stitched_statistics(
    images: np.ndarray,
    mask: np.ndarray,
    prediction: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    weight: float = 0.3,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of hidden patches with which the painting is continuous.

    On both sides of every border between patches the grey values should agree. That is one linear
    equation a pair of neighbouring pixels, in two unknowns a hidden patch, solved by least squares.

    Args:
        images: (n, H, W) in [0, 1]; hidden pixels are not looked at.
        mask: (n, gh, gw) bool, True = hidden.
        prediction: (n, H, W), in each patch's own scale.
        mean, std: (n, gh, gw), those of `neighbour_statistics`; the solution is drawn to them.
        weight: how strongly, against the one of a pair of pixels. Where borders say little, for
            instance about the contrast of a flat patch, the neighbours decide.

    Returns:
        mean and std, (n, gh, gw) each, changed where hidden; no std is negative.
    """
    patch = images.shape[2] // mask.shape[2]
    first, second = _border_pairs(images.shape[1], images.shape[2], patch)
    new_mean, new_std = mean.astype(np.float64), std.astype(np.float64)
    for i, hidden in enumerate(mask):
        count = int(hidden.sum())
        if not count:
            continue
        number = spread((np.cumsum(hidden) - 1).reshape(1, *hidden.shape), patch).ravel()
        unknown = spread(hidden[None], patch).ravel().astype(bool)
        system = np.zeros((len(first), 2 * count))
        known = np.zeros(len(first))
        for pixels, sign in ((first, 1.0), (second, -1.0)):
            painted = unknown[pixels]
            rows, columns = np.flatnonzero(painted), number[pixels[painted]]
            system[rows, columns] += sign
            system[rows, count + columns] += sign * prediction[i].flat[pixels[painted]]
            known[~painted] -= sign * images[i].flat[pixels[~painted]]
        guess = np.concatenate([mean[i][hidden], std[i][hidden]])
        # The normal equations: a few hundred unknowns at most, and well posed through the guess.
        lhs = system.T @ system + weight**2 * np.eye(2 * count)
        solution = np.linalg.solve(lhs, system.T @ known + weight**2 * guess)
        new_mean[i][hidden], new_std[i][hidden] = solution[:count], solution[count:].clip(0)
    return new_mean.astype(np.float32), new_std.astype(np.float32)


def _border_pairs(height: int, width: int, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat positions of the pixels on the two sides of every border between patches."""
    flat = np.arange(height * width).reshape(height, width)
    last = slice(patch - 1, -1, patch)
    first = np.concatenate([flat[:, last].ravel(), flat[last].ravel()])
    return first, np.concatenate([flat[:, patch::patch].ravel(), flat[patch::patch].ravel()])


def feathered(
    images: np.ndarray, painted: np.ndarray, hidden: np.ndarray, patch_size: int
) -> np.ndarray:
    """Painting over picture with soft edges, as the SCARCE-CXR series shows it, (n, H, W).

    Painting and mask are blurred with standard deviations of 2 and 3 pixels at its patches of 32
    pixels; here in proportion to the patch.

    Args:
        images, painted: (n, H, W) in [0, 1].
        hidden: (n, H, W) bool.
    """
    scale = patch_size / 32
    smooth = gaussian_filter(painted, (0, 2 * scale, 2 * scale))
    soft = gaussian_filter(hidden.astype(np.float32), (0, 3 * scale, 3 * scale))
    return (images * (1 - soft) + smooth * soft).astype(np.float32)


def _require_visible(hidden: np.ndarray) -> None:
    if hidden.all(axis=(1, 2)).any():
        raise InputError("A picture is hidden completely: leave at least one patch visible.")
