"""The processes: the server, and each proxy by the page's configuration, in a directory and on ports of their own. None
is a system's service, none has more rights than it needs, and each is ended by its own number."""

import asyncio
import contextlib
import grp
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

from blocks import put
from clients import PATIENCE, Site, ask, soon

KINDS = ["nginx", "haproxy", "caddy"]
NAME = "rt.example"


class World:
    def __init__(self, binary, blocks):
        self.binary, self.blocks = binary, blocks
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="holdline-proxies-"))
        self.top.chmod(0o755)
        self.running = set()
        self.count = 0
        self.ports = set()
        self.user, self.group = self.other_user()
        self.versions = {kind: version(kind) for kind in KINDS if shutil.which(kind)}
        self.certificate = self.make_certificate()

    def other_user(self):
        """Who runs the proxies: not root. (None, None): whoever runs this."""
        if os.geteuid() != 0 or not has_other_users():
            return None, None
        for name in ("www-data", "nobody"):
            with contextlib.suppress(KeyError):
                user = pwd.getpwnam(name)
                return user.pw_name, grp.getgrgid(user.pw_gid).gr_name
        return None, None

    def directory(self, is_proxys=True):
        self.count += 1
        path = self.top / str(self.count)
        path.mkdir()
        if is_proxys and self.user:
            shutil.chown(path, self.user, self.group)
        return path

    def free_port(self):
        """A port that nobody has, that was not given here before, and that no connection is given by the system."""
        while True:
            port = random.randrange(10_000, 32_000)
            with socket.socket() as one, contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                if port not in self.ports:
                    self.ports.add(port)
                    return port

    def make_certificate(self):
        """Certificate and key in one file, which all three proxies read."""
        directory = self.directory()
        key, certificate, both = (directory / name for name in ("key.pem", "certificate.pem", "both.pem"))
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        command += [
            "-subj",
            f"/CN={NAME}",
            "-addext",
            f"subjectAltName=DNS:{NAME}",
            "-keyout",
            key,
            "-out",
            certificate,
        ]
        subprocess.run(command, check=True, capture_output=True)
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        both.chmod(0o644)
        return both

    async def spawn(self, directory, *command, as_other=True, **more):
        if as_other and self.user:
            more |= {"user": self.user, "group": self.group, "extra_groups": []}
        log = open(directory / "log", "ab")
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            **{"stdout": log, **more},
        )
        log.close()
        self.running.add(process)
        return process

    async def end(self, process, number=signal.SIGKILL, patience=PATIENCE):
        """Ends it with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        await soon(process.wait(), patience)
        self.running.discard(process)

    async def close(self):
        for process in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in list(self.running):
            await process.wait()
        shutil.rmtree(self.top, ignore_errors=True)

    async def holdline(self, *options, port=0, is_listening=True):
        return await Holdline.start(self, *options, port=port, is_listening=is_listening)

    async def holdline_of_manager(self, *options):
        """On a socket of a service manager, which stays."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        return await Holdline.start(self, *options, listener=listener)

    async def proxy(self, kind, text, server, **more):
        one = {"nginx": Nginx, "haproxy": Haproxy, "caddy": Caddy}[kind](self, text, server, **more)
        await one.start()
        return one


def has_other_users():
    """Not in a namespace of one user's own."""
    return int(pathlib.Path("/proc/self/uid_map").read_text().split()[2]) > 65_534


def group_of(path):
    """The process group of a process in /proc; 0 if it has ended meanwhile."""
    with contextlib.suppress(OSError):
        return int((path / "stat").read_text().rsplit(")", 1)[1].split()[2])
    return 0


def version(kind):
    command = {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "caddy": ["caddy", "version"]}[kind]
    told = subprocess.run(command, capture_output=True, text=True)
    return re.search(r"\d+\.\d+\.\d+", told.stdout + told.stderr)[0]


# The socket becomes the first descriptor after the usual ones, and the variable names the process itself.
HAND_OVER = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])"""


class Holdline:
    """A running binary with its defaults but for what is given."""

    @classmethod
    async def start(cls, world, *options, port=0, is_listening=True, listener=None):
        self = cls()
        self.world, self.directory = world, world.directory(is_proxys=False)
        self.options, self.listener = options, listener
        is_listening = is_listening and not listener
        self.listen = ["--listen", f"127.0.0.1:{port}"] if is_listening else []
        await self.go()
        return self

    async def go(self):
        variables = {name: value for name, value in os.environ.items() if not name.startswith("HOLDLINE_")}
        command = [self.world.binary, *self.listen, "--drain", "1s", *self.options]
        more = {}
        if self.listener:
            command = [sys.executable, "-c", HAND_OVER, self.listener.fileno(), *command]
            variables["LISTEN_FDS"] = "1"
            more = {"pass_fds": [self.listener.fileno()]}
        self.process = await self.world.spawn(
            self.directory, *command, as_other=False, stdout=asyncio.subprocess.PIPE, env=variables, **more
        )
        line = (await soon(self.process.stdout.readline(), PATIENCE)).decode().strip()
        assert line.startswith("listening on "), f"{command}: {self.log()}"
        if self.listen or self.listener:
            self.port = int(line.rsplit(":", 1)[1])
            self.listen = self.listen and ["--listen", f"127.0.0.1:{self.port}"]
            self.site = Site(self.port, host="localhost")
            self.address = f"127.0.0.1:{self.port}"

    def log(self):
        return (self.directory / "log").read_text()

    async def restart(self, after=0):
        await self.world.end(self.process, signal.SIGTERM)
        await asyncio.sleep(after)
        await self.go()

    async def stats(self):
        return (await ask(self.site, "GET", "/stats")).json()

    async def listeners(self, channel, count):
        """Waits until there are so many."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while (told := (await ask(self.site, "GET", f"/channels/{channel}")).json())["subscribers"] != count:
            assert asyncio.get_running_loop().time() < end, f"{told['subscribers']} are counted, not {count}"
            await asyncio.sleep(0.05)


class Proxy:
    """A proxy by this text of the page. `server`: its address takes the place of 127.0.0.1:7070, or a table says what
    takes the place of what. `edit`: changes the text first."""

    def __init__(self, world, text, server, edit=lambda text: text):
        self.world, self.directory, self.port = world, world.directory(), world.free_port()
        places = server if isinstance(server, dict) else {"127.0.0.1:7070": server.address}
        self.is_tls = self.has_tls(text)
        self.config = self.directory / "config"
        self.config.write_text(self.whole(put(edit(text), {**places, **self.places()})))

    @property
    def site(self):
        return Site(self.port, self.is_tls)

    async def start(self):
        self.process = await self.world.spawn(self.directory, *self.command(), env=self.environment())
        end = asyncio.get_running_loop().time() + PATIENCE
        while True:
            assert self.process.returncode is None, f"{self.command()}: {self.log()}"
            with contextlib.suppress(OSError):
                # With TLS: Caddy listens before it has a certificate.
                (await self.site.connect())[1].transport.abort()
                return
            assert asyncio.get_running_loop().time() < end, f"it does not listen: {self.log()}"
            await asyncio.sleep(0.02)

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory)}

    def log(self):
        return (self.directory / "log").read_text()

    async def restart(self):
        """Cuts everybody off."""
        await self.world.end(self.process)
        await self.start()

    async def reload(self):
        self.process.send_signal(self.reload_signal)

    def processes(self):
        """All that it consists of now."""
        return [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*") if group_of(path) == self.process.pid]

    def signal_all(self, number):
        os.killpg(self.process.pid, number)


class Nginx(Proxy):
    reload_signal = signal.SIGHUP

    def has_tls(self, text):
        return "listen 443 ssl" in text

    def places(self):
        if not self.is_tls:
            return {"listen 80;": f"listen 127.0.0.1:{self.port};"}
        return {
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "/etc/ssl/rt.example.pem": str(self.world.certificate),
            "/etc/ssl/rt.example.key": str(self.world.certificate),
        }

    def whole(self, text):
        """Debian's own file, but for logs and for rights that it has not here."""
        debians = pathlib.Path("/etc/nginx/nginx.conf").read_text()
        debians = re.sub(r"^\s*(user|pid|access_log|error_log|include /etc/nginx/(?!mime)).*$", "", debians, flags=re.M)
        debians = debians.replace("worker_processes auto", "worker_processes 1")
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        temporary = "".join(f"{kind}_temp_path {self.directory}/{kind};\n" for kind in kinds)
        at = debians.rindex("}", 0, debians.find("#mail") if "#mail" in debians else None)
        first = f"daemon off;\npid {self.directory}/pid;\n"
        if os.geteuid() == 0 and not self.world.user:
            first += "user root root;\n"  # the only one there is
        return f"{first}{debians[:at]}\naccess_log off;\n{temporary}{text}\n}}\n"

    def command(self):
        return ["nginx", "-e", "stderr", "-p", self.directory, "-c", self.config]


class Haproxy(Proxy):
    reload_signal = signal.SIGUSR2

    def has_tls(self, text):
        return "bind :443 ssl" in text

    def places(self):
        if not self.is_tls:
            return {"bind :80": f"bind 127.0.0.1:{self.port}"}
        return {
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/haproxy/rt.example.pem": str(self.world.certificate),
        }

    def whole(self, text):
        """With the defaults of Debian's own file."""
        debians = pathlib.Path("/etc/haproxy/haproxy.cfg").read_text()
        return "global\n    nbthread 1\n\n" + debians[debians.index("defaults\n") :] + "\n" + text

    def command(self):
        return ["haproxy", "-W", "-f", self.config]


class Caddy(Proxy):
    def has_tls(self, text):
        return True

    def places(self):
        # A certificate of its own authority would be as good, but is not always there in time.
        return {f"{NAME} {{": f"{NAME} {{\n\ttls {self.world.certificate} {self.world.certificate}"}

    def whole(self, text):
        self.admin = f"127.0.0.1:{self.world.free_port()}"
        options = [f"admin {self.admin}", "skip_install_trust", f"https_port {self.port}"]
        options += [
            f"http_port {self.world.free_port()}",
            "default_bind 127.0.0.1",
            f"storage file_system {self.directory}",
        ]
        options += ["servers {\nprotocols h1 h2\n}"]
        return "{\n" + "\n".join(options) + "\n}\n" + text

    def command(self):
        return ["caddy", "run", "--adapter", "caddyfile", "--config", self.config]

    def environment(self):
        return {**super().environment(), "GOMAXPROCS": "1"}

    async def reload(self):
        command = [
            "caddy",
            "reload",
            "--force",
            "--adapter",
            "caddyfile",
            "--config",
            self.config,
            "--address",
            self.admin,
        ]
        process = await self.world.spawn(self.directory, *command, env=self.environment())
        assert await soon(process.wait(), PATIENCE) == 0, self.log()
        self.world.running.discard(process)
