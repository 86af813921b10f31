"""Runs the examples with clients, each until it is told to end.

    clients.py [--valgrind] [--suffix S] DIRECTORY NAME…

NAME "python" stands for publish.py. SIGPIPE is at its default in all of them. Exit status 1 if one failed.
"""
import base64, concurrent.futures, http.client, os, signal, socket, struct, subprocess, sys, time

DEADLINE = 60
HERE = os.path.dirname(os.path.abspath(__file__))
valgrind, suffix, names = False, "", sys.argv[1:]
if names[0] == "--valgrind":
    valgrind, names = True, names[1:]
if names[0] == "--suffix":
    suffix, names = names[1], names[2:]
DIRECTORY, names = names[0], names[1:]


class Program:
    """An example that listens."""

    def __init__(self, name):
        command = [os.path.join(DIRECTORY, name + suffix)]
        if name == "python":
            command = [sys.executable, os.path.join(HERE, "../examples/publish.py")]
        elif valgrind:
            command = ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full",
                       "--errors-for-leak-kinds=definite,indirect"] + command
        # SIGPIPE, which Python ignores, is at its default again in there (restore_signals).
        self.process = subprocess.Popen(command + ["127.0.0.1:0"], stdout=subprocess.PIPE)
        self.is_told = False
        line = self.process.stdout.readline().decode()
        assert line.startswith("listening on http://127.0.0.1:"), line
        self.port = int(line.rsplit(":", 1)[1])

    def dial(self):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        return sock, sock.makefile("rb")

    def ask(self, method, path, body=None):
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        link.request(method, path, body)
        answer = link.getresponse()
        return answer.status, answer.read()

    def listen(self, channel, query=""):
        sock, lines = self.dial()
        request = "GET /channels/%s%s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"
        sock.sendall((request % (channel, query)).encode())
        return sock, lines

    def reset(self, sock):
        """Goes without reading: whoever writes then gets a signal that ends it, unless it takes care."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(sock.detach())

    def tell_to_end(self, number):
        self.process.send_signal(number)
        self.is_told = True

    def end(self):
        if not self.is_told:
            self.tell_to_end(signal.SIGTERM)
        status = self.process.wait(DEADLINE)
        assert status == 0, "ended with %d" % status


def events(lines):
    """The events of a stream: their fields, as far as they have data."""
    fields = {}
    for line in lines:
        line = line.decode().rstrip("\r\n")
        if not line:
            if "data" in fields:
                yield fields
            fields = {}
        elif ": " in line:
            name, value = line.split(": ", 1)
            fields[name] = value


def upgrade(program, path, protocol=None):
    sock, lines = program.dial()
    key = base64.b64encode(os.urandom(16)).decode()
    offer = "Sec-WebSocket-Protocol: %s\r\n" % protocol if protocol else ""
    sock.sendall(("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n" % (path, key, offer)).encode())
    assert b" 101 " in lines.readline()
    while lines.readline().strip():
        pass
    return sock, lines


def frame(opcode, payload, last=True):
    mask = os.urandom(4)
    head = bytes([(0x80 if last else 0) | opcode])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([0xFE]) + struct.pack(">H", len(payload))
    else:
        head += bytes([0xFF]) + struct.pack(">Q", len(payload))
    long = (mask * (len(payload) // 4 + 1))[:len(payload)]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(long, "big")).to_bytes(len(payload), "big")


def read_frame(lines):
    first, length = lines.read(2)
    if length == 126:
        length = struct.unpack(">H", lines.read(2))[0]
    elif length == 127:
        length = struct.unpack(">Q", lines.read(8))[0]
    return first & 15, lines.read(length)


def echo(program):
    sock, lines = upgrade(program, "/any/path")
    for kind, payload in ((1, b"hello"), (2, bytes(range(256))), (1, "ä€".encode()), (2, b""), (2, os.urandom(300000))):
        sock.sendall(frame(kind, payload))
        assert read_frame(lines) == (kind, payload)
    sock.sendall(frame(1, b"in ", False) + frame(0, b"two") + frame(9, b"ping"))
    assert [read_frame(lines), read_frame(lines)] == [(1, b"in two"), (10, b"ping")]
    sock.sendall(b"".join(frame(2, b"%d" % n) for n in range(200)))
    assert [read_frame(lines)[1] for _ in range(200)] == [b"%d" % n for n in range(200)]
    for _ in range(10):
        other, _ = upgrade(program, "/")
        other.sendall(frame(2, bytes(1 << 20)))
        program.reset(other)
    sock.sendall(frame(1, b"still here"))
    assert read_frame(lines) == (1, b"still here")
    program.tell_to_end(signal.SIGTERM)
    assert read_frame(lines)[0] == 8  # told to go, and answered
    sock.sendall(frame(8, b"\x03\xe9"))


def dashboard(program):
    status, page = program.ask("GET", "/")
    assert status == 200 and b"EventSource" in page
    sock, lines = program.listen("device")
    stream = events(lines)
    assert next(stream)["event"] == "temperature"
    assert program.ask("POST", "/lamp", "on") == (200, b'{"state":"on"}')
    assert program.ask("POST", "/lamp", "blue")[0] == 400
    assert program.ask("POST", "/channels/device", "x")[0] == 403
    assert program.ask("GET", "/health")[0] == 200
    lamp = next(event for event in stream if event["event"] == "lamp")
    assert lamp["data"] == '{"state":"on"}'
    for _ in range(10):
        program.reset(program.listen("device")[0])
    assert next(stream)["event"] == "temperature"


def clock(program):
    sock, lines = program.listen("clock", "?since=earliest")
    stream = events(lines)
    first, second = next(stream), next(stream)
    assert first["event"] == "tick" and first["data"].replace(" ", "") == '{"t":1}'
    for _ in range(5):
        program.reset(program.listen("clock")[0])
    # Whoever comes back gets what it missed.
    again = events(program.listen("clock", "?since=" + first["id"])[1])
    assert next(again) == second
    assert next(again)["data"] == next(stream)["data"]
    status, body = program.ask("GET", "/poll?channel=clock&since=earliest")
    assert status == 200 and b'"t' in body
    assert program.ask("POST", "/channels/clock", "x")[0] == 403
    program.tell_to_end(signal.SIGINT)
    assert not [event for event in stream if event["event"] != "tick"]  # it ends in order


def run(name):
    program = Program(name)
    try:
        {"echo": echo, "dashboard": dashboard}.get(name, clock)(program)
        program.end()
        return 0
    except Exception as error:
        print("FAIL %s: %s %s" % (name, type(error).__name__, error), flush=True)
        raise
    finally:
        program.process.kill()
        program.process.wait()


if __name__ == "__main__":
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for name, done in [(name, pool.submit(run, name)) for name in names]:
            done.result()
            print("ok", name)
