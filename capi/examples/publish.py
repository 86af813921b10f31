"""A server in a Python program, through ctypes: publishes a count to channel "clock".

    python3 publish.py 127.0.0.1:7070
"""
import ctypes as c, itertools, json, signal, sys, threading

lib = c.CDLL("libholdline.so.1")
lib.holdline_strerror.restype = c.c_char_p
lib.holdline_server_hub.restype = c.c_void_p


class Bytes(c.Structure):
    _fields_ = [("ptr", c.c_char_p), ("len", c.c_size_t)]


class Message(c.Structure):
    _fields_ = [("size", c.c_size_t)] + [
        (name, Bytes) for name in ("channel", "payload", "type", "event", "idempotency_key")] + [("ttl_s", c.c_int64)]


class Config(c.Structure):  # as much of holdline_config as is used here: the rest counts as zero
    _fields_ = [("size", c.c_size_t), ("listen", c.POINTER(c.c_char_p)), ("listen_len", c.c_size_t)]


def must(result):
    if result < 0:
        sys.exit(lib.holdline_strerror(result).decode())
    return result


address = (c.c_char_p * 1)((sys.argv[1:] or ["127.0.0.1:7070"])[0].encode())
server, over = c.c_void_p(), threading.Event()
must(lib.holdline_server_new(c.byref(Config(c.sizeof(Config), address, 1)), None, None, c.byref(server)))
hub = c.c_void_p(lib.holdline_server_hub(server))
print("listening on http://127.0.0.1:%d" % lib.holdline_server_port(server), flush=True)
loop = threading.Thread(target=lib.holdline_server_run, args=(server,))
loop.start()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: over.set())
for t in itertools.count(1):
    text = lambda s: Bytes(s.encode(), len(s.encode()))
    tick = Message(c.sizeof(Message), text("clock"), text(json.dumps({"t": t})), event=text("tick"), ttl_s=-1)
    must(lib.holdline_publish(hub, c.byref(tick), None))
    if over.wait(1):
        break
lib.holdline_shutdown(hub, 1000)
loop.join()
lib.holdline_server_free(server)
lib.holdline_hub_free(hub)
