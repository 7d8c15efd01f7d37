"""Vectors and pixels equal those of timm, and models or weights that do not fit are reported before any work."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config

from cpp.encoding import crate_models, families, images, open_clip_models, timm_models
from cpp.encoding.encoder import Encoder, encode
from cpp.encoding.weights import WeightsError, read_tensors
from cpp.sources.samples import Sample
from tests.support.pictures import encoded, picture

VIT = "timm/test_vit3"  # has a class token and a mean pooling
MODELS = [VIT, "timm/test_vit", "timm/test_convnext", "timm/test_resnet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of each model with its classifier, as a training writes them."""
    folder = tmp_path_factory.mktemp("timm")
    for name in MODELS:
        torch.manual_seed(0)
        state = timm.create_model(name.removeprefix("timm/")).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, file_of(folder, name))
    return folder


def file_of(folder: Path, name: str) -> str:
    return str(folder / f"{name.removeprefix('timm/')}.safetensors")


def pictures() -> list[bytes]:
    modes = ["RGB", "L", "P", "CMYK"]
    drawn = [picture(size=(60 + 70 * i, 330 - 50 * i), seed=i).convert(modes[i % 4]) for i in range(5)]
    return [encoded(image, "TIFF") for image in drawn]


def reference(folder: Path, name: str) -> Any:
    """timm's own model without classifier."""
    model = timm.create_model(name.removeprefix("timm/"), num_classes=0)
    model.load_state_dict(read_tensors(file_of(folder, name)), strict=False)
    return model.eval()


def vectors(encoder: Encoder) -> NDArray[np.float16]:
    samples = [Sample(str(i), image) for i, image in enumerate(pictures())]
    stream = images.prepare(samples, [encoder.preprocess], images.Limits(), threads=1, waiting=8)
    return np.concatenate([X for (X,) in encode([encoder], (item.pixels for item in stream if item.pixels), 2)])


def cosine(A: NDArray[Any], B: NDArray[Any]) -> NDArray[np.float64]:
    A, B = A.astype(np.float64), B.astype(np.float64)
    return np.asarray((A * B).sum(1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("bf16", 0.999)])
def test_vectors_equal_those_of_timm(folder: Path, name: str, precision: str, least: float) -> None:
    model = reference(folder, name)
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    batch = torch.stack([transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in pictures()])
    with torch.no_grad():
        expected = model(batch).numpy()
    X = vectors(Encoder(name, file_of(folder, name), "cpu", precision))
    assert X.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(X.astype(np.float64), axis=1), 1, atol=2e-3)
    assert cosine(X, expected).min() > least


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("size", "crop_pct"), [((48, 48), 1.0), ((48, 48), 0.875), ((40, 64), 0.95)])
def test_normalised_pixels_equal_those_of_timm_bit_by_bit(
    crop_mode: str, interpolation: str, size: tuple[int, int], crop_pct: float
) -> None:
    settings: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3), "interpolation": interpolation}
    settings |= {"crop_pct": crop_pct, "crop_mode": crop_mode}
    ours = timm_models.TimmTransform(size, **settings)
    theirs = create_transform(input_size=(3, *size), is_training=False, **settings)
    mean, std = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))
    for data in pictures():
        image = images.decode(data, images.Limits())
        pixels = torch.from_numpy(ours(image).copy()).permute(2, 0, 1).float().div_(255).sub_(mean).div_(std)
        assert torch.equal(pixels, theirs(Image.open(io.BytesIO(data)).convert("RGB")))


def test_the_vector_is_the_class_token_or_the_mean_of_the_patches(folder: Path) -> None:
    model = reference(folder, VIT)
    pixels = torch.rand(2, 3, *Encoder(VIT, file_of(folder, VIT), "cpu", "fp32").preprocess.size)
    with torch.no_grad():
        tokens = model.forward_features(pixels)
        parts = {"token": tokens[:, 0], "mean": tokens[:, model.num_prefix_tokens :].mean(1), None: model(pixels)}
        for pool, part in parts.items():
            ours = timm_models.load(VIT, file_of(folder, VIT), pool, "cpu", "fp32")
            expected = part if pool is None else model.fc_norm(part)
            assert torch.allclose(ours.encode_image(pixels), expected, atol=1e-5), pool


def test_the_identity_names_model_tag_or_file_and_weights(folder: Path) -> None:
    identity = families.identity(VIT, file_of(folder, VIT))
    assert (identity.model, identity.pretrained, len(identity.sha256)) == (VIT, "test_vit3.safetensors", 64)
    assert not families.has_text_tower(VIT)
    assert families.has_text_tower("ViT-B-32")


def test_weights_without_a_layer_or_of_another_model_are_an_error(folder: Path, tmp_path: Path) -> None:
    tensors = dict(read_tensors(file_of(folder, VIT)))
    del tensors["blocks.0.attn.qkv.weight"]
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(WeightsError, match=r"(?s)cut\.safetensors does not load as weights of timm/test_vit3: .*qkv"):
        timm_models.load(VIT, str(tmp_path / "cut.safetensors"), None, "cpu", "fp32")
    with pytest.raises(WeightsError, match=r"test_resnet\.safetensors does not load as weights of timm/test_vit3"):
        timm_models.load(VIT, file_of(folder, "timm/test_resnet"), None, "cpu", "fp32")


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        (
            "timm/vit_bas_patch16_224",
            None,
            r"'timm/vit_bas_patch16_224', which timm does not know; .*vit_base_patch16_224",
        ),
        (
            "timm/vit_base_patch14_dinov2",
            "lvd142",
            r"'lvd142' is not a tag of timm/vit_base_patch14_dinov2: use one of lvd142m",
        ),
        ("timm/vit_base_patch14_dinov2.a", "lvd142m", r"'lvd142m': name one tag"),
        ("timm/test_vit", "none.safetensors", r"'none\.safetensors', which is not a file"),
        ("timm/legacy_senet154.in1k", None, r"no weights of timm/legacy_senet154 on the Hugging Face Hub: download"),
    ],
)
def test_unknown_models_tags_and_files_are_an_error(model: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        families.identity(model, pretrained)


@pytest.mark.parametrize("pretrained", [None, "lvd142m"])
def test_a_tag_is_taken_from_the_cache_or_downloaded(
    monkeypatch: pytest.MonkeyPatch, pretrained: str | None, folder: Path
) -> None:
    def cached(repository: str, name: str) -> str | None:
        assert repository == "timm/vit_base_patch14_dinov2.lvd142m"
        return file_of(folder, VIT) if name == "model.safetensors" else None

    model = "timm/vit_base_patch14_dinov2" + ("" if pretrained else ".lvd142m")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    identity = families.identity(model, pretrained)
    assert (identity.model, identity.pretrained) == ("timm/vit_base_patch14_dinov2", "lvd142m")

    def unreachable(*_: object, timeout: float) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(
        WeightsError, match=r"vit_base_patch14_dinov2, pretrained 'lvd142m', are not on this .*no network"
    ):
        families.identity(model, pretrained)


def test_a_pooling_that_a_model_lacks_is_an_error(folder: Path) -> None:
    name = "timm/test_resnet"
    with pytest.raises(WeightsError, match=r"encode\.pool is 'token', and timm/test_resnet has no class token"):
        timm_models.load(name, file_of(folder, name), "token", "cpu", "fp32")


def test_an_encoder_without_a_text_tower_says_so(folder: Path) -> None:
    with pytest.raises(WeightsError, match="timm/test_vit3 has no text tower"):
        Encoder(VIT, file_of(folder, VIT), "cpu", "fp32").words(["cat"], ["{}"], 1)


def test_the_family_of_a_name() -> None:
    assert families.family(VIT) is timm_models
    assert {families.family(name) for name in crate_models.MODELS} == {crate_models}
    assert all(map(families.is_white_box, crate_models.MODELS))
    assert families.family("ViT-B-32") is families.family("hf-hub:timm/any") is open_clip_models
