"""Files as they come out of a hospital's disk: damaged, exotic, or not what their name says.

Each case is a name and its bytes, with what an import should do: `None` where the picture is
imported all the same, or a pattern that the reason for setting it aside matches.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zlib
from typing import Any

import numpy as np
import pydicom
from PIL import Image, PngImagePlugin
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

Case = tuple[bytes, str | None]
HEIGHT, WIDTH = 24, 32


def grey(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def encode(picture: np.ndarray | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def frames(format: str, seed: int, **options: Any) -> bytes:
    first, *others = (Image.fromarray(grey(seed + number)) for number in range(3))
    return encode(first, format, save_all=True, append_images=others, **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(
    width: int, height: int, depth: int, colour: int, lines: bytes, extra: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    body = chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return signature + chunk(b"IHDR", header) + extra + body


def raw_lines(samples: np.ndarray) -> bytes:
    """PNG scan lines without a filter."""
    return b"".join(b"\0" + row.tobytes() for row in samples)


def dicom(
    pixels: np.ndarray | bytes | None,
    syntax: UID = ExplicitVRLittleEndian,
    without: tuple[str, ...] = (),
    **tags: Any,
) -> bytes:
    """A DICOM file; `tags` are set last, `without` are removed."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = HEIGHT, WIDTH
    dtype = pixels.dtype if isinstance(pixels, np.ndarray) else np.dtype(np.uint8)
    dataset.BitsAllocated = dataset.BitsStored = dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(dtype.kind == "i")
    if pixels is not None:
        data = pixels.tobytes() if isinstance(pixels, np.ndarray) else pixels
        dataset.add_new("PixelData", "OB" if dtype.itemsize == 1 else "OW", data)
        dataset["PixelData"].is_undefined_length = syntax.is_compressed and syntax != (
            DeflatedExplicitVRLittleEndian
        )
    for name, value in tags.items():
        setattr(dataset, name, value)
    for name in without:
        delattr(dataset, name)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def patched(data: bytes, tag: tuple[int, int], kind: bytes, value: bytes) -> bytes:
    """The value of a short explicit element replaced by bytes that pydicom would not write."""
    head = struct.pack("<HH", *tag) + kind
    start = data.index(head)
    (length,) = struct.unpack_from("<H", data, start + 6)
    value += b" " * (len(value) % 2)
    return data[: start + 6] + struct.pack("<H", len(value)) + value + data[start + 8 + length :]


def compressed(picture: np.ndarray, syntax: UID) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(dicom(picture)))
    dataset.compress(syntax, generate_instance_uid=False)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def transparent(seed: int) -> Image.Image:
    alpha = Image.fromarray(grey(seed + 500))
    image = Image.fromarray(grey(seed))
    return Image.merge("RGBA", [image, image, image, alpha])


def palette(seed: int) -> Image.Image:
    image = Image.fromarray(grey(seed)).convert("P")
    image.putpalette([value for number in range(256) for value in (number, 255 - number, 7)])
    return image


def floats(seed: int, *odd: float) -> np.ndarray:
    values = grey(seed).astype(np.float32) / 255
    values.reshape(-1)[: len(odd)] = odd
    return values


def picture_cases() -> dict[str, Case]:
    """PNG, JPEG, TIFF and other pictures."""
    good, jpeg = encode(grey(0)), encode(grey(1), "JPEG")
    tiff, bmp = encode(grey(2), "TIFF"), encode(grey(3), "BMP")
    progressive = encode(grey(4, 64, 64), "JPEG", progressive=True)
    wide = encode(grey(5), "TIFF", compression="tiff_lzw")
    deep = grey(6).astype(np.uint16) * 200
    bit = Image.fromarray(grey(7) > 99)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 3_000_000, zip=True)
    lines = raw_lines(grey(8))
    rgba16 = np.stack([grey(9) * np.uint16(200)] * 4, axis=-1).astype(">u2")
    return {
        "empty.png": (b"", "the file is empty"),
        "a letter.png": (b"Dear colleague, please find attached", "not an image"),
        "one byte.png": (b"\x89", "not an image"),
        "zeros.png": (bytes(4096), "not an image"),
        "half.png": (good[: len(good) // 2], "truncated"),
        "signature.png": (good[:8], "truncated"),
        "header.png": (good[:33], "truncated"),
        "last byte missing.png": (good[:-1], None),
        "trailing garbage.png": (good + b"garbage" * 50, None),
        "wrong checksum.png": (good[:20] + b"\xff" + good[21:], "damaged"),
        "pixels overwritten.png": (
            good[:60] + bytes(200) + good[260:],
            "damaged",
        ),
        "no pixels.png": (png(WIDTH, HEIGHT, 8, 0, b""), "damaged|truncated"),
        "too few lines.png": (png(WIDTH, HEIGHT, 8, 0, lines[:200]), "damaged|truncated"),
        "too many lines.png": (png(WIDTH, HEIGHT, 8, 0, lines * 2), None),
        "no width.png": (png(0, HEIGHT, 8, 0, lines), "damaged|only 0"),
        "colour type 9.png": (png(WIDTH, HEIGHT, 8, 9, lines), "damaged|not an image"),
        "100000 x 100000.png": (png(100_000, 100_000, 8, 0, lines), "million pixels"),
        "bomb of 225 million.png": (png(15_000, 15_000, 8, 0, lines), "million pixels"),
        "bomb in its text.png": (encode(grey(10), pnginfo=text), "damaged"),
        "interlaced, cut.png": (
            encode(grey(11))[:28] + b"\x01" + encode(grey(11))[29:200],
            "damaged|truncated",
        ),
        "palette.png": (encode(palette(12)), None),
        "palette and transparency.png": (encode(palette(13), transparency=3), None),
        "rgba.png": (encode(transparent(14)), None),
        "grey and alpha.png": (encode(transparent(15).convert("LA")), None),
        "rgba in 16 bits.png": (
            png(WIDTH, HEIGHT, 16, 6, raw_lines(rgba16)),
            None,
        ),
        "16 bits.png": (encode(deep), None),
        "1 bit.png": (encode(bit), "1-bit"),
        "constant.png": (encode(np.full((HEIGHT, WIDTH), 7, np.uint8)), r"same value \(7\)"),
        "constant in 16 bits.png": (
            encode(np.full((HEIGHT, WIDTH), 4095, np.uint16)),
            r"same value \(4095\)",
        ),
        "black behind alpha.png": (encode(Image.new("RGBA", (WIDTH, HEIGHT))), "same value"),
        "1 x 1.png": (encode(grey(0, 1, 1)), "only 1 x 1"),
        "1 x 400.png": (encode(grey(0, 400, 1)), "only 1 x 400"),
        "400 x 1.png": (encode(grey(0, 1, 400)), "only 400 x 1"),
        "animated.png": (frames("PNG", 20), "3 pictures"),
        "animated.gif": (frames("GIF", 23), "3 pictures"),
        "animated.webp": (frames("WEBP", 26, lossless=True), "3 pictures"),
        "pages.tiff": (frames("TIFF", 29), "3 pictures"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "header.jpg": (jpeg[:20], "damaged|truncated"),
        "progressive, cut.jpg": (progressive[: len(progressive) // 3], "truncated"),
        "cmyk.jpg": (encode(Image.fromarray(grey(32)).convert("CMYK"), "JPEG"), None),
        "broken exif.jpg": (encode(grey(33), "JPEG", exif=b"Exif\0\0II*\0garbage"), None),
        "broken profile.jpg": (encode(grey(34), "JPEG", icc_profile=b"no profile"), None),
        "half.tif": (tiff[: len(tiff) // 2], "truncated|damaged"),
        "lzw, cut.tif": (wide[:400], "truncated|damaged|not an image"),
        "header.tif": (b"II*\0\x08\0\0\0", "damaged|truncated"),
        "directory that points home.tif": (b"II*\0\0\0\0\0" + bytes(64), "damaged|truncated|not"),
        "32-bit integers.tif": (encode(grey(35).astype(np.int32) - 1000, "TIFF"), None),
        "floats.tif": (encode(floats(36), "TIFF"), None),
        "a NaN.tif": (encode(floats(37, np.nan), "TIFF"), "NaN"),
        "an infinity.tif": (encode(floats(38, -np.inf), "TIFF"), "infinite"),
        "all NaN.tif": (encode(np.full((HEIGHT, WIDTH), np.nan, np.float32), "TIFF"), "NaN"),
        "half.bmp": (bmp[: len(bmp) // 2], "truncated"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
        "report.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "not an image"),
        "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(80), "not an image"),
        "not found.png": (b"<!DOCTYPE html><html>404</html>" * 9, "not an image"),
        "archive.png": (b"PK\x03\x04" + bytes(60), "not an image"),
        "zipped.png": (gzip.compress(good), "not an image"),
        "pickle.png": (pickle.dumps({"pixels": [1, 2]}), "not an image"),
        "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", "not an image"),
        "plain.ppm": (b"P6 2 2 255 " + bytes(12), "not an image"),
        "jpeg called.png": (encode(grey(40), "JPEG"), None),
        "png called.dcm": (encode(grey(41)), None),
        "no suffix at all": (encode(grey(42)), None),
        "tiff called.jpg": (encode(grey(43), "TIFF"), None),
        "röntgen thorax ä.png": (encode(grey(44)), None),
        "胸部 X 線.png": (encode(grey(45)), None),
        "two\nlines.png": (encode(grey(46)), None),
        'quotes "and, commas.png': (encode(grey(47)), None),
        "UPPER.PNG": (encode(grey(48)), None),
    }


def dicom_cases() -> dict[str, Case]:
    """DICOM files; where no decoder is named, pydicom reads them by itself."""
    twelve = (grey(60).astype(np.uint16) * 16) & 0xFFF
    signed = grey(61).astype(np.int16) - 1000
    good = dicom(grey(62))
    colour = np.stack([grey(63), grey(64), grey(65)], axis=-1)
    rgb = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    jpeg = encapsulate([encode(grey(66), "JPEG")])
    windowed = dicom(twelve + 1, WindowCenter="2000", WindowWidth="1000")
    rescaled = dicom(twelve + 2, RescaleSlope="1.0", RescaleIntercept="0")
    return {
        "plain.dcm": (good, None),
        "called.png": (dicom(grey(67)), None),
        "IM0001": (dicom(grey(68)), None),
        "no preamble.dcm": (dicom(grey(69))[132:], None),
        "no pixels.dcm": (dicom(None), "without pixels"),
        "no pixels, no rows.dcm": (dicom(None, without=("Rows", "Columns")), "without pixels"),
        "no rows.dcm": (dicom(grey(70), without=("Rows",)), "DICOM"),
        "no interpretation.dcm": (
            dicom(grey(71), without=("PhotometricInterpretation",)),
            "DICOM",
        ),
        "no bits.dcm": (dicom(grey(72), without=("BitsAllocated",)), "DICOM"),
        "no rows at all.dcm": (dicom(grey(73), Rows=0), "DICOM|only"),
        "claims billions.dcm": (dicom(grey(74), Rows=60_000, Columns=60_000), "million pixels"),
        "more rows than pixels.dcm": (dicom(grey(75), Rows=500), "cannot be decoded"),
        "more pixels than rows.dcm": (dicom(grey(76), Rows=HEIGHT - 2), None),
        "cut in the header.dcm": (good[:200], "DICOM"),
        "cut in the pixels.dcm": (good[:-100], "DICOM"),
        "cut after the prefix.dcm": (good[:132], "DICOM"),
        "only the prefix, then text.dcm": (bytes(128) + b"DICM" + b"hello " * 40, "DICOM"),
        "frames.dcm": (dicom(np.stack([grey(77), grey(78)]), NumberOfFrames=2), "2 pictures"),
        "colour.dcm": (dicom(colour, **rgb), None),
        "colour by plane.dcm": (
            dicom(
                np.ascontiguousarray(colour.transpose(2, 0, 1)) + 1,
                **{**rgb, "PlanarConfiguration": 1},
            ),
            None,
        ),
        "luminance and colour.dcm": (
            dicom(colour + 2, **{**rgb, "PhotometricInterpretation": "YBR_FULL"}),
            None,
        ),
        "two samples.dcm": (dicom(colour[..., :2], SamplesPerPixel=2), "DICOM"),
        "monochrome 1.dcm": (dicom(grey(79), PhotometricInterpretation="MONOCHROME1"), None),
        "12 bits in 16.dcm": (dicom(twelve, BitsStored=12, HighBit=11), None),
        "10 bits, garbage above.dcm": (
            dicom((twelve >> 2) | 0xF400, BitsStored=10, HighBit=9),
            None,
        ),
        "signed.dcm": (dicom(signed), None),
        "float pixels.dcm": (
            dicom(
                None,
                BitsAllocated=32,
                FloatPixelData=floats(80).tobytes(),
                without=("BitsStored", "HighBit", "PixelRepresentation"),
            ),
            None,
        ),
        "constant.dcm": (dicom(np.full((HEIGHT, WIDTH), 5, np.uint16)), "same value"),
        "window.dcm": (windowed, None),
        "window width 0.dcm": (patched(windowed, (0x28, 0x1051), b"DS", b"0"), None),
        "window that is no number.dcm": (patched(windowed, (0x28, 0x1051), b"DS", b"wide"), None),
        "window without a width.dcm": (dicom(twelve + 3, WindowCenter="2000"), None),
        "empty window.dcm": (patched(windowed, (0x28, 0x1050), b"DS", b""), None),
        "window beside the values.dcm": (
            dicom(twelve + 4, WindowCenter="60000", WindowWidth="10"),
            None,
        ),
        "slope 0.dcm": (patched(rescaled, (0x28, 0x1053), b"DS", b"0"), "same value|slope"),
        "slope NaN.dcm": (patched(rescaled, (0x28, 0x1053), b"DS", b"NaN"), "NaN|DICOM"),
        "slope of words.dcm": (patched(rescaled, (0x28, 0x1053), b"DS", b"steep"), "DICOM"),
        "implicit.dcm": (dicom(twelve + 5, ImplicitVRLittleEndian), None),
        "big end first.dcm": (dicom((twelve + 6).astype(">u2"), ExplicitVRBigEndian), None),
        "deflated.dcm": (dicom(grey(81), DeflatedExplicitVRLittleEndian), None),
        "run lengths.dcm": (compressed(grey(82), RLELossless), None),
        "jpeg inside.dcm": (dicom(jpeg, JPEGBaseline8Bit), None),
        "jpeg 2000 inside.dcm": (
            dicom(
                encapsulate([encode(grey(83), "JPEG2000", irreversible=False, no_jp2=True)]),
                JPEG2000Lossless,
            ),
            None,
        ),
        "jpeg-ls, no decoder.dcm": (
            dicom(encapsulate([b"\xff\xd8\xff\xf7" + bytes(60)]), JPEGLSLossless),
            "decoder",
        ),
        "fragments cut.dcm": (dicom(jpeg, JPEGBaseline8Bit)[:-200], "DICOM"),
        "fragments of text.dcm": (
            dicom(encapsulate([b"not a jpeg"]), JPEGBaseline8Bit),
            "DICOM",
        ),
        "compressed, not encapsulated.dcm": (
            dicom(grey(84)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"),
            "DICOM",
        ),
        "unknown syntax.dcm": (
            good.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"),
            "DICOM",
        ),
        "frames of words.dcm": (
            patched(dicom(grey(85), NumberOfFrames="1"), (0x28, 0x8), b"IS", b"many"),
            "DICOM",
        ),
        "character set unknown.dcm": (
            dicom(grey(86), SpecificCharacterSet="ISO_IR 100", PatientName="Müller").replace(
                b"ISO_IR 100", b"ISO_IR 999"
            ),
            None,
        ),
        "directory": (dicom(None, DirectoryRecordSequence=[]), "without pixels"),
    }


def cases() -> dict[str, Case]:
    return {**picture_cases(), **dicom_cases()}
