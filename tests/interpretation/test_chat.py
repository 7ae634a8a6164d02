"""ChatJudge against a real server on this machine, which fails in the ways that servers do."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sae_lightning.interpretation import ChatJudge, interpret
from sae_lightning.interpretation import chat_client as client_module
from sae_lightning.interpretation.chat_client import AnswerFile, ChatError, _seconds

KEY = "sk-secret"


class Server(ThreadingHTTPServer):
    """Explains every latent as moon, and says yes to texts with a moon; `failures` come first, one a request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.failures, self.lock = [], [], threading.Lock()
        self.now = self.most = 0
        self.answer = lambda text: "Yes." if "moon" in text else "no"
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        pass  # a client that did not wait for the answer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):  # noqa: N802
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append((self.path, body))
            failure = server.failures.pop(0) if server.failures else None
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            if self.headers["Authorization"] != f"Bearer {KEY}":
                self.reply(401, {"error": {"message": f"wrong key {self.headers['Authorization']}"}})
            elif failure is not None:
                failure(self)
            else:
                time.sleep(0.002)
                self.complete(body)
        finally:
            with server.lock:
                server.now -= 1

    def complete(self, body):
        prompt = body["messages"][0]["content"]
        content = self.server.answer(prompt.split("=====")[1]) if "=====" in prompt else "The word\nmoon."
        self.reply(200, {"choices": [{"message": {"role": "assistant", "content": content}}]})

    def reply(self, status, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": len(data)} | (headers or {})).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(client_module, "FIRST_WAIT_SECONDS", 0.01)
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def make(server, tmp_path):
    def judge(**settings):
        return ChatJudge("tiny", server.url, **({"cache": str(tmp_path / "cache")} | settings))

    return judge


def test_explanation_and_answers_come_from_the_server(server, make, planted):
    result = interpret(make(), planted)
    assert (result.explanation, result.accuracy, result.n_not_understood) == ("The word moon.", 1, 0)
    assert len(server.requests) == 101
    assert {path for path, _ in server.requests} == {"/v1/chat/completions"}
    explain, judge = server.requests[0][1], server.requests[1][1]
    assert explain["model"] == "tiny"
    assert explain["temperature"] == 0
    assert "<< moon>>" in explain["messages"][0]["content"]
    assert "The word moon." in judge["messages"][0]["content"]
    assert "<<" not in judge["messages"][0]["content"]
    assert (explain["max_tokens"], judge["max_tokens"]) == (100, 10)
    assert 1 < server.most <= 8


def test_a_repeated_run_asks_nothing(server, make, planted):
    first = interpret(make(), planted)
    n = len(server.requests)
    assert interpret(make(), planted) == first
    assert len(server.requests) == n
    interpret(make(request={"temperature": 1}), planted)  # another question
    assert len(server.requests) == 2 * n


def test_what_may_pass_is_tried_again(server, make, planted):
    server.failures = [
        lambda handler: handler.reply(429, {}, {"Retry-After": "0"}),
        lambda handler: handler.reply(500, b"oops"),
        lambda handler: handler.reply(200, b"<html>"),
        lambda handler: handler.reply(200, {"choices": []}),
        lambda handler: handler.reply(200, b"cut", {"Content-Length": 100}),
        lambda handler: time.sleep(1.5),
    ]
    judge = make(timeout_seconds=0.5)
    assert judge.ask(["what?"], 10) == ["The word\nmoon."]
    assert len(server.requests) == 7


def test_the_server_says_how_long_to_wait(server, make, monkeypatch):
    waits = []
    monkeypatch.setattr(client_module.time, "sleep", waits.append)
    server.failures = [
        lambda handler: handler.reply(429, {}, {"Retry-After": "7"}),
        *[lambda handler: handler.reply(503, {}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})] * 2,
    ]
    make().ask(["what?"], 10)
    assert [wait for wait in waits if wait != 0.002] == [7.0, 0.02, 0.04]  # 0.002: the server's own
    assert _seconds("100000") == 600


def test_a_server_that_keeps_failing_stops_the_run_and_what_was_answered_is_kept(server, make):
    def fail(handler):
        handler.reply(503, b"busy")

    judge = make(n_parallel=1, retries=1)
    judge.ask([f"question {i}" for i in range(5)], 10)
    server.failures = [fail] * 100
    with pytest.raises(ChatError, match=r"HTTP 503: 'busy'; gave up after 2 tries. What was answered is kept"):
        judge.ask([f"question {i}" for i in range(20)], 10)
    n = len(server.requests)
    assert n < 5 + 2 * 5  # what had not begun is not asked
    server.failures = []
    make().ask([f"question {i}" for i in range(20)], 10)
    assert len(server.requests) == n + 15


def test_a_file_of_answers_that_broke_off_is_read(tmp_path):
    kept = AnswerFile(tmp_path / "new/answers.jsonl")
    kept.keep({"a": 1}, "yes")
    with kept.path.open("a") as file:
        file.write('{"request": "12')
    again = AnswerFile(kept.path)
    assert again.get({"a": 1}) == "yes"
    assert again.get({"a": 2}) is None


def test_a_wrong_key_is_told_at_once_and_not_shown(server, make, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(ChatError, match="the key was refused: look at the environment variable") as told:
        make().ask(["what?"], 10)
    assert len(server.requests) == 1
    assert "sk-wrong" not in str(told.value)
    assert "sk-wrong" not in repr(make())


@pytest.mark.parametrize(("status", "words"), [(404, "look at base_url and model"), (400, "look at model and request")])
def test_a_refused_request_is_not_repeated(server, make, status, words):
    server.failures = [lambda handler: handler.reply(status, {"error": "no such model"})]
    with pytest.raises(ChatError, match=f"{words} .HTTP {status}: .*no such model"):
        make().ask(["what?"], 10)
    assert len(server.requests) == 1


def test_answers_that_cannot_be_understood_are_counted(server, make, planted):
    server.answer = lambda text: "perhaps"
    result = interpret(make(), planted)
    assert (result.accuracy, result.n_not_understood) == (0.5, 100)


def test_a_dry_run_tells_the_cost_and_asks_nothing(server, make, planted, caplog):
    prices = {"input_price": 10.0, "output_price": 100.0}
    with caplog.at_level("INFO"):
        assert not make(dry_run=True, **prices).begin([planted, planted])
        assert not server.requests
        assert "2 latents, 202 questions to tiny" in caplog.text
        assert "This is a dry run" in caplog.text
        interpret(make(), planted)
        written = sum(len(body["messages"][0]["content"]) for _, body in server.requests)
        estimated = int(caplog.text.split("about ")[1].split(" tokens")[0].replace(",", "")) / 2
        # The estimate takes an explanation of 40 tokens, and this one has fewer.
        expected = written / 4 + 10 * 101 + 100 * (40 - len("The word moon.") / 4)
        assert estimated == pytest.approx(expected, rel=0.02)
        caplog.clear()
        assert make(**prices).begin([planted])
        assert "101 of them answered before; about 0 tokens to read and 0 to write: about $0.00" in caplog.text


def test_the_cost_is_that_of_the_tokens(make, planted, caplog):
    with caplog.at_level("INFO"):
        make(input_price=10.0, output_price=100.0).begin([planted])
    read, write = (
        int(caplog.text.split(before)[1].split(" ")[0].replace(",", "")) for before in ("about ", "read and ")
    )
    assert write == 40 + 2 * 100
    assert f"about ${(10 * read + 100 * write) / 1e6:.2f}" in caplog.text


def test_without_a_key_nothing_starts(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ValueError, match="the environment variable NO_SUCH_KEY is not set: put the key"):
        ChatJudge("tiny", key_variable="NO_SUCH_KEY").check()
    ChatJudge("tiny", key_variable="").check()
    ChatJudge("tiny", key_variable="NO_SUCH_KEY", dry_run=True).check()


@pytest.mark.parametrize(
    "settings", [{"base_url": "localhost:8000"}, {"n_parallel": 0}, {"retries": -1}, {"input_price": 1.0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}=.*: expected"):
        ChatJudge("tiny", **settings)
