"""Servers: how each is installed, started, told apart from others on its port, and ended. Knows no work."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path

LOAD = Path(__file__).resolve().parent.parent
PEERS = LOAD / "peers"
CACHE = Path(os.environ.get("HOLDLINE_LOAD_CACHE", LOAD / ".cache"))
START_SECONDS_MAX = 20
END_SECONDS_MAX = 5
INSTALL_SECONDS_MAX = 1200
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
# Below the range that connections take their ports from.
PORTS = range(20000, 32000)
# The order of the columns. What is not in it comes at the end.
ORDER = ("floor", "tcp", "holdline", "uwebsockets", "bun", "nchan", "libwebsockets", "fastwebsockets",
         "tokio-tungstenite", "ws", "socketio")
# These are not peers but measures: they are always there.
MEASURES = ("floor", "holdline")


class Trouble(Exception):
    """A server that did not do what it should; the text says what."""


class Peer:
    """A directory with a recipe."""

    def __init__(self, directory):
        self.name = directory.name
        self.directory = directory
        self.profile_path = directory / "profile.toml"
        self.profile = tomllib.loads(self.profile_path.read_text())
        recipe = tomllib.loads((directory / "peer.toml").read_text())
        self.title = recipe["title"]
        self.measures_child = recipe.get("measured") == "child"
        self.warmup = recipe.get("warmup", 0)
        self.version = None
        self.missing = None

    def install(self):
        """Installs it into the cache. `version` is set, or `missing` to why not."""
        environment = dict(os.environ, HOLDLINE_LOAD_CACHE=str(CACHE))
        try:
            ran = subprocess.run([self.directory / "install"], env=environment, text=True, stdin=subprocess.DEVNULL,
                                 capture_output=True, timeout=INSTALL_SECONDS_MAX)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.missing = str(error)
            return
        if ran.returncode == 0:
            self.version = last_line(ran.stdout) or self.title
        else:
            self.missing = last_line(ran.stderr) or f"its recipe ended with status {ran.returncode}"


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def all_peers():
    """Every recipe, in the order of the columns."""
    peers = [Peer(path.parent) for path in PEERS.glob("*/peer.toml")]
    return sorted(peers, key=lambda peer: (ORDER.index(peer.name) if peer.name in ORDER else len(ORDER), peer.name))


class Server:
    """A process that was started, on a port of its own. A context: it ends with it."""

    def __init__(self, peer, scenario, cpu):
        self.peer = peer
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="holdline-compare-"))
        self.log = self.directory / "log"
        environment = dict(os.environ, HOLDLINE_LOAD_CACHE=str(CACHE), HOLDLINE_RUN_DIR=str(self.directory))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [peer.directory / "start", str(self.port), scenario], env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=lambda: settle_down(cpu))

    def __enter__(self):
        try:
            self.wait()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def wait(self):
        """Waits until it listens, and makes sure that it is this process that does."""
        end = time.monotonic() + START_SECONDS_MAX
        while True:
            if self.process.poll() is not None:
                raise Trouble(f"ended at its start: {self.last_words()}")
            inodes = listening_inodes(self.port)
            if inodes:
                break
            if time.monotonic() > end:
                raise Trouble(f"does not listen after {START_SECONDS_MAX} s: {self.last_words()}")
            time.sleep(0.02)
        # All of them: with SO_REUSEPORT somebody else could take a part of the connections.
        family = [self.process.pid, *children(self.process.pid)]
        if not inodes <= set().union(*map(socket_inodes, family)):
            raise Trouble(f"another process listens on its port {self.port}, too")

    @property
    def measured(self):
        """The process whose time and memory count."""
        if not self.peer.measures_child:
            return self.process.pid
        end = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < end:
            found = children(self.process.pid)
            if len(found) == 1 and listening_inodes(self.port) & socket_inodes(found[0]):
                return found[0]
            time.sleep(0.02)
        raise Trouble("has not the one child that is to be measured")

    def last_words(self):
        return last_line(self.log.read_text(errors="replace")) or "it says nothing"

    def is_alive(self):
        return self.process.poll() is None

    def end(self):
        """Ends this process and its children, by their ids."""
        family = children(self.process.pid)
        end_process(self.process)
        for pid in family:
            # A worker ends with its master; if it has not, its parent is no longer that one, but its session is.
            try:
                if os.getsid(pid) == self.process.pid:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.directory, ignore_errors=True)


def end_process(process):
    """Asks a child of ours to end; then makes it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def settle_down(cpu):
    """In the new process: it runs on one processor, and ends if who started it does."""
    os.sched_setaffinity(0, {cpu})
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port():
    """A port that nobody listens on and that no old connection lingers on."""
    for _ in range(len(PORTS)):
        port = PORTS[free_port.next % len(PORTS)]
        free_port.next += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise Trouble("no port is free")


free_port.next = os.getpid()  # two comparisons begin at different ports


def listening_inodes(port):
    """The sockets that listen on that port."""
    listening = "0A"
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == listening and int(words[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(words[9])
    return inodes


def socket_inodes(pid):
    inodes = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
            except OSError:
                continue
            if found:
                inodes.add(found[1])
    except OSError:
        pass
    return inodes


def children(pid):
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    except OSError:
        pass
    return found
