"""What PROTOCOL.md says about each transport, once for all clients: the address to ask for, what the bytes that a client
was given mean, and the one string that it has to remember.

A reader is given reports (see `drivers.py`) and makes `Told`s of them. `position` is that string.
"""

import base64
import json
from typing import NamedTuple
from urllib.parse import urlencode


class Told(NamedTuple):
    what: str  # message, gap, heartbeat, bye, closed, end, lost, dead, refused, open, retry, other
    text: str = ""  # the reason of a gap or of the end, the position in a heartbeat, milliseconds of bye and retry
    payload: bytes = b""
    event: str = ""
    id: str = ""


def unpacked(text):
    return base64.b64decode(text, validate=True)


def message_of(envelope):
    """The message that an envelope holds."""
    if "text" in envelope:
        payload = envelope["text"].encode()
    elif "b64" in envelope:
        payload = unpacked(envelope["b64"])
    else:
        payload = json.dumps(envelope["data"], separators=(",", ":")).encode()
    return Told("message", "", payload, envelope.get("event", ""), envelope["id"])


class Reader:
    kind = ""
    protocol = ""
    tells_positions = True

    def __init__(self, channel):
        self.channel = channel
        self.position = ""
        self.more = {}  # options of the query

    def target(self, since):
        """The path and query, with this string to go on from, or from now on."""
        return self.with_query(since and {"since": since})

    def with_query(self, pairs):
        return f"{self.path()}?{urlencode({**self.pairs(), **self.more, **(pairs or {})})}"

    def path(self):
        return f"/channels/{self.channel}"

    def pairs(self):
        return {}

    def remember(self, *strings):
        self.position = next((string for string in strings if string), self.position)

    def begin(self):
        """A new connection."""

    def read(self, kind, fields):
        if kind == "closed":
            return [Told("closed", f"{fields[0]} {fields[1]}".strip())]
        if kind in ("lost", "dead", "end"):
            return [Told(kind, fields[0] if fields else "")]
        if kind == "open":
            # Not every client says which subprotocol it got.
            assert fields[0] in (self.protocol, "?"), f"subprotocol {fields[0]!r}"
            return [Told("open")]
        assert kind == "ping", f"unexpected {kind} {fields}"
        return []


class Envelopes(Reader):
    name = "WebSocket /ws"
    kind = "ws"
    protocol = "holdline.v1.json"
    says_bye = True
    gap = "gap"

    def path(self):
        return "/ws"

    def pairs(self):
        return {"channel": self.channel}

    def begin(self):
        self.is_first = True

    def read(self, kind, fields):
        if kind != "text":
            return super().read(kind, fields)
        told = json.loads(unpacked(fields[0]))
        assert (told["op"] == "hello") == self.is_first, told
        self.is_first = False
        self.remember(told.get("cursor"), told.get("id"))
        return [self.told(told)]

    def told(self, told):
        match told["op"]:
            case "message":
                return message_of(told)
            case "gap":
                self.remember(told["resumed"])
                return Told("gap", told["reason"])
            case "heartbeat":
                return Told("heartbeat", told["cursor"])
            case "bye":
                assert told["code"] == 1012 and told["retry_ms"] > 0, told
                return Told("bye", str(told["retry_ms"]))
            case "hello":
                assert told["version"] == 1, told
        assert told["op"] in ("hello", "ok", "live"), told
        return Told("other", told["op"])


class Meta(Reader):
    name = "WebSocket raw, meta"
    kind = "ws"
    protocol = "holdline.v1.meta"
    says_bye = False

    def begin(self):
        self.is_first = True

    def read(self, kind, fields):
        if kind not in ("text", "binary"):
            return super().read(kind, fields)
        head, payload = unpacked(fields[0]).split(b"\n\n", 1)
        lines = dict(line.split(": ", 1) for line in head.decode().split("\n"))
        gap = dict(part.split("=", 1) for part in lines.get("gap", "").split("; ") if part)
        self.remember(lines.get("cursor"), gap.get("resumed"), lines.get("id"))
        was_first, self.is_first = self.is_first, bool(gap)  # a gap comes before the first position
        if gap:
            return [Told("gap", gap["reason"])]
        if "id" in lines:
            is_text = kind == "text"
            assert is_text == is_utf8(payload), f"{kind} frame with {payload!r}"
            return [Told("message", "", payload, lines.get("event", ""), lines["id"])]
        return [Told("other") if was_first else Told("heartbeat", lines["cursor"])]


class Plain(Reader):
    name = "WebSocket raw"
    kind = "ws"
    tells_positions = False
    says_bye = False

    def read(self, kind, fields):
        if kind not in ("text", "binary"):
            return super().read(kind, fields)
        payload = unpacked(fields[0])
        assert (kind == "text") == is_utf8(payload), f"{kind} frame with {payload!r}"
        return [Told("message", "", payload)]


def is_utf8(payload):
    try:
        payload.decode()
        return True
    except UnicodeDecodeError:
        return False


class Stream(Reader):
    """An event stream, read here from bytes (`bytes`) or by the client itself (`event`)."""

    kind = "stream"

    def begin(self):
        self.rest = b""

    def read(self, kind, fields):
        if kind == "event":
            name, id, data, retry = fields
            return self.block(unpacked(name).decode(), id, unpacked(data).decode(), retry)
        if kind == "blank":
            id, retry = fields
            return self.block("", id, None, retry)
        if kind != "bytes":
            return super().read(kind, fields)
        # The server ends its lines in LF, so that is all that is known here.
        *blocks, self.rest = (self.rest + unpacked(fields[0])).split(b"\n\n")
        return [told for block in blocks for told in self.lines(block.decode())]

    def lines(self, block):
        fields = {"event": "message", "id": "", "retry": ""}
        data, comments = [], []
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name:
                fields[name] = value
            else:
                comments.append(value)
        told = self.block(fields["event"], fields["id"], "\n".join(data) if data else None, fields["retry"])
        assert comments == ["heartbeat"] * any(one.what == "heartbeat" for one in told), block
        return told

    def block(self, name, id, data, retry):
        self.remember(id)
        if data is None:  # no event: how the stream begins and ends, and heartbeats
            return [Told("retry", retry) if retry else Told("heartbeat", id)]
        return [*([Told("retry", retry)] if retry else []), self.event(name, data, id)]


class Events(Stream):
    name = "SSE /events"
    says_bye = True

    def path(self):
        return "/events"

    def pairs(self):
        return {"channel": self.channel}

    def event(self, name, data, id):
        told = json.loads(data)
        if name == "gap":
            return Told("gap", told["reason"])
        if name == "bye":
            assert told["retry_ms"] > 0, told
            return Told("bye", str(told["retry_ms"]))
        assert name == "message" and told["id"] == id, (name, id, told)
        return message_of(told)


class RawStream(Stream):
    name = "SSE raw"
    says_bye = False

    def event(self, name, data, id):
        if name == "holdline-gap":
            return Told("gap", json.loads(data)["reason"])
        payload = unpacked(data) if name == "binary" else data.encode()
        return Told("message", "", payload, "" if name in ("message", "binary") else name, id)


class Poll(Reader):
    name = "poll /poll"
    kind = "get"
    says_bye = True

    def path(self):
        return "/poll"

    def pairs(self):
        return {"channel": self.channel, "wait": 20}

    def read(self, kind, fields):
        if kind != "answer":
            return super().read(kind, fields)
        status, head, body = int(fields[0]), unpacked(fields[1]).decode("latin-1"), unpacked(fields[2])
        headers = {
            name.lower(): value for name, value in (line.split(": ", 1) for line in head.splitlines() if ": " in line)
        }
        if status not in (200, 204):
            return [Told("refused", f"{status} {json.loads(body)['error']}")]
        return self.answer(status, headers, body)

    def answer(self, status, headers, body):
        assert status == 200, status
        told = json.loads(body)
        assert headers["holdline-cursor"] == told["cursor"], (headers, told)
        self.remember(told["cursor"])
        gaps = [Told("gap", gap["reason"]) for gap in told["gap"] or []]
        came = gaps + [message_of(envelope) for envelope in told["messages"]]
        if "next" in told:
            came.append(Told("open"))
        if told.get("retry_ms"):
            assert headers.get("connection", "close").lower() == "close", headers  # a page is not shown it
            return came + [Told("bye", str(told["retry_ms"]))]
        return came or [Told("heartbeat", told["cursor"])]


class RawPoll(Poll):
    name = "poll raw"
    says_bye = False

    def path(self):
        return f"/channels/{self.channel}"

    def pairs(self):
        return {"wait": 20}

    def target(self, since):
        return super().target(since or "latest")

    def answer(self, status, headers, body):
        self.remember(headers["holdline-cursor"])
        gap = dict(part.split("=", 1) for part in headers.get("holdline-gap", "").split("; ") if part)
        came = [Told("gap", gap["reason"])] if gap else []
        if status == 200:
            came.append(Told("message", "", body, headers.get("event", ""), headers["holdline-id"]))
        elif not gap:
            came.append(Told("heartbeat", headers["holdline-cursor"]))
        if headers.get("connection", "").lower() == "close":
            came.append(Told("bye"))
        return came


SOCKETS = [Envelopes, Meta, Plain]
STREAMS = [Events, RawStream]
POLLS = [Poll, RawPoll]
