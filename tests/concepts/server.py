"""A server that speaks the OpenAI chat protocol and misbehaves by plan; run as a process of its own.

``python server.py PLAN LOG`` prints its port. PLAN is a JSON file:

    {"classes": {NAME: [BEHAVIOUR, ...]}, "refuses": [...], "streams": true, "pause": 0.0}

The n-th request for a class gets the n-th behaviour, and the last one from then on; other classes get ``ok``. A
behaviour is the name of a method ``on_...`` below, and what follows a colon its argument. `refuses` are types of
``response_format`` that the server rejects with 400, and ``stream`` where it rejects that. Every request is a line of
LOG.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PARTS = ("ears", "tail", "coat", "muzzle", "paws", "eyes", "chest", "back", "legs", "neck")
LOCK = threading.Lock()
SEEN: Counter[str] = Counter()


def phrases(name: str, start: int = 0, count: int = 10) -> list[str]:
    """The phrases that this server knows for a class; no two classes share one."""
    return [f"{PARTS[i % 10]} like no other, kind {i} of {sum(map(ord, name))}" for i in range(start, start + count)]


def answer(name: str, count: int = 10) -> str:
    return json.dumps({"look_alikes": ["English foxhound", "harrier"], "phrases": phrases(name, 0, count)})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan: dict[str, Any]
    log: Path

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        first = asked["messages"][0]["content"]
        name = re.search(r"^Class: (.*)$", first, re.M)[1]
        form = asked.get("response_format", {}).get("type", "")
        said = {"time": time.time(), "class": name, "format": form, "stream": asked.get("stream", False)}
        said |= {"messages": asked["messages"], "temperature": asked.get("temperature"), "path": self.path}
        said |= {key: asked[key] for key in asked if key.startswith("max_")}
        with LOCK:
            with self.log.open("a") as file:
                file.write(json.dumps(said) + "\n")
            for refused in self.plan.get("refuses", []):
                if refused == "max_tokens" and refused in asked:
                    return self.fail(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
                if refused == form or (refused == "stream" and said["stream"]):
                    what = "stream" if refused == "stream" else "response_format"
                    return self.fail(400, f"'{what}' of this kind is not supported")
            n, SEEN[name] = SEEN[name], SEEN[name] + 1
        time.sleep(self.plan.get("pause", 0))
        behaviours = self.plan.get("classes", {}).get(name, ["ok"])
        kind, _, argument = behaviours[min(n, len(behaviours) - 1)].partition(":")
        self.streamed = said["stream"] and self.plan.get("streams", True)
        getattr(self, f"on_{kind}")(name, argument)

    # Behaviours

    def on_ok(self, name: str, _: str) -> None:
        self.say(answer(name))

    def on_more(self, name: str, _: str) -> None:
        """Not the first five phrases."""
        self.say(json.dumps({"look_alikes": ["harrier"], "phrases": phrases(name, 5, 10)}))

    def on_few(self, name: str, count: str) -> None:
        self.say(answer(name, int(count)))

    def on_free(self, name: str, _: str) -> None:
        numbered = "\n".join(f"{i}. **{p.capitalize()}**." for i, p in enumerate(phrases(name), 1))
        self.say(f"Sure!\n\nLook-alikes: harrier, English foxhound\n\n{numbered}\n\nLet me know if you need more.")

    def on_fence(self, name: str, _: str) -> None:
        self.say(f"<think>[1, 2] hm</think>Here you are:\n```json\n{answer(name)}\n```\nEnjoy!")

    def on_half(self, name: str, _: str) -> None:
        self.say(answer(name)[: len(answer(name)) * 7 // 10], "length")

    def on_prose(self, name: str, _: str) -> None:
        self.say("I am sorry, but I cannot describe animals.")

    def on_end(self, name: str, why: str) -> None:
        """Nothing, or half an answer, and the server's own reason."""
        self.say(answer(name)[:60] if why == "length" else "", why)

    def on_thoughts(self, name: str, why: str) -> None:
        """Reasoning alone."""
        self.say("", why or "stop", reasoning_content=f"I might say {answer(name)}")

    def on_refusal(self, name: str, _: str) -> None:
        self.say("", refusal="I am not able to describe this.")

    def on_silence(self, name: str, _: str) -> None:
        self.say("")

    def on_text(self, name: str, text: str) -> None:
        self.say(text)

    def on_status(self, name: str, argument: str) -> None:
        status, _, after = argument.partition(":")
        self.fail(int(status), "not now", {"Retry-After": after} if after else {})

    def on_slow(self, name: str, seconds: str) -> None:
        time.sleep(float(seconds))
        self.say(answer(name))

    def on_trickle(self, name: str, seconds: str) -> None:
        """Never long silent, and never done in time."""
        self.begin("text/event-stream")
        for _ in range(int(float(seconds) / 0.05)):
            time.sleep(0.05)
            self.event({"choices": [{"index": 0, "delta": {"content": " "}, "finish_reason": None}]})

    def on_garbage(self, name: str, _: str) -> None:
        self.send(200, b"<html>\xff\xfe<body>Bad gateway</body>" * 1000, "text/html")

    def on_wrong(self, name: str, body: str) -> None:
        """JSON, but not of the protocol, or no JSON at all under its name."""
        if self.streamed:
            self.begin("text/event-stream")
            self.wfile.write(f"data: {body}\n\n".encode())
        else:
            self.send(200, body.encode(), "application/json")

    def on_drop(self, name: str, _: str) -> None:
        """Break the connection in the middle."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if self.streamed else "application/json")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b'data: {"choices": [{"index": 0, "delta": {"content": "half a')
        self.close_connection = True

    def on_echo(self, name: str, status: str) -> None:
        """Say the key back, in whatever way there is; ``late`` so that a cut after 200 characters goes through it."""
        key = self.headers["Authorization"]
        if status == "late":
            return self.fail(400, "x" * 185 + " " + key.removeprefix("Bearer "))
        bare = key.removeprefix("Bearer ")
        if status == "200":
            leaking = [f"{p} {bare}" for p in phrases(name)]
            return self.say(json.dumps({"look_alikes": [bare], "phrases": leaking}))
        self.fail(
            int(status), f"Incorrect API key provided: {bare}. Header was Authorization: {key}; {dict(self.headers)}"
        )

    # Protocol

    def say(self, text: str, end: str = "stop", **more: str) -> None:
        if not self.streamed:
            message = {"role": "assistant", "content": text, **more}
            body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
            body |= {"choices": [{"index": 0, "message": message, "finish_reason": end}]}
            return self.send(200, json.dumps(body).encode(), "application/json")
        self.begin("text/event-stream")
        for at in range(0, len(text), 50):
            delta = {"content": text[at : at + 50]}
            self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        self.event({"choices": [{"index": 0, "delta": more, "finish_reason": end}]})
        self.event({"choices": [], "usage": {"total_tokens": 1}})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, values: dict[str, Any]) -> None:
        body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", **values}
        self.wfile.write(f"data: {json.dumps(body)}\n\n".encode())
        self.wfile.flush()

    def begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def fail(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"error": {"message": message, "type": "error", "code": None}}).encode()
        self.send(status, body, "application/json", headers)

    def send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error here."""


if __name__ == "__main__":
    Handler.plan, Handler.log = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
