"""The work that is compared: one row of the tables each. Knows neither servers nor processes."""

from dataclasses import dataclass

# What a row tells.
RATE = "rate"  # messages per second of the server's processor, as a ratio to the floor of the same round
MEMORY = "memory"  # bytes per connection, as they are
VICTIMS = "victims"  # how much longer the others wait while one floods


@dataclass(frozen=True)
class Work:
    """A unit of work: a scenario of the generator with its options."""

    name: str
    title: str
    scenario: str
    options: tuple[str, ...]
    needs: tuple[str, ...]  # tables of a profile; "a.b" is the field b of table a
    figure: str = RATE
    connections: int = 50
    quick: bool = False
    seconds: float | None = None  # what it takes if not as long as one says

    def can(self, profile):
        """What of the profile is missing for it, or nothing."""
        for need in self.needs:
            table, _, name = need.partition(".")
            if table not in profile or (name and not profile[table].get(name)):
                return need
        return None


def crowd(transport, count):
    """The generator's options for so many who listen, all in one way."""
    return [word for each in ("ws", "sse", "poll") for word in (f"--{each}", str(count if each == transport else 0))]


def echoes():
    yield Work("echo-1", "echo, one at a time", "echo", ("--depth", "1"), ("echo",), quick=True)
    yield Work("echo-16", "echo, 16 pipelined", "echo", ("--depth", "16"), ("echo",), quick=True)
    yield Work("echo-16k", "echo, 16 KiB", "echo", ("--depth", "1", "--size", "16384"), ("echo",))


def fanouts():
    names = {"ws": "WebSockets", "sse": "event streams", "poll": "held polls"}
    for count in (1000, 10000):
        for transport, plural in names.items():
            for window in (1, 16):
                options = crowd(transport, count)
                pace = "one at a time" if window == 1 else f"{window} in flight"
                yield Work(
                    f"fanout-{transport}-{count}-{window}",
                    f"fan-out to {count // 1000} 000 {plural}, {pace}",
                    "fanout",
                    (*options, "--window", str(window)),
                    (transport, "publish"),
                    connections=count,
                    quick=count == 1000,
                )


def others():
    yield Work("connect", "connect, upgrade, one echo, close", "connect", (), ("echo.path",), quick=True)
    for depth in (1, 16):
        pace = "one at a time" if depth == 1 else f"{depth} pipelined"
        title = f"publish by HTTP, {pace}"
        options = ("--depth", str(depth))
        yield Work(f"publish-{depth}", title, "publish", options, ("publish.path",), quick=depth == 1)


def returns():
    names = {"ws": "WebSocket", "sse": "event stream", "poll": "polls"}
    for transport, name in names.items():
        counts = crowd(transport, 1000)
        yield Work(
            f"resume-{transport}",
            f"1 000 come back, 100 messages each by {name}",
            "resume",
            (*counts, "--messages", "100"),
            (f"resume.{transport}",),
            connections=1000,
            quick=transport == "ws",
        )


def idlers():
    names = {"ws": "WebSocket", "sse": "event stream", "poll": "held poll"}
    for transport, name in names.items():
        counts = crowd(transport, 8000)
        yield Work(
            f"idle-{transport}",
            f"an idle {name}, of 8 000",
            "idle",
            (*counts, "--steps", "8000"),
            (transport,),
            figure=MEMORY,
            connections=8000,
            quick=transport == "ws",
        )


def floods():
    title = "100 clients at 50 a second each, while one more floods"
    yield Work("flood", title, "flood", (), ("echo.path",), figure=VICTIMS)


ALL = (*echoes(), *others(), *fanouts(), *returns(), *idlers(), *floods())
