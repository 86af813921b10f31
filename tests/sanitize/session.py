#!/usr/bin/env python3
"""A short life of the binary under valgrind's memcheck: every transport, readers that are cut in the
middle, bad input, and an orderly end by SIGTERM. Fails on a memory error, on a block that is definitely
lost, and on an answer that is not the expected one. Ends within its time whatever happens.

    session.py BINARY [SECONDS]
"""

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROUNDS = 3  # what one round leaves behind, a second would meet


class Client:
    """A raw connection."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=30)
        self.seen = b""

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def until(self, what):
        """Reads until `what` has come; all before and with it."""
        while what not in self.seen:
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError(f"ended before {what!r}: {self.seen[-300:]!r}")
            self.seen += data
        at = self.seen.index(what) + len(what)
        before, self.seen = self.seen[:at], self.seen[at:]
        return before

    def rest(self):
        """Reads until the server ends the connection."""
        while data := self.socket.recv(65536):
            self.seen += data
        return self.seen

    def cut(self):
        """Goes without a word, unread bytes and all."""
        linger = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


def head(line, *fields):
    return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *fields, "", ""])


def frame(opcode, payload):
    """A masked client frame."""
    data, mask = payload.encode(), b"\x01\x02\x03\x04"
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return bytes([0x80 | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


class Session:
    def __init__(self, address):
        self.address = address

    def connect(self):
        return Client(self.address)

    def publish(self, channel, body, *fields):
        client = self.connect().send(head(f"POST /channels/{channel}", f"Content-Length: {len(body)}", *fields) + body)
        answer = client.until(b"}")
        assert re.match(rb"HTTP/1.1 20[12] ", answer), answer
        client.socket.close()
        return re.search(rb'"id":"([^"]+)"', answer).group(1).decode()

    def stream(self, path, *fields):
        client = self.connect().send(head(f"GET {path}", "Accept: text/event-stream", *fields))
        client.until(b"retry: ")
        return client

    def websocket(self, path, *fields):
        key = base64.b64encode(os.urandom(16)).decode()
        client = self.connect().send(
            head(f"GET {path}", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
                 "Sec-WebSocket-Version: 13", *fields))
        client.until(b"\r\n\r\n")
        return client

    def streams(self):
        first = self.publish("news", "before")
        plain = self.stream("/channels/news")
        joined = self.stream(f"/events?channel=news&channel=other&since={first}")
        cut = self.stream("/channels/news")
        self.publish("news", "now", "X-Event: tick")
        self.publish("other", '{"a":1}', "Content-Type: application/json")
        plain.until(b"data: now")
        joined.until(b'"data":{"a":1}')
        cut.cut()
        self.publish("news", "nobody is cut twice")
        plain.until(b"cut twice")
        return [plain, joined]

    def polls(self, channel):
        anchor = self.connect().send(head(f"GET /poll?channel={channel}"))
        cursor = re.search(rb'"cursor":"([^"]+)"', anchor.until(b"}")).group(1).decode()
        held = anchor.send(head(f"GET /poll?channel={channel}&since={cursor}"))
        cut = self.connect().send(head(f"GET /poll?channel={channel}&since={cursor}"))
        asks = head(f"GET /channels/{channel}", "Connection: close")
        while b'"subscribers":2' not in self.connect().send(asks).rest():
            time.sleep(0.02)
        cut.cut()
        self.publish(channel, "for the poll")
        held.until(b"for the poll")
        lost = self.connect().send(head(f"GET /poll?channel={channel}&since=zzzzzzzz-5"))
        lost.until(b'"epoch"')
        waits = self.connect().send(head(f"GET /poll?channel={channel}&since=latest"))
        return [held, lost, waits]

    def websockets(self):
        json = self.websocket("/ws?channel=chat")
        json.until(b'"live"')
        json.send(frame(1, '{"op":"publish","ref":1,"channel":"chat","text":"hello"}'))
        json.until(b'"subscribers"')
        json.send(frame(1, '{"op":"subscribe","ref":2,"channels":["b","c"],"since":"earliest"}'))
        json.send(frame(1, '{"op":"publish","channel":"b","b64":"AAEC"}') + frame(1, '{"op":"nonsense"}'))
        json.until(b'"error"')
        json.send(frame(9, "ping")).until(b"\x8a\x04ping")
        raw = self.websocket("/channels/chat")
        raw.send(frame(2, "bytes" * 50))
        json.until(b"bytesbytes")
        cut = self.websocket("/channels/chat")
        cut.send(frame(1, "half a frame")[:9])
        cut.cut()
        wrong = self.websocket("/ws")
        wrong.send(b"\xff\xff\xff\xff")
        wrong.rest()
        closed = self.websocket("/channels/chat")
        closed.send(frame(8, ""))
        closed.rest()
        return [json, raw]

    def plain(self):
        for request in [
            head("GET /health", "Connection: close"), head("GET /stats", "Connection: close"),
            head("GET /", "Connection: close"), head("GET /channels/news", "Connection: close"),
            head("DELETE /channels/news", "Connection: close"), head("BREW /pot", "Connection: close"),
            head("GET /nowhere", "Connection: close"), "GARBAGE\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        ]:
            answer = self.connect().send(request).rest()
            assert answer.startswith(b"HTTP/1.1 "), answer
        lines = '{"channel":"news","text":"1"}\n{"channel":"other","data":[2]}\nnonsense'
        self.connect().send(head("POST /publish", f"Content-Length: {len(lines)}") + lines).until(b'"error"')
        chunked = head("POST /channels/news", "Transfer-Encoding: chunked") + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        client = self.connect()
        for byte in chunked.encode():
            client.send(bytes([byte]))
        client.until(b"}")
        large = "x" * 70_000
        self.connect().send(head("POST /channels/news", f"Content-Length: {len(large)}") + large[:1000]).until(b"413")

    def slow(self):
        """A reader whose socket is full: it is caught up with, or told what it lost."""
        slow = self.stream("/channels/flood")
        for number in range(60):
            self.publish("flood", f"{number} " + "x" * 60_000)
        slow.until(b"59 x")
        return [slow]


def play(address):
    session = Session(address)
    left = []
    for number in range(ROUNDS):
        session.plain()
        left += session.streams() + session.polls(f"polled.{number}") + session.websockets()
    left += session.slow()
    return left


def start(binary, log):
    # fair: a thread that spins must not keep the others from running.
    command = [
        "valgrind", "--tool=memcheck", "--leak-check=full", "--show-leak-kinds=definite", "--fair-sched=yes",
        "--errors-for-leak-kinds=definite", "--error-exitcode=99", "--num-callers=30", f"--log-file={log}",
        binary, "--listen", "127.0.0.1:0", "--log-level", "error",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOLDLINE_")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment, text=True)


def run(binary, seconds):
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "memcheck")
        process = start(binary, log)
        watchdog = threading.Timer(seconds, process.kill)
        watchdog.start()
        try:
            line = process.stdout.readline()
            host, port = re.match(r"listening on http://([\d.]+):(\d+)", line).groups()
            left = play((host, int(port)))
            process.send_signal(signal.SIGTERM)
            for client in left:
                client.rest()
                client.socket.close()
            status = process.wait()
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
        with open(log) as text:
            report = text.read()
    return status, len(left), report


def main():
    binary, seconds = sys.argv[1], float((sys.argv[2:] or ["120"])[0])
    status, drained, report = run(binary, seconds)
    errors = re.search(r"ERROR SUMMARY: (\d+) errors", report)
    lost = re.search(r"definitely lost: ([\d,]+) bytes", report)
    lost = lost.group(1) if lost else "0" if "no leaks are possible" in report else "?"
    good = status == 0 and errors and errors.group(1) == "0" and lost == "0"
    if not good:
        print(report)
    count = errors.group(1) if errors else "?"
    print(f"{count} errors, {lost} bytes definitely lost, {drained} connections drained by SIGTERM, exit {status}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
