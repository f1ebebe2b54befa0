"""From a file's bytes to a grey picture: decode, normalise the raw values, resize.

The order matters. A 12- or 16-bit radiograph that is cut to 8 bits before its range is known is
black, saturated or banded; so the minimum and maximum of the RAW values are mapped to 0 and 255
first, then the picture is quantised, then resized with Lanczos.

Whatever cannot be used raises `Unusable` with the reason; nothing here is fatal for an import.
"""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "JPEG2000", "WEBP")
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"GIF8")
MAX_PIXELS = 100_000_000  # the largest detectors have some 20 million
MAX_BYTES = 1_000_000_000
ROWS = 64  # looked up at a time
MIN_SIDE = 16
ASPECTS = ("squash", "pad")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
DESCRIPTION = ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
GREY_MODES = ("L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


class Unusable(Exception):
    """A file that cannot become a radiograph; the message says why, in a few words."""


def decode(data: bytes) -> np.ndarray:
    """(H, W) raw grey values of one file's bytes: PNG, JPEG, TIFF or DICOM, told by content.

    Integers keep their depth; colour becomes luminance; transparency is ignored; EXIF orientation
    is applied. DICOM values pass the modality and VOI transformations, and MONOCHROME1 is inverted,
    so that more always means brighter.
    """
    if len(data) == 0:
        raise Unusable("the file is empty")
    if len(data) > MAX_BYTES:
        raise Unusable(f"the file is larger than {MAX_BYTES / 1e9:.0f} GB")
    raw = _dicom(data) if is_dicom(data) else _picture(data)
    if raw.ndim != 2:
        raise Unusable(f"the pixels have {raw.ndim} dimensions instead of 2")
    if min(raw.shape) < MIN_SIDE:
        raise Unusable(f"only {raw.shape[1]} x {raw.shape[0]} pixels")
    return raw


def normalise(raw: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the raw range [minimum, maximum] mapped linearly to [0, 255] and rounded."""
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise Unusable("the pixels contain NaN or infinite values")
    low, high = raw.min(), raw.max()
    if low == high:
        raise Unusable(f"every pixel has the same value ({low})")
    if raw.dtype == np.uint8 and (low, high) == (0, 255):
        return raw
    if raw.dtype.kind == "u" and raw.dtype.itemsize <= 2:
        # A table of the 256 or 65,536 possible values is an order faster than arithmetic a pixel,
        # and looking up some rows at a time keeps its wide indices in the cache.
        values = np.arange(int(high) + 1, dtype=np.float64)
        table = _quantise(values, float(low), float(high))
        result = np.empty(raw.shape, dtype=np.uint8)
        for start in range(0, len(raw), ROWS):
            np.take(table, raw[start : start + ROWS], out=result[start : start + ROWS])
        return result
    return _quantise(raw.astype(np.float64), float(low), float(high))


def fit(picture: np.ndarray, size: int, aspect: str = "squash") -> np.ndarray:
    """(size, size) uint8 of an (H, W) uint8 picture, Lanczos.

    `squash` gives up the aspect ratio (as the series does); `pad` keeps it and centres the picture
    on black.
    """
    left, top, width, height = placement(picture.shape[1], picture.shape[0], size, aspect)
    image = Image.fromarray(picture)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    if (width, height) == (size, size):
        return np.array(image)
    canvas = np.zeros((size, size), dtype=np.uint8)
    canvas[top : top + height, left : left + width] = np.asarray(image)
    return canvas


def placement(width: int, height: int, size: int, aspect: str) -> tuple[int, int, int, int]:
    """Where a width x height picture lies in a size x size one: left, top, width, height."""
    if aspect == "squash":
        return 0, 0, size, size
    scale = size / max(width, height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    return (size - new_width) // 2, (size - new_height) // 2, new_width, new_height


def is_dicom(data: bytes) -> bool:
    """Whether the bytes start as a DICOM file does, with or without its 128-byte preamble."""
    # Without a preamble the file begins with the first element of group 2 or 8.
    first = {b"\x02\0\0\0", b"\x08\0\0\0", b"\x08\0\x05\0", b"\x08\0\x08\0", b"\x08\0\x16\0"}
    return data[128:132] == b"DICM" or data[:4] in first


def _quantise(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _picture(data: bytes) -> np.ndarray:
    try:
        with quiet():
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(image.width, image.height, getattr(image, "n_frames", 1))
            return _deep_colour(data) if _is_deep_colour_png(data) else _grey(image)
    except UnidentifiedImageError as error:
        if data.startswith(SIGNATURES):
            raise Unusable("damaged or truncated image (its header cannot be read)") from error
        raise Unusable("not an image in a format that can be read") from error
    except Image.DecompressionBombError as error:
        raise Unusable(f"more than {MAX_PIXELS / 1e6:.0f} million pixels") from error
    except Unusable:
        raise
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, EOFError) as error:
        raise Unusable(f"damaged or truncated image ({_short(error)})") from error
    except (IndexError, KeyError, OverflowError, MemoryError, RuntimeError) as error:
        raise Unusable(f"damaged image ({type(error).__name__}: {_short(error)})") from error


def _grey(image: Image.Image) -> np.ndarray:
    if image.mode == "1":
        raise Unusable("a 1-bit image has no grey values")
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode not in GREY_MODES:
        # Equal channels come out of this unchanged: the weights of luminance sum to exactly one.
        image = image.convert("L") if image.mode in ("RGB", "RGBA", "LA") else _through_rgb(image)
    return np.array(image)


def _through_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB").convert("L")


def _is_deep_colour_png(data: bytes) -> bool:
    """A 16-bit PNG with colour or transparency, which Pillow would silently cut to 8 bits."""
    return data.startswith(SIGNATURES[0]) and len(data) > 25 and data[24] == 16 and data[25] != 0


def _deep_colour(data: bytes) -> np.ndarray:
    import torch
    from torchvision.io import ImageReadMode, decode_png

    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    channels = decode_png(encoded, mode=ImageReadMode.UNCHANGED).numpy()
    if channels.shape[0] < 3:
        return channels[0]
    red, green, blue = channels[:3].astype(np.float64)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _check_size(width: int, height: int, frames: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unusable(f"{width} x {height} is more than {MAX_PIXELS / 1e6:.0f} million pixels")
    if frames > 1:
        raise Unusable(f"the file holds {frames} pictures instead of one")


def _dicom(data: bytes) -> np.ndarray:
    import pydicom
    from pydicom.pixels import apply_modality_lut

    try:
        with quiet():
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            _check_dicom(dataset)
            values = apply_modality_lut(_one_channel(dataset), dataset)
            values = _windowed(np.asarray(values), dataset)
    except Unusable:
        raise
    except Exception as error:  # pydicom and its decoders raise nearly every type there is
        raise Unusable(f"DICOM that cannot be decoded ({_short(error)})") from error
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        values = values.max() - values
    return values


def _check_dicom(dataset: Any) -> None:
    if not any(name in dataset for name in PIXELS):
        raise Unusable("DICOM without pixels")
    missing = [name for name in DESCRIPTION if name not in dataset]
    if missing:
        raise Unusable(f"DICOM without {', '.join(missing)}")
    frames = int(dataset.get("NumberOfFrames") or 1)
    _check_size(int(dataset.Columns), int(dataset.Rows), frames)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_compressed and not _can_decode(syntax):
        raise Unusable(
            f"DICOM compressed as {syntax.name}, for which no decoder is installed "
            "(pip install 'pylibjpeg[all]')"
        )


def _can_decode(syntax: Any) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _windowed(values: np.ndarray, dataset: Any) -> np.ndarray:
    """The values through the file's window or table.

    One that cannot be applied (a width of 0, no number) or leaves a single grey is ignored: the
    raw range is mapped to all greys later anyway.
    """
    from pydicom.pixels import apply_voi_lut

    try:
        windowed = np.asarray(apply_voi_lut(values, dataset))
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError):
        return values
    return windowed if windowed.min() < windowed.max() else values


def _one_channel(dataset: Any) -> np.ndarray:
    pixels = dataset.pixel_array
    if pixels.ndim == 2:
        return pixels
    from pydicom.pixels import convert_color_space

    interpretation = str(dataset.PhotometricInterpretation)
    if interpretation.startswith("YBR"):
        pixels = convert_color_space(pixels, interpretation, "RGB")
    return np.rint(pixels[..., :3] @ np.array([0.299, 0.587, 0.114])).astype(pixels.dtype)


_counting = threading.Lock()
_readers = 0
_silence = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no log of pydicom's: what is wrong with a file is said once, as its reason.

    Filters of warnings belong to the process and `catch_warnings` restores what it found, which
    with several threads is another one's silence or its end. So the first thread that reads saves
    the state and the last one restores it.
    """
    global _readers
    with _counting:
        if _readers == 0:
            _silence.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            pydicom_log = logging.getLogger("pydicom")
            _silence.callback(pydicom_log.setLevel, pydicom_log.level)
            pydicom_log.setLevel(logging.CRITICAL + 1)
        _readers += 1
    try:
        yield
    finally:
        with _counting:
            _readers -= 1
            if _readers == 0:
                _silence.close()


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:120] if text else type(error).__name__
