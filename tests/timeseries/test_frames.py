"""Frames: what they keep of a window's energy, their inverses, and PyWavelets as the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview_timeseries.frames.continuous import MexicanHat, Morlet
from anyview_timeseries.frames.frame import PLANES, Frame, complex_planes
from anyview_timeseries.frames.gabor import Gabor
from anyview_timeseries.frames.orthonormal import Cosine, Fourier, Identity, RandomOrthonormal
from anyview_timeseries.frames.table import FRAMES, make_frame, make_frames
from anyview_timeseries.frames.wavelets import Wavelets

LENGTHS = (2, 3, 16, 31, 100, 128, 200, 333)
BASES = [name for name in FRAMES if make_frame(name).kind == "basis"]


def windows(length: int, channels: int = 2, count: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(length), dtype=dtype)


def check_isometry(frame: Frame, x: Tensor) -> None:
    length = x.shape[-1]
    coefficients = frame.forward(x)
    flat = frame.flat(coefficients, length)
    lower, upper = frame.bounds(length)
    energy = flat.square().sum(-1) / x.square().sum(-1)
    assert flat.shape[:2] == x.shape[:2]
    assert float((energy - lower).abs().max()) < 1e-10 * upper
    assert float((frame.inverse(coefficients, length) - x).abs().max()) < 1e-10
    assert frame.show(x).shape[:2] == (len(x), frame.planes * x.shape[1])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", [*BASES, "gabor"])
def test_energy_is_kept_and_the_inverse_exact(name: str, length: int) -> None:
    check_isometry(make_frame(name), windows(length))


@pytest.mark.parametrize("name", BASES)
def test_a_basis_has_as_many_numbers_as_the_window(name: str) -> None:
    frame = make_frame(name)
    for length in (31, 64):
        unit = torch.eye(length, dtype=torch.float64)[:, None]
        matrix = frame.flat(frame.forward(unit), length)[:, 0]
        assert matrix.shape == (length, length)
        assert torch.allclose(matrix @ matrix.T, torch.eye(length, dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize("length", [64, 77, 200])
@pytest.mark.parametrize("options", [{"levels": 5}, {"levels": 3, "packet": True}, {"levels": 1}])
def test_wavelets_of_any_depth(options: dict[str, int], length: int) -> None:
    for wavelet in ("haar", "db3", "sym4", "coif1"):
        frame = Wavelets(wavelet, **options)
        check_isometry(frame, windows(length))
        assert sum(frame.sizes(length)) == length
        assert len(frame.sizes(length)) == (8 if options.get("packet") else options["levels"] + 1)


def test_haar_is_the_reference_implementations() -> None:
    import pywt

    x = windows(200)
    ours = Wavelets("haar", levels=3).split(Wavelets("haar", levels=3).forward(x))
    for mine, theirs in zip(ours, pywt.wavedec(x.numpy(), "haar", mode="periodization", level=3, axis=-1), strict=True):
        assert np.allclose(mine.numpy(), theirs, atol=1e-12)


def test_wavelet_bands_hold_what_their_frequencies_say() -> None:
    slow = torch.sin(2 * math.pi * 2 * torch.arange(128, dtype=torch.float64) / 128)[None, None]
    alternating = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(64)[None, None]
    frame = Wavelets("db8", levels=3)
    for x, band in ((slow, 0), (alternating, -1)):
        parts = [float(part.square().sum()) for part in frame.split(frame.forward(x))]
        assert parts[band] > 0.99 * sum(parts)


@pytest.mark.parametrize("length", [9, 10])
def test_parseval_of_the_half_spectrum(length: int) -> None:
    x = windows(length, channels=1)
    squares = Fourier().forward(x).abs().square()[:, 0]
    whole = squares[:, 0] + 2 * squares[:, 1 : (length + 1) // 2].sum(1) + (squares[:, -1] if length % 2 == 0 else 0)
    assert torch.allclose(whole, x.square().sum((1, 2)), atol=1e-12)
    assert (squares.sum(1) < 0.9 * x.square().sum((1, 2))).all()


def test_a_shift_turns_the_phase_and_leaves_the_amplitude() -> None:
    x = windows(50, channels=1)
    before, after = Fourier().forward(x), Fourier().forward(x.roll(3, -1))
    assert torch.allclose(before.abs(), after.abs(), atol=1e-12)
    ramp = torch.exp(-2j * math.pi * 3 * torch.arange(26, dtype=torch.float64) / 50)
    assert torch.allclose(before * ramp, after, atol=1e-12)


def test_cosine_is_its_definition() -> None:
    x = windows(7, channels=1)
    time, frequency = torch.arange(7, dtype=torch.float64), torch.arange(7, dtype=torch.float64)[:, None]
    matrix = math.sqrt(2 / 7) * torch.cos(math.pi * (time + 0.5) * frequency / 7)
    matrix[0] /= math.sqrt(2)
    assert torch.allclose(Cosine().forward(x), x @ matrix.T, atol=1e-12)


@pytest.mark.parametrize("length", [24, 200, 301])
@pytest.mark.parametrize("scales", ["published", "fit", (1.0, 3.5, 20.0)])
@pytest.mark.parametrize(("make", "name"), [(Morlet, "cmor1-1"), (MexicanHat, "mexh")])
def test_continuous_wavelets_are_the_reference_implementations(make: type, name: str, scales: object, length: int) -> None:
    import pywt

    frame, x = make(scales), windows(length)
    theirs, _ = pywt.cwt(x.numpy(), frame.scales(length), name, axis=-1)
    ours = frame.forward(x).numpy()
    assert np.abs(ours - np.moveaxis(theirs, 0, 2)).max() < 1e-10
    single = frame.forward(x.float())
    assert np.abs(single.numpy() - ours).max() < 1e-4


def test_the_map_of_a_batch_is_that_of_its_parts() -> None:
    x = windows(200, count=70, dtype=torch.float32)
    frame = Morlet(pool=4)
    whole = frame.show(x)
    assert whole.shape == (70, 2, 48, 50)
    assert torch.equal(whole[13:40], frame.show(x[13:40]))
    assert torch.allclose(whole, frame.shown(frame.forward(x)))
    assert torch.allclose(whole[..., 0], Morlet().show(x)[..., :4].mean(-1), atol=1e-6)


def test_an_odd_end_is_pooled_by_itself() -> None:
    x = windows(10, dtype=torch.float32)
    assert torch.allclose(Morlet(pool=4).show(x)[..., 2], Morlet().show(x)[..., 8:].mean(-1), atol=1e-6)


def test_published_scales_and_those_that_fit() -> None:
    published, fit = Morlet().scales(200), Morlet("fit").scales(200)
    assert (published[0], published[-1], len(published)) == (1, pytest.approx(128), 48)
    assert int((published < 2).sum()) == 7
    assert (fit[0], fit[-1], len(fit)) == (2, pytest.approx(200 / 4.2), 48)


@pytest.mark.parametrize("frame", [Morlet(), Morlet("fit"), MexicanHat("fit", count=20), Gabor()])
def test_bounds_hold_and_are_tight(frame: Frame) -> None:
    lower, upper = frame.bounds(60)
    x = windows(60, channels=1, count=200)
    ratios = frame.flat(frame.forward(x), 60).square().sum((1, 2)) / x.square().sum((1, 2))
    assert (lower * (1 - 1e-9) <= ratios).all()
    assert (ratios <= upper * (1 + 1e-9)).all()


def test_a_wavelet_frame_is_well_bounded_on_the_band_that_it_covers() -> None:
    frame = Morlet("fit")
    whole, covered = frame.bounds(200), frame.bounds(200, frame.covered(200))
    assert whole[1] / whole[0] > 100
    assert covered[1] / covered[0] < 50


def test_gabor_is_tight_with_the_known_bound() -> None:
    assert Gabor(64, 16).bounds(200) == (pytest.approx(96.0), pytest.approx(96.0))


def test_a_learned_network_can_reach_through_every_frame() -> None:
    for name in FRAMES:
        x = windows(32, dtype=torch.float32).requires_grad_()
        make_frame(name).show(x).square().sum().backward()
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("inputs", PLANES)
def test_forms_of_complex_coefficients(inputs: str) -> None:
    c = torch.tensor([[[3 + 4j, 0j]]], dtype=torch.complex128)
    shown = complex_planes(c, inputs)
    assert shown.shape == (1, PLANES[inputs], 2)
    assert shown.isfinite().all()
    expected = {
        "amplitude": [5.0],
        "amplitude_phase": [5.0, math.atan2(4, 3)],
        "real_imaginary": [3.0, 4.0],
        "log_amplitude": [math.log(5.001), 0.6, 0.8],
    }
    assert shown[0, :, 0].tolist() == pytest.approx(expected[inputs])


def test_options_of_frames_that_are_not_asked_for_wait() -> None:
    assert list(make_frames(["haar"], {"haar": {"levels": 2}, "morlet": {"pool": 4}})) == ["haar"]


def test_what_frames_make_for_a_length_is_made_once() -> None:
    frame, x = RandomOrthonormal(), windows(20)
    assert frame.matrix(20, like=x) is frame.matrix(20, like=x)
    assert not torch.equal(RandomOrthonormal(1).matrix(20, like=x), frame.matrix(20, like=x))
    morlet = Morlet()
    assert morlet.spectra(20, like=x) is morlet.spectra(20, like=x)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: make_frame("furier"), "there is no frame 'furier'.*'fourier'"),
        (lambda: make_frame("fourier", level=2), "there is no option of the frame 'fourier' 'level'"),
        (lambda: make_frames([]), "at least one frame, and none was given"),
        (lambda: make_frames(["haar", "haar"]), "'haar' was asked for twice"),
        (lambda: make_frames(["haar"], {"hare": {"levels": 2}}), "frame \\(with options\\) 'hare'"),
        (lambda: Fourier("phase"), "to be shown as 'phase', and there is amplitude,"),
        (lambda: Identity().forward(torch.zeros(3, 4)), r"real windows \(B, C, T\), and was given \(3, 4\)"),
        (lambda: Wavelets("haar", levels=9).forward(torch.zeros(1, 1, 200)), "9 levels of wavelets were asked for, and 200 steps"),
        (lambda: Wavelets(levels=0), "at least one level, and 0 were asked for"),
        (lambda: Wavelets("bior2.2"), "'bior2.2' is no orthonormal wavelet"),
        (lambda: Wavelets().forward(torch.zeros(1, 1, 1)), "1 steps can be halved 0 times"),
        (lambda: Morlet("fitting"), "'published', 'fit' or numbers in steps, and 'fitting'"),
        (lambda: Morlet((0.0, 2.0)), "numbers of steps above 0"),
        (lambda: Morlet(pool=0), "found count 48 and pool 0"),
        (lambda: Morlet(bandwidth=0.0), "bandwidth and a centre above 0"),
        (lambda: Morlet().inverse(torch.zeros(1, 1, 48, 9), 9), "Morlet has no inverse"),
        (lambda: Gabor(64, 30), "a hop must divide the window three times or more, and 30 was given for 64"),
        (lambda: Cosine().inverse(torch.zeros(1, 1, 4), 5), "4 coefficients were given for a window of 5"),
        (lambda: Morlet().bounds(20, (0.26, 0.29)), "no whole number of cycles in 20 steps"),
    ],
)
def test_mistakes_are_told(act: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        act()  # type: ignore[operator]
