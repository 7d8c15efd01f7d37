"""The namer in a run: what is sent, kept, checked and used, and what a failure leaves behind."""

import base64
import io
import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cpp.naming import chat
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.config.sections import Namer
from pipelines.run import Run
from pipelines.stages.namer import Ask, _Question
from tests.pipelines.stages.test_words import SAID, caption
from tests.support.chat_server import Answer, ChatServer, completion, failure, question
from tests.support.datasets import COLOURS, WORDS, Dataset
from tests.support.runs import computed

STEPS = ("label", "labels")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "BACKOFF", 0.0)


def best_word(body: dict[str, Any]) -> str:
    return question(body).split("the best first: ")[1].split(",")[0]


def same_word(body: dict[str, Any]) -> Answer:
    return completion(json.dumps({"name": best_word(body)}))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A namer that answers with the best word of the vocabulary."""
    with ChatServer(same_word) as running:
        yield running


def run(dataset: Dataset, server: ChatServer, *overrides: str, **namer: object) -> Run:
    settings = {"url": server.url, "model": "small", **namer}
    done = Run(load(dataset.config, [f"label.namer={json.dumps(settings)}", *overrides]), STEPS, local=True)
    done.go()
    return done


def table(dataset: Dataset, name: str) -> pd.DataFrame:
    return pd.read_parquet(dataset.root / f"{name}.parquet")


def test_nothing_is_asked_by_default(dataset: Dataset) -> None:
    assert not {"cluster_means", "ask", "check"} & set(Run(load(dataset.config), local=True).stages)


def test_every_cluster_is_asked_about_once(dataset: Dataset, server: ChatServer) -> None:
    assert run(dataset, server).ok
    assert len(server.requests) == 4
    asked = table(dataset, "asked")
    assert asked["cluster"].tolist() == [0, 1, 2, 3]
    assert sorted(asked["question"]) == sorted(map(question, server.requests))
    assert set(asked["guess"]) == set(WORDS[:4])
    assert [json.loads(answer)["name"] for answer in asked["answer"]] == asked["guess"].tolist()
    assert asked["tokens"].tolist() == [17] * 4
    sizes = table(dataset, "clusters").sort_values("cluster")["size"]
    for text, size in zip(asked["question"], sizes, strict=True):
        assert f"A cluster of {size} images." in text
    assert computed(run(dataset, server)) == {}
    assert len(server.requests) == 4


def test_without_a_text_tower_only_words_of_the_vocabulary_are_accepted(dataset: Dataset) -> None:
    answers = iter([completion('{"name": "ruby"}'), *[None] * 3])
    with ChatServer(lambda body: next(answers) or same_word(body)) as server:
        assert run(dataset, server).ok
    verdicts = table(dataset, "namer")
    assert verdicts["accepted"].sum() == 3
    (refused,) = verdicts[~verdicts["accepted"]].to_dict("records")
    assert refused["name"] == "ruby"
    assert "no text tower" in refused["reason"]
    assert refused["rival"] == refused["guess"]
    assert table(dataset, "namer_words").empty


def test_names_are_as_before_if_no_new_word_is_accepted(dataset: Dataset, server: ChatServer) -> None:
    assert run(dataset, server).ok
    with_namer = table(dataset, "clusters")
    assert Run(load(dataset.config), STEPS, local=True).go()
    pd.testing.assert_frame_equal(table(dataset, "clusters"), with_namer)


def test_an_accepted_word_names_as_if_it_were_in_the_vocabulary(pictures: Dataset, server: ChatServer) -> None:
    assert run(pictures, server).ok
    before, labels = table(pictures, "clusters"), pd.read_parquet(pictures.root / "labels")
    guesses = table(pictures, "namer")["guess"]
    word = guesses[0]
    (pictures.folder / "words.txt").write_text("\n".join(other for other in WORDS if other != word))
    server.answer = lambda body: completion(json.dumps({"name": word}))
    assert run(pictures, server).ok
    verdicts = table(pictures, "namer")
    assert verdicts["accepted"].tolist() == (guesses == word).tolist()
    assert (verdicts["accepted"] == (verdicts["fit"] > verdicts["rival_fit"])).all()
    assert word not in verdicts["guess"].tolist()
    assert table(pictures, "namer_words")["word"].tolist() == [word]
    columns = ["cluster", "name", "status", "confidence", "share", "runner_up"]
    pd.testing.assert_frame_equal(table(pictures, "clusters")[columns], before[columns])
    pd.testing.assert_frame_equal(pd.read_parquet(pictures.root / "labels"), labels)


def test_a_refused_word_is_no_word_of_the_vocabulary(pictures: Dataset, server: ChatServer) -> None:
    assert run(pictures, server).ok
    guesses = table(pictures, "namer")["guess"].tolist()
    word = next(word for word in WORDS if word not in guesses)
    (pictures.folder / "words.txt").write_text("\n".join(other for other in WORDS if other != word))
    server.answer = lambda body: completion(json.dumps({"name": word}))
    assert run(pictures, server).ok
    assert not table(pictures, "namer")["accepted"].any()
    assert table(pictures, "namer_words").empty


def test_pictures_are_sent_only_where_they_are_allowed(pictures: Dataset, server: ChatServer) -> None:
    assert run(pictures, server).ok
    assert all(isinstance(body["messages"][-1]["content"], str) for body in server.requests)
    server.requests.clear()
    assert run(pictures, server, pictures=2).ok
    asked = table(pictures, "asked")
    assert [len(keys) for keys in asked["pictures"]] == [2] * 4
    for body in server.requests:
        text, *images = body["messages"][-1]["content"]
        assert "2 typical images are attached" in text["text"]
        for image in images:
            data = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
            colour = Image.open(io.BytesIO(data)).convert("RGB").getpixel((16, 12))
            assert min(sum(abs(a - b) for a, b in zip(colour, other, strict=True)) for other in COLOURS) < 30  # type: ignore[arg-type]


def test_captions_are_part_of_the_question(pictures: Dataset, server: ChatServer) -> None:
    caption(pictures, SAID)
    assert run(pictures, server, "label.captions=said").ok
    texts = [question(body) for body in server.requests]
    for noun in ("red balloon", "green frog", "blue whale", "yellow banana"):
        assert sum(f"in their captions only: {noun}" in text for text in texts) == 1


def test_the_budget_limits_requests_to_the_largest_clusters(
    dataset: Dataset, server: ChatServer, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset, server, "partition.n_clusters=3", budget=2).ok
    assert len(server.requests) == 2
    assert "1 of 3 clusters are beyond label.namer.budget, 2," in capfd.readouterr().out
    verdicts = table(dataset, "namer").merge(table(dataset, "clusters")[["cluster", "size"]])
    beyond = verdicts[verdicts["reason"] == "beyond label.namer.budget"]
    assert len(beyond) == 1
    assert beyond["size"].item() == verdicts["size"].min()
    assert run(dataset, server, "partition.n_clusters=3", budget=3).ok
    assert len(server.requests) == 3  # only the one that was beyond


def test_answers_survive_a_failure_in_the_middle(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.stages.namer.AT_ONCE", 1)
    answered: list[str] = []

    def two(body: dict[str, Any]) -> Answer:
        if len(answered) == 2:
            return failure(500, "out of memory", Retry_After="0")
        answered.append(question(body))
        return same_word(body)

    with ChatServer(two) as server:
        failed = run(dataset, server)
        assert not failed.ok
        (error,) = failed.outcomes["ask"].failed
        assert "label.namer.url" in (error.error or "")
        assert "status 500 after 4 attempts" in (error.error or "")
        assert ". Answers so far are kept: fix this and run the same command again, or add --set" in (error.error or "")
        assert failed.outcomes["label"].waits_for == "ask"
        server.requests.clear()
        server.answer = same_word
        assert run(dataset, server).ok
        assert len(server.requests) == 2
    assert not set(answered) & set(map(question, server.requests))


def test_in_a_bucket_a_failure_says_that_answers_are_lost() -> None:
    with ChatServer(lambda body: failure(404, "no such model")) as server:
        ask = Ask(namer=Namer(url=server.url, model="small"))
        with pytest.raises(
            chat.ChatError, match="Answers so far are not kept, because the run folder is in a bucket: "
        ):
            ask._replies([_Question(0, "word", "What is it?", [], [])], None)


def test_answers_survive_an_interruption(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.stages.namer.AT_ONCE", 1)
    main = threading.get_ident()

    def interrupt(body: dict[str, Any]) -> Answer:
        if len(server.requests) == 3:
            signal.pthread_kill(main, signal.SIGINT)
        return same_word(body)

    with ChatServer(interrupt) as server:
        with pytest.raises(KeyboardInterrupt):
            run(dataset, server)
        assert len(server.requests) == 3
        server.requests.clear()
        server.answer = same_word
        assert run(dataset, server).ok
        assert len(server.requests) == 1


def test_without_the_namer_a_failed_run_goes_on_with_the_words(dataset: Dataset) -> None:
    with ChatServer(lambda body: failure(404, "no such model")) as server:
        assert not run(dataset, server).ok
    again = Run(load(dataset.config, ["label.namer=null"]), STEPS, local=True)
    assert again.go()
    assert set(computed(again)) == {"vote", "label", "labels"}


def test_a_model_that_never_answers_in_the_schema_is_an_error(dataset: Dataset) -> None:
    with ChatServer(lambda body: completion("Gladly! It is a thing.")) as server:
        failed = run(dataset, server)
        (error,) = failed.outcomes["ask"].failed
        assert "'Gladly! It is a thing.'" in (error.error or "")
        assert "accept response_format json_schema" in (error.error or "")
        assert len(server.requests) <= 4
        server.answer = same_word
        assert run(dataset, server).ok
    assert table(dataset, "namer")["accepted"].all()  # the first answers were not kept


def test_a_single_answer_outside_the_schema_is_refused_with_its_reason(dataset: Dataset) -> None:
    answers = iter([completion("Gladly!"), *[None] * 3])
    with ChatServer(lambda body: next(answers) or same_word(body)) as server:
        assert run(dataset, server).ok
    verdicts = table(dataset, "namer")
    (refused,) = verdicts[~verdicts["accepted"]].to_dict("records")
    assert refused["reason"] == "the answer is not JSON with a name"
    assert pd.isna(refused["name"])
    assert "Gladly!" in table(dataset, "asked")["answer"].tolist()


def test_a_single_refused_question_leaves_its_cluster_to_the_words(dataset: Dataset) -> None:
    answers = iter([failure(400, "not allowed"), *[None] * 3])
    with ChatServer(lambda body: next(answers) or same_word(body)) as server:
        assert run(dataset, server).ok
    verdicts = table(dataset, "namer")
    (refused,) = verdicts[~verdicts["accepted"]].to_dict("records")
    assert "answers with status 400 for the model 'small' (not allowed)" in refused["reason"]


def test_refused_questions_alone_are_an_error(dataset: Dataset) -> None:
    with ChatServer(lambda body: failure(400, "no json_schema here")) as server:
        (error,) = run(dataset, server).outcomes["ask"].failed
    assert "status 400 for the model 'small' (no json_schema here)" in (error.error or "")
    assert "--set label.namer=null" in (error.error or "")


def test_the_api_key_is_in_no_file(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-do-not-write-this"
    monkeypatch.setenv("NAMER_KEY", key)
    answers = iter([*[None] * 3, failure(403, f"bad key {key}")])
    with ChatServer(lambda body: next(answers) or same_word(body)) as server:
        assert not run(dataset, server, key="NAMER_KEY").ok
        assert server.headers["Authorization"] == f"Bearer {key}"
    files = [path for path in dataset.root.rglob("*") if path.is_file()]
    assert any("NAMER_KEY" in path.read_text(errors="ignore") for path in files)
    assert not [path for path in files if key.encode() in path.read_bytes()]


def test_words_of_another_dimension_are_an_error(dataset: Dataset, server: ChatServer) -> None:
    path = dataset.folder / "words/embeddings.npy"
    np.save(path, np.load(path)[:, :8])
    (error,) = run(dataset, server).outcomes["ask"].failed
    assert "the images have dimension 16, the words 8" in (error.error or "")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["label.namer={url: localhost, model: a}"], "label.namer.url"),
        (["label.namer={url: 'http://me:secret@localhost/v1', model: a}"], "holds credentials"),
        (["label.namer={url: 'http://localhost/v1'}"], "label.namer.model: is missing"),
        (["label.namer={url: 'http://localhost/v1', model: a, pictures: 1}", "report.images=false"], "report.images"),
        (["label.namer={url: 'http://localhost/v1', model: a, pictures: 1}", "import.images=null"], "has no images"),
        (["label.namer={url: 'http://localhost/v1', model: a, key: sk-123456}"], "must be the name of an environment"),
    ],
)
def test_settings_that_cannot_work_are_named(dataset: Dataset, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(dataset.config, overrides)
    text = str(caught.value)
    assert "secret" not in text.replace("--set label.namer={url: 'http://me:secret@localhost/v1', model: a}", "")
    assert "sk-123456" not in text.replace(f"--set {overrides[0]}", "")
