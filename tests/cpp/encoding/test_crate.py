"""CRATE equals its equations, and loads state dicts as they are published, each checked by name and shape."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import transforms

from cpp.encoding import attention, crate_models
from cpp.encoding.crate import ALPHA, CLIP, FIRST, Crate, Shape
from cpp.encoding.encoder import Encoder
from cpp.encoding.weights import WeightsError

PUBLISHED = {  # names in `Crate` -> published names, with {} for the number of the block
    FIRST: {
        "cls_token": "cls_token", "position": "pos_embedding",
        "patches.": "to_patch_embedding.", "norm.": "mlp_head.0.",
        "mssa.norm.": "transformer.layers.{}.0.norm.", "mssa.subspaces.": "transformer.layers.{}.0.fn.qkv.",
        "mssa.out.": "transformer.layers.{}.0.fn.to_out.0.", "ista.norm.": "transformer.layers.{}.1.norm.",
        "ista.dictionary": "transformer.layers.{}.1.fn.weight",
    },
    CLIP: {
        "cls_token": "visual.class_embedding", "position": "visual.positional_embedding",
        "patches.0.": "visual.conv1.", "norm.": "visual.ln_post.", "projection": "visual.proj",
        "mssa.norm.": "visual.transformer.resblocks.{}.ln_1.",
        "mssa.subspaces.weight": "visual.transformer.resblocks.{}.attn.in_proj_weight",
        "mssa.out.": "visual.transformer.resblocks.{}.attn.out_proj.",
        "ista.norm.": "visual.transformer.resblocks.{}.ln_2.",
        "ista.dictionary": "visual.transformer.resblocks.{}.mlp.c_fc",
        "ista.decoder": "visual.transformer.resblocks.{}.mlp.c_proj",
    },
}  # fmt: skip
PUBLISHED[ALPHA] = PUBLISHED[FIRST] | {
    "patches.0.": "conv1.", "ista.dictionary": "transformer.layers.{}.1.fn.D",
    "ista.decoder": "transformer.layers.{}.1.fn.D1",
}  # fmt: skip


def shape(variant: str) -> Shape:
    return Shape(variant, dim=24, depth=2, heads=3, patch=4, side=16, out=10 if variant == CLIP else 0)


def drawn(variant: str) -> Crate:
    """A model of random weights, none of which is the zero or one of its initialisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Crate(shape(variant))
        for parameter in model.parameters():
            nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0, 0.4)
    return model.eval().requires_grad_(False)


def published(model: Crate) -> dict[str, Tensor]:
    """The state dict by its published names and shapes."""
    names, state = PUBLISHED[model.shape.variant], {}
    for name, tensor in model.state_dict().items():
        _, block, inner = name.split(".", 2) if name.startswith("blocks.") else ("", "", name)
        start = max((start for start in names if inner.startswith(start)), key=len)
        state[names[start].format(block) + inner.removeprefix(start)] = tensor
    if model.shape.variant == CLIP:
        attention = [name for name in state if name.endswith("in_proj_weight")]
        text = {"token_embedding.weight": torch.ones(5, 3), "transformer.resblocks.0.ln_1.weight": torch.ones(3)}
        return state | {name: state[name].repeat(3, 1) for name in attention} | text
    leading = {"pos_embedding": state["pos_embedding"][None], "cls_token": state["cls_token"][None, None]}
    classifier = {"mlp_head.1.weight": torch.ones(7, 24), "mlp_head.1.bias": torch.ones(7)}
    return {f"module.{name}": tensor for name, tensor in {**state, **leading, **classifier}.items()}


def layer_norm(x: Tensor, norm: nn.Module, eps: float) -> Tensor:
    weight, bias = norm.weight.double(), norm.bias.double()
    return (x - x.mean()) / (x.var(correction=0) + eps).sqrt() * weight + bias


def by_equations(model: Crate, image: Tensor) -> Tensor:
    """The features of one image, token by token and head by head in float64 as the papers write them."""
    first, p, side = model.shape.variant == FIRST, model.shape.patch, model.shape.side
    eps, d, heads = 1e-5 if first else 1e-6, model.shape.dim, model.shape.heads
    image, w = image.double(), {name: tensor.double() for name, tensor in model.state_dict().items()}
    tokens = [w["cls_token"]]
    for y in range(0, side, p):
        for x in range(0, side, p):
            patch = image[:, y : y + p, x : x + p]
            if first:
                pixels = layer_norm(patch.permute(1, 2, 0).flatten(), model.patches[1], 1e-5)
                token = layer_norm(w["patches.2.weight"] @ pixels + w["patches.2.bias"], model.patches[3], 1e-5)
            else:
                token = w["patches.0.weight"].flatten(1) @ patch.flatten() + w.get("patches.0.bias", 0)
            tokens.append(token)
    Z = torch.stack(tokens, 1) + w["position"].T  # columns, as in the papers
    for i, block in enumerate(model.blocks):
        U = w[f"blocks.{i}.mssa.subspaces.weight"]
        normed = torch.stack([layer_norm(z, block.mssa.norm, eps) for z in Z.T], 1)
        parts = []
        for k in range(heads):
            W = U[k * d // heads : (k + 1) * d // heads] @ normed  # U_k^T Z
            parts.append(W @ torch.softmax(W.T @ W / (d // heads) ** 0.5, 0))
        step = w[f"blocks.{i}.mssa.out.weight"] @ torch.cat(parts)
        half = Z + step + (w[f"blocks.{i}.mssa.out.bias"][:, None] if first else 0)
        X, D = torch.stack([layer_norm(z, block.ista.norm, eps) for z in half.T], 1), w[f"blocks.{i}.ista.dictionary"]
        if first:
            Z = (X + 0.1 * D.T @ (X - D @ X) - 0.1 * 0.1).clamp_min(0)
        else:
            A = torch.zeros(4 * d, X.shape[1], dtype=X.dtype)
            for _ in range(2):
                A = (A - 0.1 * D.T @ (D @ A - X) - 0.1 * 0.1).clamp_min(0)
            Z = half + w[f"blocks.{i}.ista.decoder"] @ A
    features = layer_norm(Z[:, 0], model.norm, 1e-6 if model.shape.variant == CLIP else 1e-5)
    return features @ w["projection"] if model.shape.variant == CLIP else features


@pytest.mark.parametrize("variant", [FIRST, ALPHA, CLIP])
def test_a_published_state_dict_gives_the_features_of_the_equations(variant: str, tmp_path: Path) -> None:
    model = drawn(variant)
    torch.save({"epoch": 3, "arch": "CRATE", "state_dict": published(model)}, tmp_path / "published.pth")
    loaded = crate_models.load(f"{variant}/24x2x3", str(tmp_path / "published.pth"), None, "cpu", "fp32")
    assert loaded.module.shape == model.shape
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([by_equations(model, image) for image in pixels])
    torch.testing.assert_close(loaded.encode_image(pixels).double(), expected, atol=1e-5, rtol=1e-5)
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    own = crate_models.load(f"{variant}/24x2x3", str(tmp_path / "own.safetensors"), None, "cpu", "fp32")
    assert torch.equal(own.encode_image(pixels), loaded.encode_image(pixels))


def test_steps_follow_the_tokens_of_the_forward_pass() -> None:
    model = drawn(FIRST)
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    steps = list(model.steps(pixels))
    assert [step.before.shape for step in steps] == [(2, 3, 17, 8)] * 2
    last = steps[-1].code
    assert torch.equal(model.norm(last[:, 0]), model(pixels))
    assert torch.equal(model.norm(last[:, 1:].mean(1)), model(pixels, "mean"))
    assert ((last == 0).any(), (last < 0).any()) == (True, False)


def test_the_attention_of_the_class_token_is_that_of_the_last_block(tmp_path: Path) -> None:
    model = drawn(FIRST)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder = Encoder("crate/24x2x3", str(tmp_path / "w.safetensors"), "cpu", "fp32")
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    layout = attention.layout(encoder)
    assert layout == (4, 4, "class token")
    W = list(model.steps(encoder.normalised([image])))[-1].before
    to_patches = (W[:, :, :1] @ W.mT / 8**0.5).softmax(-1)[0, :, 0, 1:]
    expected = (to_patches / to_patches.sum(-1, keepdim=True)).reshape(3, 4, 4)
    np.testing.assert_allclose(attention.attention(encoder, layout, [image])[0], expected, atol=1e-6)


def test_the_encoder_of_published_sizes_has_the_published_transform(tmp_path: Path) -> None:
    state = Crate(Shape(FIRST, 384, 12, 6, patch=56, side=224)).state_dict()
    save_file(state, tmp_path / "tiny.safetensors")
    encoder = Encoder("crate/tiny", str(tmp_path / "tiny.safetensors"), "cpu", "fp32")
    noise = np.random.default_rng(0).integers(0, 255, (300, 260, 3), np.uint8)
    authors = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    np.testing.assert_array_equal(
        encoder.preprocess(Image.fromarray(noise)), np.asarray(authors(Image.fromarray(noise)))
    )
    assert encoder.dim == 384
    assert encoder.identity.model == "crate/tiny"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("crate/giant", "crate/giant.*which is no CRATE: use one of crate/tiny, crate/small"),
        ("crate-alpha/tiny", "which is no CRATE"),
        ("crate/24x2x5", "the dimensions a multiple of the heads"),
        ("crate/24x0x3", "must be at least 1"),
        ("crate/24x3x3", "it has 24 dimensions and 2 blocks, not 24 and 3"),
        ("crate/small", "it has 24 dimensions and 2 blocks, not 576 and 12"),
        ("crate-alpha/24x2x3", "does not load as weights of crate-alpha/24x2x3: it lacks 'patches.0.weight'"),
    ],
)
def test_unsuitable_names_and_weights_are_an_error(model: str, message: str, tmp_path: Path) -> None:
    save_file(drawn(FIRST).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=message):
        crate_models.identity(model, str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("pretrained", [None, "imagenet", "missing.pth"])
def test_weights_that_are_no_file_are_an_error(pretrained: str | None) -> None:
    with pytest.raises(WeightsError, match="crate/base has no tags, download its checkpoint"):
        crate_models.identity("crate/base", pretrained)


def test_a_vision_transformer_is_no_crate(tmp_path: Path) -> None:
    state = published(drawn(CLIP))
    state["visual.transformer.resblocks.1.attn.in_proj_weight"][0] += 1
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="queries, keys and values differ in transformer.resblocks.1.attn"):
        crate_models.load(f"{CLIP}/24x2x3", str(tmp_path / "w.pt"), None, "cpu", "fp32")
