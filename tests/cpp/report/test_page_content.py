"""The text of the page, without a browser: its size, what cards say, its policy, and pictures with their keys."""

import base64
import re

import pyarrow as pa
import pytest

from cpp.report import html as report
from cpp.report.members import MEMBERS
from cpp.report.run_page import PAGED, fit, pages, render
from tests.support.pages import bare, made, members_of, webp


@pytest.mark.parametrize("n", [1, 150, PAGED, PAGED + 1, 6000])
def test_the_page_stays_small_whatever_the_run(n: int) -> None:
    page = made(n, side=160 if n != PAGED else 112)
    html = render(page)
    assert len(html.encode()) < 25e6
    assert html.count("<article") == min(n, report.LISTED)
    assert html.count("data:image/webp;base64,Ukl") > n / 3
    if n <= PAGED + 1:
        found = dict(pages(page, *members_of(page)))
        assert all(len(text.encode()) < 25e6 for text in found.values())
        assert len(found) == -(-n // report.ON_A_PAGE)


def test_where_there_is_little_room_every_cluster_keeps_its_first_pictures() -> None:
    cards = made(10)["cards"]
    bytes_of_one = len(cards[0]["members"][0]["large"]) * 4 / 3
    shown = fit(cards, 15 * 1.2 * bytes_of_one)
    counts = [len(card["members"]) for card in shown]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1
    assert [card["members"][0] for card in shown] == [card["members"][0] for card in cards]


def test_a_card_has_the_numbers_that_its_row_has() -> None:
    html = render(made(1)).split("</article>")[0]
    assert re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html) == [
        ("confidence", "0\u202f%"),
        ("members that agree with the guess", "50\u202f%"),
        ("images with a small margin", "0\u202f%"),
        ("coding rate", "10.0 nats"),
    ]


def test_a_card_says_what_is_sure_and_what_is_guessed() -> None:
    html = render(made(7))
    assert html.count('no sure name; best guess: <span dir="auto">guess</span> (15\u202f%)') == 1
    assert html.count('general name; best guess: <span dir="auto">thing</span> (25\u202f%)') == 1
    assert "5 of 7 clusters have a name, 1 only a general one, 1 no sure name." in " ".join(html.split())
    assert "measured with CLIP ViT-B/32" in html


def test_the_page_allows_its_own_script_and_nothing_else() -> None:
    html = render(made(3))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data: 'self' file:;")
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", re.sub(r"xmlns=\S+", "", html)).replace("http-equiv", "")


def test_without_pictures_there_are_keys() -> None:
    html = render({**made(2), "cards": [bare(k, key="a key") for k in range(2)], "pictures_allowed": False})
    assert "Pictures are left out" in html
    assert html.count(">a key<") == 2 + 2  # on the cards and in the pair


def test_a_picture_has_a_text_alternative_and_details() -> None:
    member = {"key": "k", "large": webp(40, 0), "score": 0.5, "margin": 0.25}
    html = render({**made(1), "cards": [bare(**member, caption="a <cat>")]})
    assert '<li data-key="k" data-score="0.500" data-margin="0.250" data-shard="s"><img' in html
    assert 'alt="a &lt;cat&gt;"' in html
    assert 'alt="k"' in render({**made(1), "cards": [bare(key="k", large=webp(40, 0))]})


def test_a_long_picture_is_shown_whole_and_others_fill_their_square() -> None:
    for width, opening in (
        (120, '<li class="whole" data-key="w" data-shard="s"><img'),
        (60, '<li data-key="w" data-shard="s"><img'),
    ):
        picture = webp(40, 0, (width, 40))
        html = render({**made(1), "cards": [bare(key="w", large=picture)], "rejected": []})
        assert f'{opening} src="data:image/webp;base64,{base64.b64encode(picture).decode()}"' in html


def test_every_member_is_on_the_page_of_its_cluster_by_picture_key_or_query() -> None:
    card = {**made(1)["cards"][0], "size": 7}
    rows = [{"cluster": 0, "key": f"k{i}", "score": 0.5, "margin": 0.1, "image_shard": "s", "picture": i < 2}
            for i in range(5)]  # fmt: skip
    members, pictures = pa.Table.from_pylist(rows, MEMBERS), {("s", "k0"): {"small": webp(40, 0)}}
    ((name, html),) = pages({**made(1), "cards": [card]}, members, pictures)
    assert name == "clusters-00000.html"
    everything = html[html.index('<div class="everything">') :]
    assert "The first 2 of 7 images" in everything
    assert re.findall('data-key="(k.)"', everything) == ["k0", "k1"]
    assert everything.count("<img src") == 1  # the other has no picture
    assert re.findall("<code>(k.)</code>", everything) == ["k2", "k3", "k4"]
    assert "The keys of 2 more" in everything
    assert "WHERE cluster = 0" in everything
