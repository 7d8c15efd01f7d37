"""The client of chat endpoints: what it sends, what it repeats, and the errors that name the setting and the fix."""

import socket
from collections.abc import Iterator

import pytest

from cpp.naming import chat
from cpp.naming.chat import Chat, ChatError
from tests.support.chat_server import Answer, ChatServer, completion, failure

SCHEMA = {"type": "object"}
MESSAGES = [{"role": "user", "content": "What is it?"}]
KEY = "sk-1234567890"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "BACKOFF", 0.0)


def ask(server: ChatServer, key: str | None = None) -> chat.Reply:
    return Chat(server.url, "small", key, 1).ask(MESSAGES, SCHEMA)


def refused(server: ChatServer, key: str | None = None) -> str:
    with pytest.raises(ChatError) as caught:
        ask(server, key)
    return str(caught.value)


def test_a_request_has_the_model_the_messages_and_the_schema() -> None:
    with ChatServer(lambda body: completion("a cat", tokens=12)) as server:
        reply = ask(server)
    assert reply.answer == "a cat"
    assert reply.tokens == 12
    assert reply.seconds > 0
    (sent,) = server.requests
    assert server.paths == ["/v1/chat/completions"]
    assert (sent["model"], sent["messages"], sent["temperature"]) == ("small", MESSAGES, 0)
    assert sent["response_format"]["type"] == "json_schema"
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert "Authorization" not in server.headers


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    with ChatServer(lambda body: completion("a cat")) as server:
        ask(server, "MY_KEY")
    assert server.headers["Authorization"] == f"Bearer {KEY}"


def test_a_key_that_is_not_set_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ChatError, match=r"label.namer.key: the environment variable MY_KEY is not set"):
        Chat("http://localhost", "small", "MY_KEY", 1)


def test_a_key_that_no_header_can_hold_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}\nX: y")
    with pytest.raises(ChatError, match="MY_KEY holds characters that no API key has") as caught:
        Chat("http://localhost", "small", "MY_KEY", 1)
    assert KEY not in str(caught.value)


def test_a_key_that_a_server_repeats_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with ChatServer(lambda body: failure(401, f"wrong key {KEY}")) as server:
        message = refused(server, "MY_KEY")
    assert "wrong key ***" in message
    assert KEY not in message


@pytest.mark.parametrize(
    ("status", "fix"),
    [
        (401, "set label.namer.key to the name of the environment variable"),
        (403, "set label.namer.key to the name of the environment variable"),
        (404, "check that label.namer.model is a model of this server"),
        (418, "see the log of the server"),
    ],
)
def test_a_refusal_names_the_setting_the_status_and_the_fix(status: int, fix: str) -> None:
    with ChatServer(lambda body: failure(status, "no\tsuch model")) as server:
        message = refused(server)
    assert message.startswith(f"label.namer.url: {server.url}/chat/completions answers with status {status} for the")
    assert "'small' (no such model)" in message
    assert fix in message
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", sorted(chat.REFUSED))
def test_a_refused_question_has_an_error_in_place_of_an_answer(status: int) -> None:
    with ChatServer(lambda body: failure(status, "too many pictures")) as server:
        reply = ask(server)
    assert reply.answer is None
    assert f"status {status} for the model 'small' (too many pictures)" in (reply.error or "")
    assert "accept response_format json_schema" in (reply.error or "") or status != 400
    assert len(server.requests) == 1


def test_a_refused_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with ChatServer(lambda body: failure(403)) as server:
        assert "check the API key in the environment variable MY_KEY" in refused(server, "MY_KEY")


@pytest.mark.parametrize("status", sorted(chat.TRANSIENT))
def test_a_transient_failure_is_repeated(status: int) -> None:
    answers = iter([failure(status, Retry_After="0"), completion("a cat")])
    with ChatServer(lambda body: next(answers)) as server:
        assert ask(server).answer == "a cat"
    assert len(server.requests) == 2


def test_repeated_failures_end() -> None:
    with ChatServer(lambda body: failure(429, "quota")) as server:
        message = refused(server)
    assert len(server.requests) == chat.TRIES
    assert f"status 429 after {chat.TRIES} attempts" in message
    assert "its limit of requests or its quota is reached" in message


def test_a_redirect_is_not_followed() -> None:
    with (
        ChatServer(lambda body: completion("elsewhere")) as other,
        ChatServer(lambda body: failure(307, Location=other.url)) as server,
    ):
        assert "redirects are not followed" in refused(server)
    assert other.requests == []


def test_a_server_that_is_down_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1/"
        with pytest.raises(ChatError, match=r"label.namer.url: http://127.*/v1/chat/completions does not answer") as e:
            Chat(url, "small", None, 1).ask(MESSAGES, SCHEMA)
    assert "Connection refused" in str(e.value)


def other_answers() -> Iterator[Answer]:
    yield Answer(200, b"<html>Welcome</html>")
    yield Answer(200, b'{"object": "list"}')
    yield Answer(200, b'{"choices": []}')
    yield Answer(200, b"[1]")
    yield Answer(200, b'{"choices": [{"message": {"content": "' + b"a" * chat.MAX_BYTES + b'"}}]}')


@pytest.mark.parametrize("answer", other_answers(), ids=["page", "no-choices", "no-choice", "list", "too-large"])
def test_an_answer_that_is_no_completion_is_an_error(answer: Answer) -> None:
    with ChatServer(lambda body: answer) as server:
        message = refused(server)
    assert "answers with something else than a chat completion" in message
    assert len(message) < 700


def test_an_answer_without_text_is_empty() -> None:
    with ChatServer(lambda body: completion(None)) as server:
        assert ask(server).answer == ""


def test_a_lone_surrogate_is_replaced() -> None:
    with ChatServer(lambda body: completion("a \ud800 cat")) as server:
        assert ask(server).answer == "a ? cat"
