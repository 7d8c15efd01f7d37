"""Vectors equal those of open_clip, and missing models or weights are reported before any work."""

import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from cpp.encoding import families, images, open_clip_files, open_clip_models
from cpp.encoding.encoder import Encoder, encode, templates
from cpp.encoding.model import Identity
from cpp.encoding.open_clip_models import identity
from cpp.encoding.pretrained import find_weights, register
from cpp.encoding.weights import WeightsError, sha256
from cpp.sources.samples import Sample
from tests.support.datasets import TINY
from tests.support.pictures import encoded, picture

PATIENCE = 120  # seconds until an event that does not come fails a test
TIMM: dict[str, Any] = {  # towers that are modules of their own, as SigLIP has them
    "embed_dim": 48,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": "convnext_atto",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 48, "heads": 2, "layers": 1, "pool_type": "last"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two registered models and random weights of each, as .safetensors and as .pt."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("cpp-tiny", TINY), ("cpp-tiny-timm", TIMM)):
        (folder / f"{name}.json").write_text(json.dumps(config))
    register(str(folder))
    for name in ("cpp-tiny", "cpp-tiny-timm"):
        torch.manual_seed(0)
        state = open_clip.create_model(name).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, folder / f"{name}.safetensors")
        torch.save(
            {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, folder / f"{name}.pt"
        )
    return folder


def reference(models: Path, name: str) -> tuple[Any, Any]:
    """open_clip's own model and transform."""
    model, _, transform = open_clip.create_model_and_transforms(name, pretrained=str(models / f"{name}.safetensors"))
    return model.eval(), transform


def cosine(A: NDArray[Any], B: NDArray[Any]) -> NDArray[np.float64]:
    A, B = A.astype(np.float64), B.astype(np.float64)
    return np.asarray((A * B).sum(1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1))


def pictures(n: int) -> list[bytes]:
    modes = ["RGB", "L", "P", "1"]
    return [encoded(picture(size=(40 + i, 70 - i), seed=i).convert(modes[i % 4])) for i in range(n)]


def vectors(encoders: list[Encoder], data: list[bytes], batch: int) -> list[NDArray[np.float16]]:
    samples = [Sample(str(i), image) for i, image in enumerate(data)]
    stream = images.prepare(samples, [e.preprocess for e in encoders], images.Limits(), threads=1, waiting=8)
    parts = list(encode(encoders, (item.pixels for item in stream if item.pixels is not None), batch))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def one_by_one(model: Any, transform: Any, data: list[bytes]) -> NDArray[np.float32]:
    with torch.no_grad():
        rows = [model.encode_image(transform(Image.open(io.BytesIO(image)))[None], normalize=True) for image in data]
    return torch.cat(rows).numpy()


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("bf16", 0.999)])
def test_vectors_equal_those_of_open_clip(models: Path, precision: str, least: float) -> None:
    names = ["cpp-tiny", "cpp-tiny-timm"]
    encoders = [Encoder(name, str(models / f"{name}.pt"), "cpu", precision) for name in names]
    data = pictures(21)
    for name, X in zip(names, vectors(encoders, data, batch=8), strict=True):
        assert X.dtype == np.float16
        np.testing.assert_allclose(np.linalg.norm(X.astype(np.float64), axis=1), 1, atol=2e-3)
        assert cosine(X, one_by_one(*reference(models, name), data)).min() > least


def test_word_vectors_equal_those_of_open_clip(models: Path) -> None:
    words = ["cat", "fire engine", "Ünïcode", "cat", "tree"]
    for name in ("cpp-tiny", "cpp-tiny-timm"):
        model, tokenizer = reference(models, name)[0], open_clip.get_tokenizer(name)
        ours = Encoder(name, str(models / f"{name}.pt"), "cpu", "fp32")
        for texts in (templates("simple_imagenet"), templates(["a photo of a {}.", "{}"])):
            expected = open_clip.build_zero_shot_classifier(model, tokenizer, words, texts).T.numpy()
            assert cosine(ours.words(words, texts, batch=5), expected).min() > 0.99999
    assert len(templates("openai_imagenet")) == 80


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("imagnet", r"templates is 'imagnet', it must be one of openai_imagenet, simple_imagenet"),
        ([], "templates is empty"),
        (["a photo"], r"'a photo' must have exactly one \{\}"),
    ],
)
def test_wrong_templates_are_an_error(which: str | list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        templates(which)


def test_identity_depends_on_weights_not_on_the_file_format(models: Path, tmp_path: Path) -> None:
    pt, safe = (identity("cpp-tiny", str(models / f"cpp-tiny.{suffix}")) for suffix in ("pt", "safetensors"))
    assert pt == Identity("cpp-tiny", "cpp-tiny.pt", safe.sha256)
    assert len(pt.sha256) == 64
    state = torch.load(models / "cpp-tiny.pt", weights_only=True)["state_dict"]
    state["module.logit_scale"] += 1e-6
    torch.save(state, tmp_path / "cpp-tiny.pt")
    assert identity("cpp-tiny", str(tmp_path / "cpp-tiny.pt")).sha256 != pt.sha256


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm-was-done"),))


def test_code_in_weights_is_not_run(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Harm()}, tmp_path / "bad.pt")
    with pytest.raises(WeightsError, match=r"bad\.pt cannot be read as weights without running code"):
        Encoder("cpp-tiny", str(tmp_path / "bad.pt"), "cpu", "fp32")
    assert not (tmp_path / "harm-was-done").exists()


def test_unsuitable_weights_are_an_error(models: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cpp-tiny-timm\.pt does not load as weights of cpp-tiny"):
        Encoder("cpp-tiny", str(models / "cpp-tiny-timm.pt"), "cpu", "fp32")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(WeightsError, match=r"junk\.safetensors cannot be read"):
        identity("cpp-tiny", str(tmp_path / "junk.safetensors"))
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match=r"list\.pt is not a state dict"):
        identity("cpp-tiny", str(tmp_path / "list.pt"))


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-33", "openai", r"encode\.model is 'ViT-B-33', .* the nearest are ViT-B-32"),
        (
            "ViT-B-32",
            "laion2b_s34b",
            r"'laion2b_s34b', .* neither a tag of ViT-B-32 nor a file: .* nearest: laion2b_s34b_b79k",
        ),
        ("ViT-L-14", "laion2b_s34b_b79k", r"laion2b_s34b_b79k is a tag of ViT-B-32\): use a tag"),
        ("ViT-B-32", "none.pt", r"'none\.pt', which is neither .* path of a file of weights \(\.safetensors"),
        ("ViT-B-32", None, r"encode\.pretrained is empty: set it to a tag of ViT-B-32 \(openai"),
        ("cpp-tiny", "openai", r"neither a tag of cpp-tiny nor a file .* \(the nearest: none\)"),
        ("local-dir:none", None, r"the folder none has no open_clip_config\.json"),
    ],
)
def test_unknown_models_and_tags_are_reported_with_the_nearest(
    models: Path, model: str, pretrained: str | None, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        find_weights(model, pretrained)


def test_missing_weights_without_network_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = list[float]()

    def unreachable(*_: object, timeout: float) -> None:
        asked.append(timeout)
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    for model, tag in (("ViT-B-32", "laion2b_s34b_b79k"), ("ViT-B-16-SigLIP", "webli"), ("hf-hub:some/model", None)):
        with pytest.raises(WeightsError, match=rf"weights of {model}, .* not on this machine .*no network.* connect"):
            find_weights(model, tag)
    assert len(asked) == 3  # one short request for each model
    assert max(asked) <= 10


def test_weights_in_the_cache_need_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def cached(repository: str, name: str) -> str | None:
        return f"{tmp_path}/{repository}" if name == "open_clip_model.safetensors" else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    monkeypatch.setattr("urllib.request.urlopen", None)
    assert find_weights("ViT-B-16-SigLIP", "webli") == f"{tmp_path}/timm/ViT-B-16-SigLIP"


def test_a_file_gets_the_transform_of_the_tags_and_a_tag_its_own_activation() -> None:
    siglip = open_clip_models._as_trained("ViT-B-16-SigLIP", "mine.safetensors")
    assert siglip["force_preprocess_cfg"]["mean"] == (0.5, 0.5, 0.5)
    assert siglip["force_preprocess_cfg"]["resize_mode"] == "squash"
    assert open_clip_models._as_trained("ViT-L-14", "mine.pt") == {}  # its tags do not agree
    assert open_clip_models._as_trained("ViT-L-14", "openai")["quick_gelu"] is True
    assert open_clip_models._as_trained("ViT-B-32", "laion2b_s34b_b79k")["quick_gelu"] is False


def test_a_folder_with_its_own_configuration(models: Path, tmp_path: Path) -> None:
    transform = {"size": 48, "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    config = {"model_cfg": TINY, "preprocess_cfg": transform}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="has no weights"):
        find_weights(f"local-dir:{tmp_path}", None)
    (tmp_path / "open_clip_model.safetensors").write_bytes((models / "cpp-tiny.safetensors").read_bytes())
    ours = Encoder(f"local-dir:{tmp_path}", None, "cpu", "fp32")
    assert ours.preprocess == images.Preprocess((48, 48), (0.5,) * 3, (0.25,) * 3, "bilinear", "squash")
    assert ours.identity.sha256 == identity("cpp-tiny", str(models / "cpp-tiny.pt")).sha256


def test_precisions_that_the_device_lacks_are_an_error(models: Path) -> None:
    for precision in ("fp16", "int8"):
        with pytest.raises(ValueError, match=rf"encode\.precision is '{precision}' on cpu"):
            Encoder("cpp-tiny", str(models / "cpp-tiny.pt"), "cpu", precision)


@pytest.mark.parametrize(
    ("content", "message"), [("[]", "is not a model"), ("{}", "lacks embed_dim"), ("{", "is not a model")]
)
def test_files_that_are_not_model_configurations_are_an_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ValueError, match=rf"m\.json .*{message}"):
        register(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no \\.json files"):
        register(str(tmp_path / "empty"))


def test_streams_of_one_device_read_together_and_compute_in_turn() -> None:
    events, other = list[str](), list[threading.Thread]()
    read, begun = threading.Event(), threading.Event()

    class Logged:
        """Encodes nothing. The result of the first stream's last batch waits until the second stream computes."""

        def begin(self, rows: Sequence[str]) -> Callable[[], Sequence[str]]:
            events.extend(rows)
            begun.set() if rows[0].startswith("second") else None
            return lambda: rows if rows[0] != "first 2" else [str(begun.wait(PATIENCE))]

    def images(stream: str) -> Iterator[tuple[str]]:
        for i in range(3):
            if (stream, i) == ("first", 1):  # this stream computes its first batch
                other.append(threading.Thread(target=lambda: events.append(str(len(results("second"))))))
                other[0].start()
                assert read.wait(PATIENCE)
            if stream == "second":
                read.set()
            yield (f"{stream} {i}",)

    def results(stream: str) -> list[Any]:
        return list(encode(cast("Any", [Logged()]), cast("Any", images(stream)), 1, turn))

    turn = threading.Lock()
    assert results("first") == [(["first 0"],), (["first 1"],), (["True"],)]
    other[0].join()
    assert events == ["first 0", "first 1", "first 2", "second 0", "second 1", "second 2", "3"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_the_hash_of_a_file_without_torch_is_that_of_its_tensors(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {"b.weight": torch.arange(6).reshape(2, 3).to(dtype), "module.a": torch.ones(()).to(dtype)}
    state["empty"] = torch.empty(0, 3, dtype=dtype)
    torch.save(state, tmp_path / "w.pt")
    save_file(state, tmp_path / "w.safetensors")
    assert sha256(str(tmp_path / "w.safetensors")) == sha256(str(tmp_path / "w.pt"))


def test_a_file_of_weights_is_identified_as_by_open_clip(models: Path) -> None:
    for pretrained in (str(models / "cpp-tiny.pt"), str(models / "cpp-tiny.safetensors")):
        expected = open_clip_models.identity("cpp-tiny", pretrained)
        assert open_clip_files.weights_file("cpp-tiny", pretrained, str(models)) == pretrained
        assert families.identity("cpp-tiny", pretrained, str(models)) == expected
    assert open_clip_files.weights_file("ViT-B-32", str(models / "cpp-tiny.pt"), None) is not None
    for model, pretrained in (("cpp-unknown", str(models / "cpp-tiny.pt")), ("ViT-B-32", "openai"), ("ViT-B-32", None)):
        assert open_clip_files.weights_file(model, pretrained, str(models)) is None
