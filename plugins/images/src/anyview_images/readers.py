"""Files of images: folders of pictures, arrays, MNIST's idx files and CIFAR's batches; none of them can run code when it is read."""

from __future__ import annotations

import gzip
import importlib
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from anyview.errors import MissingDependencyError, UserError

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"})
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "F"})
IMAGE_KEYS = ("x", "images", "image", "data", "arr_0")
LABEL_KEYS = ("y", "labels", "label", "targets", "target", "arr_1")
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CIFAR_SIDE = 32


@dataclass(slots=True)
class Raw:
    """What a reader found: images (N, C, H, W), uint8 or float in [0, 1]; labels (N,) or (N, L), words or numbers; ids (N,).

    parts: rows of "train", "validation" and "test" where the files say so.
    """

    images: Tensor
    labels: Any = None
    ids: Sequence[Any] | None = None
    parts: Mapping[str, range] | None = None


def as_images(array: Any, name: str) -> Tensor:
    """Images (N, C, H, W), uint8 or float32 in [0, 1], from an array or tensor (N, H, W), (N, C, H, W) or (N, H, W, C).

    Of the second and the last axis of four, the shorter is that of the channels. Whole numbers are from 0 to 255 (16 bits: to 65535),
    others from 0 to 1. Raises UserError for other shapes, for empty images and for numbers outside of these ranges.

    >>> as_images(np.zeros((5, 8, 8, 3), dtype=np.uint8), "mine").shape
    torch.Size([5, 3, 8, 8])
    """
    try:
        images = array if isinstance(array, Tensor) else torch.as_tensor(_native(np.asarray(array)))
    except (TypeError, ValueError) as error:
        raise UserError(f"the images {name!r} cannot be read as numbers ({error}); give an array of numbers") from error
    if images.ndim not in (3, 4) or images.numel() == 0 or images.is_complex():
        found = f"{tuple(images.shape)}, {images.dtype}"
        raise UserError(f"the images {name!r} are an array of {found}; give (N, H, W), (N, C, H, W) or (N, H, W, C), none of them 0")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[3] < images.shape[1]:
        images = images.movedim(3, 1)
    return _in_range(images, name).contiguous()


def _in_range(images: Tensor, name: str) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if images.is_floating_point() and not bool(images.isfinite().all()):
        raise UserError(f"the images {name!r} have missing or infinite numbers; fill or drop them")
    least, most = float(images.min()), float(images.max())
    if images.is_floating_point() and least >= 0 and most <= 1:
        return images.float()
    if not images.is_floating_point() and least >= 0 and most <= 65535:
        return images.to(torch.uint8) if most <= 255 else images.float() / 65535
    kind = "from 0 to 1" if images.is_floating_point() else "from 0 to 255"
    raise UserError(f"the images {name!r} hold numbers from {least:g} to {most:g}; give them {kind}")


def read_npz(path: Path) -> Raw:
    """Images and labels of a .npz file, found by the names that are in use for them.

    One set: x, images, image, data or arr_0, with y, labels, label, targets, target or arr_1. Several parts: such names joined by "_" with
    train, val (valid, validation) and test, on either side: x_train, train_images.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{str(path)!r} cannot be read as a .npz file of plain arrays ({error}); write it with numpy.savez") from error
    found = {part: images for part, words in PARTS.items() if (images := _find(arrays, IMAGE_KEYS, words)) is not None}
    if "train" in found:
        return _joined(found, arrays, path)
    images = next((arrays[key] for key in IMAGE_KEYS if key in arrays), None)
    if images is None:
        raise UserError(f"{str(path)!r} has the arrays {sorted(arrays)}; call the images 'x' and the labels 'y'")
    labels = next((arrays[key] for key in LABEL_KEYS if key in arrays), None)
    return Raw(as_images(images, str(path)), _one_column(labels), ids=_ids(arrays))


def _find(arrays: Mapping[str, np.ndarray], keys: Sequence[str], words: Sequence[str]) -> np.ndarray | None:
    names = (name for key in keys for word in words for name in (f"{key}_{word}", f"{word}_{key}"))
    return next((arrays[name] for name in names if name in arrays), None)


def _joined(images: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], path: Path) -> Raw:
    """The parts one after the other, all read in one way, and where each lies; labels where all parts have them."""
    shapes = {part: rows.shape for part, rows in images.items()}
    if len({shape[1:] for shape in shapes.values()}) > 1:
        found = ", ".join(f"{part} {shape}" for part, shape in shapes.items())
        raise UserError(f"the parts of {str(path)!r} differ in shape ({found}); give them images of one size")
    labels = [_one_column(_find(arrays, LABEL_KEYS, PARTS[part])) for part in images]
    known = [part for part in labels if part is not None]
    whole = np.concatenate(known) if len(known) == len(images) else None
    joined = as_images(np.concatenate(list(images.values())), str(path))
    return Raw(joined, whole, parts=_places({part: len(rows) for part, rows in images.items()}))


def _places(sizes: Mapping[str, int]) -> dict[str, range] | None:
    """Where parts of these sizes lie one after the other; None where there is the training part alone, which leaves no test."""
    ends = np.cumsum(list(sizes.values())).tolist()
    places = {part: range(end - size, end) for (part, size), end in zip(sizes.items(), ends, strict=True)}
    return places if set(places) != {"train"} else None


def _one_column(labels: np.ndarray | None) -> np.ndarray | None:
    """Labels (N,) of (N, 1)."""
    return labels[:, 0] if labels is not None and labels.ndim == 2 and labels.shape[1] == 1 else labels


def _ids(arrays: Mapping[str, np.ndarray]) -> list[Any] | None:
    return arrays["ids"].tolist() if "ids" in arrays else None


def read_folder(folder: Path, size: int) -> Raw:
    """The pictures in a folder, cut to a square about their centre and resized to `size` pixels; the sub-folder is the class.

    Sub-folders that are called train and val (valid, validation) or test are parts of the data, and the classes are the sub-folders in
    them. Pictures straight in the folder, or in a part, have no class. Grey if all pictures are, else red, green and blue. Ids are paths
    below the folder. Raises UserError for a folder without pictures and for a picture that cannot be read, MissingDependencyError without
    Pillow.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    if not paths:
        raise UserError(f"the folder {str(folder)!r} has no pictures ({', '.join(sorted(PICTURES))}); check the path")
    part_of = [_part(path.relative_to(folder).parts[0]) for path in paths]
    in_parts = "train" in part_of and None not in part_of and len(set(part_of)) > 1
    sizes: dict[str, int] = {}
    if in_parts:
        order = sorted(range(len(paths)), key=lambda number: list(PARTS).index(str(part_of[number])))
        paths, sizes = [paths[number] for number in order], {part: part_of.count(part) for part in PARTS if part in part_of}
    places = [path.relative_to(folder) for path in paths]
    classes = [place.parts[in_parts] if len(place.parts) > 1 + in_parts else "" for place in places]
    with ThreadPoolExecutor() as pool:
        grey = all(pool.map(_is_grey, paths))
        images = list(pool.map(lambda path: _picture(path, size, grey), paths))
    labels = classes if any(classes) else None
    ids = [place.as_posix() for place in places]
    return Raw(torch.from_numpy(np.stack(images)), labels, ids=ids, parts=_places(sizes) if in_parts else None)


def _part(name: str) -> str | None:
    """The part of a data set that a folder of this name holds; None for any other name."""
    return next((part for part, words in PARTS.items() if name.lower() in words), None)


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image"), importlib.import_module("PIL.ImageOps")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "a folder of pictures needs the package 'pillow', which is not installed; pip install 'anyview[images]'"
        ) from error


def _opened(path: Path, read: Callable[[Any], Any]) -> Any:
    """What `read` makes of a picture; a file that is none, or is damaged, raises UserError."""
    opener = _pillow()[0]
    try:
        with opener.open(path) as picture:
            return read(picture)
    except (OSError, SyntaxError, ValueError, EOFError, opener.DecompressionBombError) as error:
        raise UserError(f"the picture {str(path)!r} cannot be read ({error}); mend or remove it") from error


def _is_grey(path: Path) -> bool:
    return bool(_opened(path, lambda picture: picture.mode in GREY_MODES))


def _picture(path: Path, size: int, grey: bool) -> np.ndarray:
    """(C, size, size) uint8."""
    image, operations = _pillow()

    def read(picture: Any) -> np.ndarray:
        upright = operations.exif_transpose(picture)
        if upright.mode.startswith("I"):
            upright = image.fromarray((np.asarray(upright) / 257).clip(0, 255).astype(np.uint8))
        pixels = np.asarray(operations.fit(upright.convert("L" if grey else "RGB"), (size, size), image.Resampling.BILINEAR))
        return pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    found: np.ndarray = _opened(path, read)
    return found


def read_idx(path: Path) -> np.ndarray:
    """The array in one of MNIST's idx files, compressed or not; raises UserError for a file that is none or is cut short."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{str(path)!r} cannot be unpacked ({error}); get the file again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES:
        raise UserError(f"{str(path)!r} is no idx file; give one such as train-images-idx3-ubyte.gz")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise UserError(f"{str(path)!r} ends within its header; get the file again")
    shape = tuple(np.frombuffer(content, ">u4", count=content[3], offset=4).tolist())
    kind = np.dtype(IDX_TYPES[content[2]])
    if len(content) - header != int(np.prod(shape)) * kind.itemsize:
        raise UserError(f"{str(path)!r} says it holds {shape}, and has {len(content) - header} bytes for it; get the file again")
    return _native(np.frombuffer(content, kind, offset=header).reshape(shape))


def read_idx_pair(path: Path) -> Raw:
    """Images from an idx file, and their labels from the one beside it whose name has "labels-idx1" for "images-idx3", if there is one."""
    images = as_images(read_idx(path), str(path))
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read_idx(beside) if beside != path and beside.is_file() else None
    if labels is not None and len(labels) != len(images):
        raise UserError(f"{str(path)!r} has {len(images)} images and {str(beside)!r} {len(labels)} labels; get the files again")
    return Raw(images, labels)


def read_cifar(folder: Path, classes: int) -> Raw:
    """CIFAR-10 or CIFAR-100 (its 100 fine classes) from the folder of its binary or python version; the test images come last."""
    train = [f"data_batch_{number}" for number in range(1, 6)] if classes == 10 else ["train"]
    test = "test_batch" if classes == 10 else "test"
    for ending, read in ((".bin", _cifar_binary), ("", _cifar_pickle)):
        paths = [folder / f"{name}{ending}" for name in (*train, test)]
        if all(path.is_file() for path in paths):
            parts = [read(path, classes) for path in paths]
            images = torch.from_numpy(np.concatenate([pixels for pixels, _ in parts])).view(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
            labels = np.concatenate([labels for _, labels in parts])
            if labels.min() < 0 or labels.max() >= classes:
                found = f"classes from {labels.min()} to {labels.max()}"
                raise UserError(f"the files of CIFAR-{classes} in {str(folder)!r} hold {found}; get them again")
            held_out = len(images) - len(parts[-1][0])
            places = {"train": range(held_out), "test": range(held_out, len(images))}
            return Raw(images, labels, parts=places)
    raise UserError(
        f"the folder {str(folder)!r} lacks some of CIFAR-{classes}'s files ({', '.join(train)}, {test}, all of them .bin or none)"
    )


def _cifar_binary(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    labels, pixels = (1 if classes == 10 else 2), 3 * CIFAR_SIDE**2
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if not len(content) or len(content) % (labels + pixels):
        raise UserError(f"{str(path)!r} has {len(content)} bytes, which is no number of CIFAR-{classes} images; get the file again")
    records = content.reshape(-1, labels + pixels)
    return records[:, labels:], records[:, labels - 1].astype(np.int64)


def _cifar_pickle(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    content = read_plain_pickle(path)
    key = b"labels" if classes == 10 else b"fine_labels"
    pixels, labels = (content.get(b"data"), content.get(key)) if isinstance(content, dict) else (None, None)
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise UserError(f"{str(path)!r} is no batch of CIFAR-{classes}; get the file again")
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * CIFAR_SIDE**2):
        raise UserError(f"{str(path)!r} is no batch of CIFAR-{classes}; get the file again")
    return pixels, np.asarray(labels, dtype=np.int64)


def read_plain_pickle(path: Path) -> Any:
    """A pickle of plain values and numpy arrays; raises UserError when it asks for anything else, or is none."""
    with path.open("rb") as stream:
        try:
            return _PlainUnpickler(stream, encoding="bytes").load()
        except UserError:
            raise
        except Exception as error:  # a damaged pickle fails in any way it likes
            raise UserError(f"{str(path)!r} cannot be read as a pickle of arrays ({error}); get the file again") from error


class _PlainUnpickler(pickle.Unpickler):
    """Knows the names that arrays need, under the modules of old and new releases, and no others."""

    plain: ClassVar = {
        "ndarray": "numpy",
        "dtype": "numpy",
        "_reconstruct": "numpy._core.multiarray" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core.multiarray",
        "encode": "_codecs",
    }
    modules = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs")

    def find_class(self, module: str, name: str) -> Any:
        if name not in self.plain or module not in self.modules:
            raise UserError(f"a data file asks for {module}.{name}, which arrays do not need; take the files from their original source")
        return getattr(importlib.import_module(self.plain[name]), name)


def _native(array: np.ndarray) -> np.ndarray:
    """The array in this machine's byte order, in memory of its own; torch has no 16-bit or 32-bit unsigned arithmetic."""
    wider = {"u2": np.int32, "u4": np.int64, "u8": np.int64}.get(array.dtype.str[1:])
    return array.astype(wider or array.dtype.newbyteorder("="))
