"""The stages that show a run: what is made once, what is not shown, what is counted."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cpp.report import html as report
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.browser import opened
from tests.support.datasets import COLOURS, WORDS, Dataset


def go(dataset: Dataset, *overrides: str) -> Run:
    run = Run(load(dataset.config, overrides), local=True)
    assert run.go()
    return run


def computed(run: Run) -> set[str]:
    return {name for name, outcome in run.outcomes.items() if outcome.done > outcome.reused}


@pytest.fixture
def finished(dataset: Dataset) -> Dataset:
    go(dataset)
    return dataset


def test_every_cluster_shows_pictures_of_its_own(finished: Dataset) -> None:
    html = (finished.root / "report.html").read_text()
    sections = re.findall(r'<article class="card".*?</article>', html, re.DOTALL)
    assert len(sections) == 4
    for section in sections:
        name = re.search(r"<h3><a[^>]*>(.*?)</a></h3>", section)
        assert name is not None
        expected = COLOURS[WORDS.index(name[1])]
        pictures = re.findall(r"base64,([^\"]+)", section)
        assert len(pictures) == 16
        for picture in pictures:
            pixel = Image.open(io.BytesIO(base64.b64decode(picture))).resize((1, 1)).getpixel((0, 0))
            assert np.abs(np.subtract(pixel, expected)).max() < 12


def test_members_that_are_shown_are_the_extremes_of_the_whole_run(finished: Dataset) -> None:
    rows = pd.concat([pd.read_parquet(path) for path in sorted((finished.root / "assignments").iterdir())])
    shown = pd.read_parquet(finished.root / "examples.parquet")
    for cluster, mine in rows.groupby("cluster"):
        found = shown[(shown["cluster"] == cluster) & (shown["kind"] == "typical")]
        assert sorted(found["score"]) == sorted(mine["score"].nlargest(8))


def test_the_map_is_of_the_rows_of_the_run(finished: Dataset) -> None:
    rows = pd.concat([pd.read_parquet(path) for path in sorted((finished.root / "assignments").iterdir())])
    shown = pd.read_parquet(finished.root / "map.parquet")
    assert shown["key"].tolist() == rows["key"].tolist()
    assert shown["cluster"].tolist() == rows["cluster"].tolist()
    assert shown[["x", "y"]].notna().all(axis=None)


def test_pictures_are_read_once(finished: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("cpp.report.thumbnails.iter_images")
    assert computed(go(finished, "name=other")) == {"report", "plots", "map_page"}
    assert computed(go(finished, "label.top=2")) == {"vote", "label", "labels", "report", "plots", "map_page"}
    assert "were not found" not in (finished.root / "report.html").read_text()


def test_images_that_must_not_leave_do_not(dataset: Dataset) -> None:
    go(dataset, "report.images=false")
    html = (dataset.root / "report.html").read_text()
    assert "data:image/webp;base64,Ukl" not in html
    assert "UklGR" not in html
    assert "Pictures are left out" in html
    assert html.count('class="none"') == 4 * 16 + 6 * 2 * 4  # also in the six pairs of clusters
    assert sorted(p.name for p in (dataset.root / "plots").iterdir()) == ["map.svg", "sizes.svg"]
    assert all(b"WEBP" not in p.read_bytes() for p in (dataset.root / "cache").rglob("*.parquet"))


def test_rejected_images_are_shown_with_their_reason(pictures: Dataset) -> None:
    folder = pictures.folder / "loose"
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    for kind in ("red", "blue"):
        (folder / kind).mkdir(parents=True)
        for i in range(40):
            Image.new("RGB", (30, 30), kind).save(folder / kind / f"{i:02d}.png")
    for i in range(3):
        (folder / f"red/1{i}.png").write_bytes(b"no picture")
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG")
    (folder / "red/20.jpg").write_bytes(out.getvalue()[:900])
    run = go(
        pictures, "images={format: folder, path: [loose], shard_size: 100}", "partition.n_clusters=2", "evaluate=null"
    )
    assert "confusion" not in run.outcomes
    html = (pictures.root / "report.html").read_text()
    rejected = html[html.index('<section id="rejected"') : html.index('<section id="training"')]
    assert "4 of 81 images could not be used" in rejected
    assert re.search(r"not an image <span class=.soft.>3<", rejected)
    assert rejected.count('class="none"') == 2  # two of the three, without a picture
    assert rejected.count("base64,Ukl") == 1  # what there is of the picture that was cut short


def test_captions_are_read_aloud_and_classes_counted(pictures: Dataset) -> None:
    go(pictures)
    html = (pictures.root / "report.html").read_text()
    confusion = pd.read_parquet(pictures.root / "confusion.parquet")
    assert confusion["images"].sum() == 160
    assert sorted(confusion["class"].unique()) == ["0", "1", "2", "3"]
    assert "No image is in a cluster of another class." in html


def test_pages_show_every_member_with_its_picture(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ON_A_PAGE", 2)
    go(dataset)
    assert sorted(p.name for p in (dataset.root / "pages").iterdir()) == ["clusters-00000.html", "clusters-00001.html"]
    text = "".join(path.read_text() for path in (dataset.root / "pages").iterdir())
    everything = [part.split("</div>")[0] for part in text.split('<div class="everything">')[1:]]
    frames = [key for part in everything for key in re.findall(r'data-key="([^"]*)"[^>]*><img', part)]
    assert sorted(frames) == sorted(pd.read_parquet(dataset.root / "assignments")["key"])
    assert len(everything) == 4


@pytest.mark.browser
def test_a_real_browser_shows_a_run_without_errors_or_requests(finished: Dataset) -> None:
    with opened(finished.root / "report.html") as tab:
        tab.page.select_option("#view", "cards")
        for image in tab.page.locator("main img").all():
            image.scroll_into_view_if_needed()
        tab.until(
            "[...document.querySelectorAll('main img')].every((image) => image.complete && image.naturalWidth > 0)"
        )
        assert tab.page.locator("main img").count() == 4 * 16 + 6 * 2 * 4  # also in the six pairs of clusters
        tab.page.locator(".tree a, p a").first.click()
        tab.page.wait_for_url("**#cluster-*")
    assert tab.said == tab.asked == []
