"""FlowNetS: the published table of layers and names, a slow evaluation of it by hand, and files of every form."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from backbone import flownet
from backbone.flow import optical_flow
from backbone.flownet import FlowNetS, load_flownet, weights_file

CPU = torch.device("cpu")

# The published network: channels in and out, and the side of the kernel; all other strides are 1.
CONVOLUTIONS = {
    "conv1": (6, 64, 7),
    "conv2": (64, 128, 5),
    "conv3": (128, 256, 5),
    "conv3_1": (256, 256, 3),
    "conv4": (256, 512, 3),
    "conv4_1": (512, 512, 3),
    "conv5": (512, 512, 3),
    "conv5_1": (512, 512, 3),
    "conv6": (512, 1024, 3),
    "conv6_1": (1024, 1024, 3),
}
OF_STRIDE_2 = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6")
TRANSPOSED = {"deconv5": (1024, 512), "deconv4": (1026, 256), "deconv3": (770, 128), "deconv2": (386, 64)}
PREDICTIONS = {
    "predict_flow6": 1024,
    "predict_flow5": 1026,  # 512 of conv5_1, 512 of deconv5, 2 of flow
    "predict_flow4": 770,
    "predict_flow3": 386,
    "predict_flow2": 194,
}
UPSAMPLED = ("upsampled_flow6_to_5", "upsampled_flow5_to_4", "upsampled_flow4_to_3", "upsampled_flow3_to_2")

# Name of the file, batch norm, biases in the expanding part.
FILES = {
    "plain": ("flownets_EPE1.951.pth", False, False),
    "bn": ("flownets_bn_EPE2.459.pth.tar", True, False),
    "caffe": ("flownets_from_caffe.pth", False, False),
    "nvidia": ("FlowNet2-S_checkpoint.pth.tar", False, True),
}


def published_shapes(form: str) -> dict[str, tuple[int, ...]]:
    """The tensors of a published file, by name, in its order."""
    _, batch_norm, biases = FILES[form]
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (before, after, side) in CONVOLUTIONS.items():
        shapes[f"{name}.0.weight"] = (after, before, side, side)
        if batch_norm:
            of_norm = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{name}.1.{which}": (after,) for which in of_norm}
        else:
            shapes[f"{name}.0.bias"] = (after,)
    for name, (before, after) in TRANSPOSED.items():
        shapes[f"{name}.0.weight"] = (before, after, 4, 4)
        if biases:
            shapes[f"{name}.0.bias"] = (after,)
    for name, before in PREDICTIONS.items():
        shapes[f"{name}.weight"] = (2, before, 3, 3)
        if biases:
            shapes[f"{name}.bias"] = (2,)
    return shapes | {f"{name}.weight": (2, 2, 4, 4) for name in UPSAMPLED}


def narrow(channels: int) -> int:
    """An eighth of the channels, beside those of frames and flow: 6 stay 6, and 1026 = 1024 + 2 become 130."""
    return channels // 8 + channels % 8


def narrow_shapes(form: str) -> dict[str, tuple[int, ...]]:
    """The tensors of a file for the `narrow_network`."""
    return {name: (*map(narrow, shape[:2]), *shape[2:]) for name, shape in published_shapes(form).items()}


def zeros(form: str) -> dict[str, Tensor]:
    """A state of zeros, but for variances of 1; a file of it is small, as each tensor is one number."""
    return {
        name: torch.tensor(1.0 if name.endswith("running_var") else 0.0).expand(shape)
        for name, shape in narrow_shapes(form).items()
    }


def random(form: str) -> dict[str, Tensor]:
    """Weights that neither blow up nor fade out on the way."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, shape in narrow_shapes(form).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            # A place is reached by 4 of the 16 taps of a transposed convolution.
            inputs = shape[0] * 4 if name.startswith(("deconv", "upsampled")) else np.prod(shape[1:])
            state[name] = noise * (2 / inputs) ** 0.5
        else:
            around_one = name.endswith((".1.weight", "running_var"))
            state[name] = 1 + noise.clip(-3, 3) / 5 if around_one else noise / 10
    return state


def checkpoint(form: str, state: dict[str, Tensor]) -> dict[str, object]:
    """What the two repositories write: Pinard's training, NVIDIA's conversion."""
    if form == "nvidia":
        return {"epoch": 0, "state_dict": state, "best_EPE": 1e10}
    return {"epoch": 300, "arch": "flownets", "state_dict": state, "best_EPE": 1.951, "div_flow": 20}


def some_frames(num_frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


@pytest.fixture
def narrow_network(monkeypatch) -> None:
    """All layers and names of the published network, with an eighth of the channels: 60 times fewer weights."""
    convolutions = {name: (narrow(out), *rest) for name, (out, *rest) in flownet.CONVOLUTIONS.items()}
    levels = {level: (narrow(out), beside) for level, (out, beside) in flownet.LEVELS.items()}
    monkeypatch.setattr(flownet, "CONVOLUTIONS", convolutions)
    monkeypatch.setattr(flownet, "LEVELS", levels)


@pytest.fixture(autouse=True)
def no_weights_yet(monkeypatch, tmp_path):
    """Nobody's weights."""
    monkeypatch.delenv("A3D_FLOWNETS", raising=False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("backbone.flownet.network_device", lambda: CPU)
    (tmp_path / "checkpoints").mkdir()
    load_flownet.cache_clear()
    yield
    load_flownet.cache_clear()


@pytest.fixture
def put(tmp_path, narrow_network) -> Callable[..., Path]:
    """Write a file for the narrow network where weights are looked for."""

    def write(form: str, content: object, **options: bool) -> Path:
        path = tmp_path / "checkpoints" / FILES[form][0]
        torch.save(content, path, **options)
        return path

    return write


PLAIN_NAMES = """
conv1.0.weight conv1.0.bias conv2.0.weight conv2.0.bias conv3.0.weight conv3.0.bias conv3_1.0.weight conv3_1.0.bias
conv4.0.weight conv4.0.bias conv4_1.0.weight conv4_1.0.bias conv5.0.weight conv5.0.bias conv5_1.0.weight
conv5_1.0.bias conv6.0.weight conv6.0.bias conv6_1.0.weight conv6_1.0.bias deconv5.0.weight deconv4.0.weight
deconv3.0.weight deconv2.0.weight predict_flow6.weight predict_flow5.weight predict_flow4.weight
predict_flow3.weight predict_flow2.weight upsampled_flow6_to_5.weight upsampled_flow5_to_4.weight
upsampled_flow4_to_3.weight upsampled_flow3_to_2.weight
"""


@pytest.mark.parametrize(
    ("form", "parameters", "names"),
    [
        # Weights: 26,553,728 of convolutions, 12,052,480 of transposed ones, 61,200 of predictions, 256 of
        # upsampled flow; 4,864 channels out of the ten convolutions, 960 out of the four transposed ones.
        ("plain", 38_675_536, 33),
        ("bn", 38_680_336, 63),  # 4,800 more: a weight and a bias of a norm in the place of each bias
        ("nvidia", 38_676_506, 42),  # 970 more: biases of 960 and of 5 x 2 channels
    ],
)
def test_names_and_parameters_are_the_published_ones(form: str, parameters: int, names: int) -> None:
    _, batch_norm, biases = FILES[form]
    with torch.device("meta"):
        network = FlowNetS(batch_norm=batch_norm, biases=biases)
    assert sum(value.numel() for value in network.parameters()) == parameters
    of_file = published_shapes(form)
    assert len(of_file) == names
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    counters = {f"{name}.1.num_batches_tracked": () for name in CONVOLUTIONS if batch_norm}
    assert shapes == of_file | counters
    if form == "plain":
        assert list(of_file) == PLAIN_NAMES.split()


@pytest.mark.parametrize(("form", "published_bytes"), [("plain", 154_706_509), ("bn", 154_768_164)])
def test_a_file_of_these_tensors_has_the_published_size(form: str, published_bytes: int) -> None:
    """So that no tensor is missing or one too many: biases add 5,000 bytes, counters of batches 1,500."""
    file = io.BytesIO()
    state = {name: torch.zeros(shape) for name, shape in published_shapes(form).items()}
    # PyTorch's format at the time; some words of it have changed since.
    torch.save(checkpoint(form, state), file, _use_new_zipfile_serialization=False)
    assert abs(file.tell() - published_bytes) < 1000


def convolve(image: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """(C, H, W) with (C', C, k, k) to (C', H / stride, W / stride)."""
    side = weight.shape[2]
    around = np.pad(image, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    windows = sliding_window_view(around, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(weight, windows, axes=([1, 2, 3], [0, 3, 4])) + bias[:, None, None]


def convolve_transposed(image: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(C, H, W) with (C, C', 4, 4) to (C', 2H, 2W): every pixel stamps its kernel, in steps of two."""
    _, height, width = image.shape
    stamped = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
    for y, x in np.ndindex(height, width):
        stamped[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += np.tensordot(image[:, y, x], weight, axes=1)
    return stamped[:, 1:-1, 1:-1] + bias[:, None, None]


def leaky(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 0.1 * values)


def enlarge_4(image: np.ndarray) -> np.ndarray:
    """Bilinear, (C, H, W) to (C, 4H, 4W): pixel i's middle lies at (i + 0.5) / 4 - 0.5 of the coarse ones."""

    def rows(values: np.ndarray) -> np.ndarray:
        size = values.shape[1]
        places = np.clip((np.arange(4 * size) + 0.5) / 4 - 0.5, 0, size - 1)
        below = np.floor(places).astype(int)
        share = (places - below)[None, :, None]
        return (1 - share) * values[:, below] + share * values[:, np.minimum(below + 1, size - 1)]

    return rows(rows(image).swapaxes(1, 2)).swapaxes(1, 2)


def network_by_hand(pair: np.ndarray, form: str, tensors: dict[str, Tensor]) -> np.ndarray:
    """From (6, H, W) to the flow at a quarter of the size, one line a layer."""
    state = {name: value.double().numpy() for name, value in tensors.items()}
    _, batch_norm, _ = FILES[form]

    def bias(name: str, axis: int = 0) -> np.ndarray:
        return state.get(f"{name}.bias", np.zeros(state[f"{name}.weight"].shape[axis]))

    def conv(name: str, image: np.ndarray) -> np.ndarray:
        stride = 2 if name in OF_STRIDE_2 else 1
        image = convolve(image, state[f"{name}.0.weight"], bias(f"{name}.0"), stride)
        if batch_norm:
            scale, shift, mean, variance = (
                state[f"{name}.1.{which}"][:, None, None]
                for which in ("weight", "bias", "running_mean", "running_var")
            )
            image = scale * (image - mean) / np.sqrt(variance + 1e-5) + shift
        return leaky(image)

    def predict(level: int, image: np.ndarray) -> np.ndarray:
        return convolve(image, state[f"predict_flow{level}.weight"], bias(f"predict_flow{level}"), stride=1)

    def refine(level: int, beside: np.ndarray, below: np.ndarray, flow: np.ndarray) -> np.ndarray:
        name = f"deconv{level}"
        raised = leaky(convolve_transposed(below, state[f"{name}.0.weight"], bias(f"{name}.0", axis=1)))
        raised_flow = convolve_transposed(flow, state[f"upsampled_flow{level + 1}_to_{level}.weight"], np.zeros(2))
        return np.concatenate([beside, raised, raised_flow])

    conv2 = conv("conv2", conv("conv1", pair))
    conv3 = conv("conv3_1", conv("conv3", conv2))
    conv4 = conv("conv4_1", conv("conv4", conv3))
    conv5 = conv("conv5_1", conv("conv5", conv4))
    conv6 = conv("conv6_1", conv("conv6", conv5))
    level5 = refine(5, conv5, conv6, predict(6, conv6))
    level4 = refine(4, conv4, level5, predict(5, level5))
    level3 = refine(3, conv3, level4, predict(4, level4))
    level2 = refine(2, conv2, level3, predict(3, level3))
    return predict(2, level2)


@pytest.mark.parametrize("form", FILES)
def test_flow_is_that_of_a_slow_evaluation(put, form: str) -> None:
    """Preprocessing, padding, every layer, upsampling and cropping, with random weights from a published file."""
    state = random(form)
    put(form, checkpoint(form, state))
    frames = some_frames(2, 50, 127)
    flow_px = optical_flow(frames, "flownet-s")
    pair = frames / 255
    if form == "nvidia":
        pair = pair - pair.mean((0, 1, 2))
    elif form == "caffe":
        pair = pair[..., ::-1] - [0.411, 0.432, 0.45]
    else:
        pair = pair - [0.411, 0.432, 0.45]
    pair = np.pad(pair, ((0, 0), (7, 7), (0, 1), (0, 0)), mode="edge")  # 64 x 128
    expected = 20 * enlarge_4(network_by_hand(np.concatenate(pair.transpose(0, 3, 1, 2)), form, state))
    expected = expected[:, 7:57, :127].transpose(1, 2, 0)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(flow_px[0], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(flow_px[1], flow_px[0])


def constant(form: str, sign: float = 1.0) -> dict[str, Tensor]:
    """Weights that answer (0.15, -0.1) everywhere: a channel of conv2 is 1, or -0.1 after the leaky ReLU."""
    state = zeros(form)
    if form == "nvidia":
        return state | {"predict_flow2.bias": torch.tensor([0.15, -0.1])}
    ones = torch.zeros(narrow(128))
    ones[5] = sign
    tap = torch.zeros(2, narrow(194), 3, 3)
    tap[:, 5, 1, 1] = torch.tensor([0.15, -0.1])
    return state | {f"conv2.{1 if FILES[form][1] else 0}.bias": ones, "predict_flow2.weight": tap}


@pytest.mark.parametrize("size", [(1, 1), (11, 7), (64, 64), (65, 33), (130, 90)])
@pytest.mark.parametrize("form", ["plain", "bn", "nvidia"])
def test_a_constant_answer_in_pixels(put, form: str, size: tuple[int, int]) -> None:
    put(form, checkpoint(form, constant(form)))
    flow_px = optical_flow(some_frames(3, *size), "flownet-s")
    assert (flow_px.shape, flow_px.dtype) == ((3, *size, 2), np.float32)
    np.testing.assert_allclose(flow_px, np.broadcast_to([3, -2], flow_px.shape), rtol=1e-6)


@pytest.mark.parametrize("form", ["plain", "bn"])
def test_the_slope_below_zero_is_a_tenth(put, form: str) -> None:
    put(form, checkpoint(form, constant(form, sign=-1)))
    flow_px = optical_flow(some_frames(2, 64, 64), "flownet-s")
    np.testing.assert_allclose(flow_px, np.broadcast_to([-0.3, 0.2], flow_px.shape), rtol=1e-6)


@pytest.mark.parametrize(("div_flow", "expected"), [(1, 0.15), ("5", 0.75), (20.0, 3)])
def test_the_unit_of_flow_is_the_files(put, div_flow: object, expected: float) -> None:
    put("bn", checkpoint("bn", constant("bn")) | {"div_flow": div_flow})
    flow_px = optical_flow(some_frames(2, 64, 64), "flownet-s")
    np.testing.assert_allclose(flow_px[..., 0], expected, rtol=1e-6)


def test_pairs_beyond_one_batch_are_all_estimated(put) -> None:
    put("nvidia", checkpoint("nvidia", random("nvidia")))
    frames = some_frames(11, 64, 64)
    flow_px = optical_flow(frames, "flownet-s")
    for first in (0, 7, 8, 9):  # 8 pairs at once
        alone = optical_flow(frames[first : first + 2], "flownet-s")[0]
        np.testing.assert_allclose(flow_px[first], alone, atol=1e-4 * np.abs(alone).max())


def test_every_way_to_save_gives_the_same_flow(put) -> None:
    """Nested or flat, from DataParallel, with the counters that later versions of PyTorch write, old and new."""
    state = random("bn")
    frames = some_frames(2, 64, 64)
    counters = {f"{name}.1.num_batches_tracked": torch.tensor(9) for name in CONVOLUTIONS}
    parallel = {f"module.{name}": value for name, value in state.items()}
    flows = []
    for content, options in [
        (checkpoint("bn", state), {}),
        (checkpoint("bn", state), {"_use_new_zipfile_serialization": False}),
        (checkpoint("bn", state | counters), {}),
        (checkpoint("bn", parallel), {}),
        (state, {}),
        (parallel | {f"module.{name}": value for name, value in counters.items()}, {}),
    ]:
        put("bn", content, **options)
        load_flownet.cache_clear()
        flows.append(optical_flow(frames, "flownet-s"))
    for flow_px in flows[1:]:
        np.testing.assert_array_equal(flow_px, flows[0])


def test_the_file_is_read_once(put, monkeypatch) -> None:
    put("plain", checkpoint("plain", zeros("plain")))
    read, load = [], torch.load
    monkeypatch.setattr("torch.load", lambda *given, **named: read.append(1) or load(*given, **named))
    for _ in range(3):
        optical_flow(some_frames(2, 8, 8), "flownet-s")
    assert len(read) == 1


def test_random_numbers_stay_the_callers(put) -> None:
    put("plain", checkpoint("plain", zeros("plain")))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    optical_flow(some_frames(2, 8, 8), "flownet-s")
    assert torch.equal(torch.get_rng_state(), before)


def test_where_the_file_is_looked_for(put, monkeypatch, tmp_path) -> None:
    where = str(tmp_path / "checkpoints")
    with pytest.raises(
        ValueError, match=r"no weights of FlowNetS in .*checkpoints.*Expected is flownets_EPE"
    ) as caught:
        optical_flow(some_frames(2, 8, 8), "flownet-s")
    assert where in str(caught.value)
    assert "github.com/ClementPinard/FlowNetPytorch" in str(caught.value)
    plain = put("plain", {})
    assert weights_file() == plain
    other = put("nvidia", {})
    with pytest.raises(ValueError, match=r"more than one .*flownets_EPE1.951.pth, FlowNet2-S.*A3D_FLOWNETS"):
        weights_file()
    monkeypatch.setenv("A3D_FLOWNETS", str(other))
    assert weights_file() == other
    monkeypatch.setenv("A3D_FLOWNETS", str(tmp_path / "gone.pth"))
    with pytest.raises(ValueError, match=r"A3D_FLOWNETS is .*gone\.pth, where there is no file. Expected is"):
        weights_file()


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name not in names}


NAN = torch.full((2, narrow(194), 3, 3), torch.nan)
UNFIT = {
    "a ResNet": ({"conv1.weight": torch.zeros(1)}, r"conv1\.0\.weight \(and 32 more\) is missing"),
    "one too few": (without(zeros("plain"), "deconv3.0.weight"), r"deconv3\.0\.weight is missing"),
    "FlowNetC": (zeros("plain") | {"conv_redir.0.weight": torch.zeros(1)}, r"conv_redir\.0\.weight is no part of"),
    "one bias": (without(zeros("nvidia"), "deconv2.0.bias"), r"deconv2\.0\.bias is missing"),
    "of a stack": (
        zeros("plain") | {"conv1.0.weight": torch.zeros(64, 12, 7, 7)},
        r"\(64, 12, 7, 7\), and must be",
    ),
    "NaN": (zeros("plain") | {"predict_flow2.weight": NAN}, r"NaN or infinity in predict_flow2\.weight"),
    "a list": ([torch.zeros(1)], "other things than tensors by name"),
    "numbers": ({"state_dict": {"conv1.0.weight": 1}}, "other things than tensors by name"),
    "a state of nothing": ({"state_dict": None}, "other things than tensors by name"),
    "no unit": (checkpoint("plain", zeros("plain")) | {"div_flow": "many"}, "div_flow is 'many'"),
    "a unit of 0": (checkpoint("plain", zeros("plain")) | {"div_flow": 0}, "div_flow is 0"),
    "a huge unit": (checkpoint("plain", zeros("plain")) | {"div_flow": 10**400}, "div_flow is 1000.*of at most"),
    "8 bits": (
        zeros("plain") | {"predict_flow2.weight": NAN.to(torch.int8)},
        r": whole numbers of 8 bits, as of a quantised network, in predict_flow2\.weight",
    ),
    "sparse": (
        zeros("plain") | {"predict_flow2.weight": NAN.to_sparse()},
        r": predict_flow2\.weight is a tensor that is sparse or nested, and no network here has one",
    ),
    "no number": (checkpoint("plain", zeros("plain")) | {"div_flow": None}, "div_flow is None"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_file_that_does_not_fit_is_explained(put, what: str) -> None:
    content, reason = UNFIT[what]
    path = put("plain", content)
    with pytest.raises(ValueError, match=reason) as caught:
        optical_flow(some_frames(2, 8, 8), "flownet-s")
    assert str(caught.value).startswith(f"{path} can't be used as weights of FlowNetS: ")
    assert "Expected is flownets_EPE1.951.pth" in str(caught.value)


class Harmful:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "harmful", "web page"])
def test_a_damaged_file_is_explained_and_runs_nothing(put, tmp_path, damage: str) -> None:
    path = put("plain", checkpoint("plain", zeros("plain")))
    ran = tmp_path / "ran"
    content = {
        "cut": path.read_bytes()[:-1000],
        "text": b"no weights at all",
        "empty": b"",
        "harmful": pickle.dumps(Harmful(ran)),
        "web page": b"<!DOCTYPE html><html>Too many people have viewed this file</html>",
    }
    path.write_bytes(content[damage])
    with pytest.raises(ValueError, match=r"flownets_EPE1.951.pth can't be used .* or is damaged .*Expected is"):
        optical_flow(some_frames(2, 8, 8), "flownet-s")
    assert not ran.exists()
