from __future__ import annotations

import builtins
import gzip
import importlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anyview.errors import MissingDependencyError, UserError
from anyview_images import readers
from anyview_images.readers import as_images, read_cifar, read_folder, read_idx, read_idx_pair, read_npz

RANDOM = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 8, 9), (5, 1, 8, 9)),
        ((5, 8, 9, 3), (5, 3, 8, 9)),
        ((5, 3, 8, 9), (5, 3, 8, 9)),
        ((5, 8, 9, 1), (5, 1, 8, 9)),
        ((5, 4, 4, 4), (5, 4, 4, 4)),
    ],
)
def test_axes_are_told_apart_by_their_lengths(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = pixels(*shape)
    images = as_images(array, "mine")
    assert images.shape == expected
    assert images.is_contiguous()
    if len(shape) == 4 and expected[1] == shape[3] != shape[1]:
        assert torch.equal(images[1, :, 2, 3], torch.from_numpy(array[1, 2, 3]))


def test_kinds_of_numbers() -> None:
    whole = pixels(2, 4, 4)
    for same in (whole, whole.astype(np.int64), whole.astype(np.uint16), torch.from_numpy(whole)):
        images = as_images(same, "mine")
        assert images.dtype == torch.uint8
        assert torch.equal(images[:, 0], torch.from_numpy(whole))
    assert as_images(whole > 99, "mine").unique().tolist() == [0, 255]
    deep = np.array([[[0, 65535]]], dtype=np.uint16)
    assert as_images(deep, "mine").flatten().tolist() == [0.0, 1.0]
    fine = whole / 255
    torch.testing.assert_close(as_images(fine, "mine")[:, 0], torch.from_numpy(fine).float())


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((4, 4)), r"an array of \(4, 4\), torch.float64; give"),
        (np.zeros((0, 4, 4)), r"\(0, 4, 4\)"),
        (np.array(["a"]), "cannot be read as numbers"),
        (np.full((2, 3, 3), np.nan), "missing or infinite"),
        (np.full((2, 3, 3), 16.0), "from 16 to 16; give them from 0 to 1"),
        (np.full((2, 3, 3), -1), "from -1 to -1; give them from 0 to 255"),
        (np.zeros((2, 3, 3), dtype=complex), "complex"),
    ],
)
def test_what_is_no_image_is_refused(array: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        as_images(array, "mine")


@pytest.mark.parametrize(("images", "labels"), [("x", "y"), ("images", "labels"), ("data", "target"), ("arr_0", "arr_1")])
def test_npz(tmp_path: Path, images: str, labels: str) -> None:
    x = pixels(4, 6, 6)
    np.savez(tmp_path / "set.npz", **{images: x, labels: np.arange(4), "ids": np.array(list("abcd"))})
    raw = read_npz(tmp_path / "set.npz")
    assert torch.equal(raw.images[:, 0], torch.from_numpy(x))
    assert raw.labels.tolist() == [0, 1, 2, 3]
    assert raw.ids == list("abcd")


@pytest.mark.parametrize("names", [("x_{}", "y_{}"), ("{}_images", "{}_labels")])
def test_npz_in_parts(tmp_path: Path, names: tuple[str, str]) -> None:
    arrays = {}
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        arrays[names[0].format(part)] = np.full((count, 4, 4, 3), count, dtype=np.uint8)
        arrays[names[1].format(part)] = np.full((count, 1), count)
    np.savez(tmp_path / "set.npz", **arrays)
    raw = read_npz(tmp_path / "set.npz")
    assert raw.parts == {"train": range(5), "validation": range(5, 7), "test": range(7, 10)}
    assert raw.images[:, 0, 0, 0].tolist() == raw.labels.tolist() == [5] * 5 + [2] * 2 + [3] * 3


def test_npz_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(UserError, match=r"has the arrays \['weights'\]; call the images 'x'"):
        read_npz(path)
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="plain arrays"):
        read_npz(path)
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match=r"cannot be read as a .npz file"):
        read_npz(path)


def picture(path: Path, array: np.ndarray, **options: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(array).save(path, **options)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    first = pixels(8, 8, 3)
    picture(tmp_path / "cat" / "b.png", first)
    picture(tmp_path / "cat" / "a.png", pixels(8, 12, 3))
    picture(tmp_path / "ant" / "deep" / "c.bmp", pixels(20, 8))
    (tmp_path / "ant" / "notes.txt").write_text("no picture")
    raw = read_folder(tmp_path, 8)
    assert raw.images.shape == (3, 3, 8, 8)
    assert raw.labels == ["ant", "cat", "cat"]
    assert raw.ids == ["ant/deep/c.bmp", "cat/a.png", "cat/b.png"]
    assert torch.equal(raw.images[2], torch.from_numpy(first).permute(2, 0, 1))
    assert torch.equal(raw.images[0, 0], raw.images[0, 2])  # grey, in a set of colours


def test_grey_pictures_without_classes(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    array = pixels(8, 8)
    picture(tmp_path / "a.png", array)
    image.fromarray(array.astype(np.uint16) * 257).save(tmp_path / "b.png")
    image.fromarray(array > 99).save(tmp_path / "c.png")
    raw = read_folder(tmp_path, 8)
    assert raw.images.shape == (3, 1, 8, 8)
    assert raw.labels is None
    assert torch.equal(raw.images[0, 0], torch.from_numpy(array))
    assert torch.equal(raw.images[1, 0], torch.from_numpy(array))  # 16 bits
    assert set(raw.images[2].unique().tolist()) == {0, 255}


def test_pictures_are_cut_to_a_square_and_stand_upright(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    wide = np.zeros((4, 12), dtype=np.uint8)
    wide[:, 4:8] = 200
    picture(tmp_path / "wide.png", wide)
    assert read_folder(tmp_path, 4).images.unique().tolist() == [200]
    (tmp_path / "wide.png").unlink()
    top = np.zeros((16, 16), dtype=np.uint8)
    top[:8] = 255
    exif = image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    picture(tmp_path / "turned.jpg", top, exif=exif)
    upright = read_folder(tmp_path, 16).images[0, 0].float()
    assert upright[:6].mean() < 10
    assert upright[10:].mean() > 245


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="has no pictures"):
        read_folder(tmp_path, 8)
    picture(tmp_path / "good.png", pixels(8, 8))
    whole = (tmp_path / "good.png").read_bytes()
    for content in (b"no picture at all", whole[: len(whole) // 2]):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(UserError, match=r"the picture '.*bad.png' cannot be read .*; mend or remove it"):
            read_folder(tmp_path, 8)
    real = importlib.import_module

    def without_pillow(name: str, *rest: Any) -> Any:
        if name.startswith("PIL"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="PIL")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without_pillow)
    with pytest.raises(
        MissingDependencyError, match=r"needs the package 'pillow', which is not installed; pip install 'anyview\[images\]'"
    ):
        read_folder(tmp_path, 8)


def idx(array: np.ndarray, kind: int = 0x08) -> bytes:
    return struct.pack(">HBB", 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files(tmp_path: Path, packed: bool) -> None:
    x, ending, write = pixels(5, 4, 6), ".gz" if packed else "", gzip.compress if packed else bytes
    (tmp_path / f"t10k-images-idx3-ubyte{ending}").write_bytes(write(idx(x)))
    path = tmp_path / f"t10k-images-idx3-ubyte{ending}"
    assert read_idx_pair(path).labels is None
    (tmp_path / f"t10k-labels-idx1-ubyte{ending}").write_bytes(write(idx(np.arange(5, dtype=np.uint8))))
    raw = read_idx_pair(path)
    assert torch.equal(raw.images[:, 0], torch.from_numpy(x))
    assert raw.labels.tolist() == [0, 1, 2, 3, 4]
    (tmp_path / f"t10k-labels-idx1-ubyte{ending}").write_bytes(write(idx(np.arange(4, dtype=np.uint8))))
    with pytest.raises(UserError, match=r"has 5 images and .* 4 labels"):
        read_idx_pair(path)


def test_idx_files_of_other_types(tmp_path: Path) -> None:
    array = np.array([[1, -2], [300, 4]], dtype=">i2")
    (tmp_path / "a").write_bytes(idx(array, 0x0B))
    assert read_idx(tmp_path / "a").tolist() == array.tolist()
    assert read_idx(tmp_path / "a").dtype == np.int16


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no idx file"),
        (b"\x01\x00\x08\x01\x00\x00\x00\x01\x00", "is no idx file"),
        (b"\x00\x00\x07\x01\x00\x00\x00\x01\x00", "is no idx file"),
        (b"\x00\x00\x08\x03\x00\x00", "ends within its header"),
        (idx(np.zeros((3, 2), dtype=np.uint8))[:-1], r"says it holds \(3, 2\), and has 5 bytes for it"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_idx(tmp_path / "a")


def test_idx_files_that_cannot_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"0" * 1000)[:-20])
    with pytest.raises(UserError, match="cannot be unpacked"):
        read_idx(tmp_path / "a.gz")


def cifar10(count: int = 3) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {name: (pixels(count, 3072), np.arange(count, dtype=np.uint8) + place) for place, name in enumerate(names)}


def check_cifar(raw: readers.Raw, batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    assert raw.images.shape == (18, 3, 32, 32)
    assert raw.parts == {"train": range(15), "test": range(15, 18)}
    for place, (x, y) in enumerate(batches.values()):
        assert torch.equal(raw.images[3 * place : 3 * place + 3].flatten(1), torch.from_numpy(x))
        assert raw.labels[3 * place : 3 * place + 3].tolist() == y.tolist()


def test_cifar_in_binary_files(tmp_path: Path) -> None:
    batches = cifar10()
    for name, (x, y) in batches.items():
        (tmp_path / f"{name}.bin").write_bytes(np.concatenate([y[:, None], x], axis=1).tobytes())
    check_cifar(read_cifar(tmp_path, 10), batches)
    (tmp_path / "test_batch.bin").write_bytes(b"\0" * 3074)
    with pytest.raises(UserError, match="has 3074 bytes, which is no number of CIFAR-10 images"):
        read_cifar(tmp_path, 10)


def test_cifar_in_pickles(tmp_path: Path) -> None:
    batches = cifar10()
    for name, (x, y) in batches.items():
        (tmp_path / name).write_bytes(pickle.dumps({b"data": x, b"labels": y.tolist(), b"filenames": [b"a.png"]}, protocol=2))
    check_cifar(read_cifar(tmp_path, 10), batches)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": pixels(3, 3072)}))
    with pytest.raises(UserError, match="is no batch of CIFAR-10"):
        read_cifar(tmp_path, 10)
    (tmp_path / "test_batch").write_bytes(b"\x80\x02 damaged")
    with pytest.raises(UserError, match="cannot be read as a pickle of arrays"):
        read_cifar(tmp_path, 10)
    (tmp_path / "test_batch").unlink()
    with pytest.raises(UserError, match=r"lacks some of CIFAR-10's files \(data_batch_1"):
        read_cifar(tmp_path, 10)


def test_cifar_100_has_fine_classes(tmp_path: Path) -> None:
    x, fine = pixels(4, 3072), np.array([7, 8, 9, 10])
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(pickle.dumps({b"data": x, b"fine_labels": fine.tolist(), b"coarse_labels": [0] * 4}, protocol=2))
    assert read_cifar(tmp_path, 100).labels.tolist() == [7, 8, 9, 10] * 2
    binary = np.concatenate([np.zeros((4, 1), np.uint8), fine[:, None].astype(np.uint8), x], axis=1)
    for name in ("train", "test"):
        (tmp_path / name).unlink()
        (tmp_path / f"{name}.bin").write_bytes(binary.tobytes())
    raw = read_cifar(tmp_path, 100)
    assert raw.labels.tolist() == [7, 8, 9, 10] * 2
    assert torch.equal(raw.images[4:].flatten(1), torch.from_numpy(x))


class Runs:
    """What a harmful pickle holds: a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("function", [print, builtins.eval, importlib.import_module, np.load, np.array, np.save])
def test_a_pickle_cannot_run_code(tmp_path: Path, function: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for protocol in (0, 2, 4):
        (tmp_path / "train").write_bytes(pickle.dumps({b"data": Runs(function, "print('harm')")}, protocol=protocol))
        (tmp_path / "test").write_bytes(b"")
        with pytest.raises(UserError, match="which arrays do not need"):
            read_cifar(tmp_path, 100)
    assert capsys.readouterr().out == ""


def test_a_folder_with_parts(tmp_path: Path) -> None:
    """As ImageNet and its small relatives are laid out: the parts are no classes."""
    for number, place in enumerate(["test/cat/1.png", "train/dog/2.png", "train/cat/3.png", "val/dog/4.png"]):
        picture(tmp_path / place, np.full((4, 4), number, dtype=np.uint8))
    raw = read_folder(tmp_path, 4)
    assert raw.ids == ["train/cat/3.png", "train/dog/2.png", "val/dog/4.png", "test/cat/1.png"]
    assert raw.labels == ["cat", "dog", "dog", "cat"]
    assert raw.parts == {"train": range(2), "validation": range(2, 3), "test": range(3, 4)}
    assert raw.images[:, 0, 0, 0].tolist() == [2, 1, 3, 0]
    picture(tmp_path / "other" / "5.png", np.zeros((4, 4), dtype=np.uint8))
    assert read_folder(tmp_path, 4).parts is None


def test_npz_parts_are_read_in_one_way(tmp_path: Path) -> None:
    """A dark part and a bright one of deep images have one scale, and parts of two sizes are told."""
    dark, bright = np.full((2, 4, 4), 200, np.uint16), np.full((3, 4, 4), 65535, np.uint16)
    np.savez(tmp_path / "deep.npz", x_train=dark, x_test=bright, y_train=np.zeros((2, 1), int), y_test=np.ones((3, 1), int))
    raw = read_npz(tmp_path / "deep.npz")
    assert raw.images[:, 0, 0, 0].tolist() == pytest.approx([200 / 65535] * 2 + [1.0] * 3)
    assert raw.labels.tolist() == [0, 0, 1, 1, 1]
    np.savez(tmp_path / "sizes.npz", x_train=pixels(2, 4, 4), x_test=pixels(2, 5, 5))
    with pytest.raises(UserError, match=r"differ in shape \(train \(2, 4, 4\), test \(2, 5, 5\)\)"):
        read_npz(tmp_path / "sizes.npz")


def test_npz_labels_in_a_column_are_classes_and_a_training_part_alone_is_no_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=pixels(4, 4, 4), y=np.array([[0], [3], [1], [2]]))
    assert read_npz(tmp_path / "one.npz").labels.tolist() == [0, 3, 1, 2]
    np.savez(tmp_path / "train.npz", x_train=pixels(4, 4, 4), y_train=np.arange(4))
    raw = read_npz(tmp_path / "train.npz")
    assert raw.parts is None
    assert raw.labels.tolist() == [0, 1, 2, 3]


def test_cifar_with_classes_that_there_are_not(tmp_path: Path) -> None:
    record = np.concatenate([np.full((2, 1), 10, np.uint8), pixels(2, 3072)], axis=1)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        (tmp_path / f"{name}.bin").write_bytes(record.tobytes())
    with pytest.raises(UserError, match="hold classes from 10 to 10; get them again"):
        read_cifar(tmp_path, 10)
