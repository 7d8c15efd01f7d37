"""What an encoder attends to: the softmax of its own weights, for every kind of model, and where a picture it lies."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cpp.encoding.attention import NoAttentionError, attention, layout, view
from cpp.encoding.images import Preprocess

SIDE = 32


@dataclass
class Fake:
    """An encoder around a model with random weights, with the members that attention needs of a real one."""

    model: SimpleNamespace
    forward: Callable[[Tensor], Tensor]
    preprocess: Any

    @torch.inference_mode()
    def begin(self, rows: list[NDArray[np.uint8]]) -> Callable[[], Tensor]:
        pixels = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2) / 255
        return lambda: self.forward(pixels)


def fake(module: nn.Module, side: int = SIDE) -> Any:
    encode = getattr(module, "encode_image", module)
    return Fake(SimpleNamespace(module=module), encode, SimpleNamespace(size=(side, side)))


def of_timm(name: str, **settings: Any) -> Any:
    """timm's model with random weights. Biases, which start at zero, are random too."""
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=0, **settings).eval().requires_grad_(False)
    for weight in module.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    return fake(module)


def pixels(n: int = 3, side: int = SIDE) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 255, (n, side, side, 3), np.uint8))


def clip(**vision: Any) -> Any:
    """open_clip's CLIP with random weights."""
    torch.manual_seed(0)
    tower = {"image_size": SIDE, "layers": 2, "width": 64, "patch_size": 8, "head_width": 16, **vision}
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 1, "layers": 1}
    return fake(open_clip.CLIP(16, tower, text).eval(), tower["image_size"])


def kept(encoder: Any, module: nn.Module, side: int = SIDE) -> Tensor:
    """The input of a module while the pictures are encoded."""
    inputs: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    encoder.begin(pixels(side=side))()
    hook.remove()
    return inputs[-1]


def to_patches(first: Tensor, places: int) -> NDArray[np.float32]:
    """From attention `[n, heads, keys]` that to the last keys, which sums to one: `[n, heads, side, side]`."""
    rest = first[..., -places:] / first[..., -places:].sum(-1, keepdim=True)
    return np.asarray(rest.unflatten(-1, (int(places**0.5), -1)))


@torch.inference_mode()
def test_the_class_token_of_open_clip_attends_by_the_weights_of_the_last_block() -> None:
    encoder = clip()
    block = encoder.model.module.visual.transformer.resblocks[-1].attn
    tokens = kept(encoder, block)
    q, k, _ = (tokens @ block.in_proj_weight.T + block.in_proj_bias).unflatten(-1, (3, 4, 16)).permute(2, 0, 3, 1, 4)
    expected = (q[:, :, :1] @ k.mT / 4).softmax(-1)[:, :, 0]
    places = layout(encoder)
    assert places == (4, 4, "class token")
    found = attention(encoder, places, pixels())
    assert found.shape == (3, 4, 4, 4)
    np.testing.assert_allclose(found, to_patches(expected, 16), rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vit_tiny_patch16_224", {"patch_size": 8}),
        ("vit_small_patch14_reg4_dinov2", {"patch_size": 8}),  # registers
        ("deit_tiny_distilled_patch16_224", {"patch_size": 8}),  # a second token for its teacher
        ("vit_small_patch16_dinov3", {"patch_size": 8}),  # rotary positions, registers, normally pooled by the mean
        ("beit_base_patch16_224", {"patch_size": 8, "embed_dim": 48, "num_heads": 4}),  # a bias for relative positions
    ],
)
def test_the_class_token_of_timm_attends_as_without_fused_attention(name: str, settings: dict[str, int]) -> None:
    encoder = of_timm(name, img_size=SIDE, depth=2, **settings)
    places = layout(encoder)
    assert places == (4, 4, "class token")
    found = attention(encoder, places, pixels())
    last = encoder.model.module.blocks[-1].attn
    last.fused_attn = False  # the matrix of attention passes its dropout
    np.testing.assert_allclose(found, to_patches(kept(encoder, last.attn_drop)[:, :, 0], 16), rtol=1e-3)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "beit_base_patch16_224"])
def test_attention_of_half_precision_is_near(name: str) -> None:
    encoder = of_timm(name, img_size=SIDE, depth=2, patch_size=8, embed_dim=48, num_heads=4)
    exact = attention(encoder, layout(encoder), pixels())
    module = encoder.model.module.bfloat16()
    encoder.forward = lambda batch: module(batch.bfloat16())
    half = attention(encoder, layout(encoder), pixels())
    assert half.dtype == np.float32
    np.testing.assert_allclose(half.sum((2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(half, exact, rtol=0.1)


@torch.inference_mode()
def test_models_that_pool_by_attention_show_that_of_their_query() -> None:
    siglip = of_timm("vit_base_patch16_siglip_224", img_size=SIDE, depth=1, patch_size=8, embed_dim=48, num_heads=4)
    places = layout(siglip)
    assert places == (4, 4, "query by which it pools")
    pool = siglip.model.module.attn_pool
    k = pool.kv(kept(siglip, pool)).unflatten(-1, (2, 4, 12)).permute(2, 0, 3, 1, 4)[0]
    q = pool.q(pool.latent).unflatten(-1, (4, 12)).transpose(1, 2)
    expected = to_patches((q @ k.mT / 12**0.5).softmax(-1)[:, :, 0], 16)
    np.testing.assert_allclose(attention(siglip, places, pixels()), expected, rtol=1e-4)

    resnet = clip(image_size=128, layers=[1, 1, 1, 1], width=8, patch_size=None)
    places = layout(resnet)
    assert places == (4, 4, "mean of all places, by which it pools")
    pool = resnet.model.module.visual.attnpool
    cells = kept(resnet, pool, 128).flatten(2).mT
    tokens = torch.cat([cells.mean(1, keepdim=True), cells], 1) + pool.positional_embedding
    q, k = (project(tokens).unflatten(-1, (16, -1)).transpose(1, 2) for project in (pool.q_proj, pool.k_proj))
    expected = to_patches((q[:, :, :1] @ k.mT / k.shape[-1] ** 0.5).softmax(-1)[:, :, 0], 16)
    np.testing.assert_allclose(attention(resnet, places, pixels(side=128)), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        (lambda: of_timm("resnet18"), "it is not a Vision Transformer"),
        (lambda: of_timm("vit_medium_patch16_gap_240", img_size=SIDE, depth=1), "it has no class token"),
        (lambda: of_timm("vit_betwixt_patch16_reg4_gap_256", img_size=SIDE, depth=1), "it has no class token"),
        (lambda: of_timm("swin_tiny_patch4_window7_224", img_size=SIDE), "it has no class token"),
        (lambda: clip(patch_size=16), "its 2 x 2 places are too few for a heat map"),
    ],
)
def test_others_say_why_there_is_none(encoder: Callable[[], Any], reason: str) -> None:
    with pytest.raises(NoAttentionError, match=reason):
        layout(encoder())


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (64, 64), (2000, 500), (40, 30)])
def test_the_view_is_the_part_of_the_picture_that_the_transform_keeps(width: int, height: int) -> None:
    ones = (1.0, 1.0, 1.0)
    shortest, longest = min(width, height), max(width, height)
    for mode, side in (("shortest", shortest), ("longest", longest), ("squash", None)):
        x, y = ((1 - side / width) / 2, (1 - side / height) / 2) if side else (0, 0)
        transform = Preprocess((224, 224), ones, ones, resize_mode=mode)  # type: ignore[arg-type]
        np.testing.assert_allclose(
            view(transform, width, height), (x, y, 1 - x, 1 - y), rtol=0.01, atol=0.012, err_msg=mode
        )


@torch.inference_mode()
@pytest.mark.parametrize("by_name", [True, False])
def test_masks_are_followed(by_name: bool) -> None:
    class Masked(nn.Module):
        patch_embed, cls_token = SimpleNamespace(grid_size=(4, 4)), torch.ones(1)

        def forward(self, batch: Tensor) -> Tensor:
            tokens = batch.flatten(2)[..., : 17 * 6].unflatten(-1, (17, 6))
            mask = torch.ones(17, 17, dtype=torch.bool)
            mask[0, -4:] = False
            if by_name:
                return scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=mask, scale=0.5)
            return scaled_dot_product_attention(tokens, tokens, tokens, mask, scale=0.5)

    encoder = fake(Masked())
    found = attention(encoder, layout(encoder), pixels())
    assert (found[:, :, -1] == 0).all()
    tokens = (
        torch.from_numpy(np.stack(pixels())).permute(0, 3, 1, 2).flatten(2)[..., : 17 * 6].unflatten(-1, (17, 6)) / 255
    )
    expected = (0.5 * tokens[:, :, :1] @ tokens[:, :, :-4].mT).softmax(-1)[:, :, 0, 1:]
    np.testing.assert_allclose(found[:, :, :3].reshape(3, 3, 12), expected / expected.sum(-1, keepdim=True), rtol=1e-4)


def test_a_transform_that_crops_more_is_seen_to() -> None:
    def corner(image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(image.resize((100, 100)).crop((10, 20, 60, 100)))

    np.testing.assert_allclose(view(corner, 640, 480), (0.1, 0.2, 0.6, 1), atol=0.012)
