"""A hostile client of one kind, until it is killed. Arguments: kind, host, port, port with TLS. See scripts/bench-hostile.

The kind `sink` is who may be hurt in a broker's stead: it reads and drops, so that what such clients do to others by running shows.
"""

import gzip
import os
import selectors
import socket
import ssl
import struct
import sys
import time

KIND, HOST, PORT, TLS_PORT = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
CONNECTIONS = int(os.environ.get("HOSTILE_CONNECTIONS", "300"))
TOPIC = b"hostile"
# What one system call of a hostile client sends at most: the kernel lets nobody else have the core until it has ended.
SLICE = 16 << 10


class Hostile(socket.socket):
    """A connection that sends in slices."""

    def sendall(self, data):
        for at in range(0, len(data), SLICE):
            super().sendall(data[at : at + SLICE])

    def send(self, data):
        sent = 0
        while sent < len(data):
            try:
                sent += super().send(data[sent : sent + SLICE])
            except BlockingIOError:
                if sent == 0:
                    raise
                break
        return sent


def connect(port=PORT):
    connection = Hostile()
    connection.settimeout(5)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
    connection.connect((HOST, port))
    return connection


def frame(api, version, body, flexible=False, size=None):
    head = struct.pack(">hhih", api, version, 7, 1) + b"h" + (b"\0" if flexible else b"")
    return struct.pack(">i", size if size is not None else len(head) + len(body)) + head + body


def varint(n):
    out = b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


METADATA = frame(3, 9, b"\0" + bytes(4), flexible=True)
FETCH = frame(1, 4, struct.pack(">iiiib", -1, 60000, 1, 1 << 20, 0) + struct.pack(">ih", 1, len(TOPIC)) + TOPIC
              + struct.pack(">iiqi", 1, 0, 0, 1 << 20))


def crc32c(data):
    table = [0] * 256
    for i in range(256):
        c = i
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
        table[i] = c
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def batch(records, codec):
    tail = struct.pack(">hiqqqhii", codec, 0, 0, 0, -1, -1, -1, 1) + records
    return struct.pack(">qiibI", 0, 9 + len(tail), -1, 2, crc32c(tail)) + tail


def produce(records):
    body = struct.pack(">hhiih", -1, -1, 5000, 1, len(TOPIC)) + TOPIC + struct.pack(">iii", 1, 0, len(records)) + records
    return frame(0, 3, body)


def each(what, pause=0.0):
    """Again and again; whoever is thrown out comes again."""
    while True:
        try:
            what()
        except OSError:
            time.sleep(0.01)
        time.sleep(pause)


def held(begin, again=None, pause=0.2):
    """Many connections that begin with something, and go on with something else."""
    connections = [None] * CONNECTIONS
    while True:
        for i, connection in enumerate(connections):
            try:
                if connection is None:
                    connections[i] = connection = connect()
                    connection.setblocking(False)
                    connection.send(begin)
                elif again:
                    connection.send(again)
                elif connection.recv(1 << 16) == b"":
                    raise ConnectionResetError
            except BlockingIOError:
                pass
            except OSError:
                if connection:
                    connection.close()
                connections[i] = None
        time.sleep(pause)


def whole(bytes_, answered=True):
    def once():
        with connect() as connection:
            connection.sendall(bytes_)
            if answered:
                connection.recv(1 << 16)

    return once


def unread():
    connections = [connect() for _ in range(min(CONNECTIONS, 100))]
    for connection in connections:
        connection.setblocking(False)
    while True:
        for i, connection in enumerate(connections):
            try:
                for _ in range(50):
                    connection.send(METADATA)
            except BlockingIOError:
                pass
            except OSError:
                connections[i] = connect()
                connections[i].setblocking(False)
        time.sleep(0.01)


def hello():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(into, out)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    with connect(TLS_PORT) as connection:
        connection.sendall(out.read())
        connection.recv(1 << 16)


def noise():
    with connect() as connection:
        connection.sendall(struct.pack(">i", 1000) + os.urandom(1000))
        connection.recv(100)


KINDS = {
    "slow loris": lambda: held(frame(3, 9, b"", size=1 << 20)[:10]),
    "half-open connections": lambda: held(METADATA[:2]),
    "a byte now and then": lambda: held(struct.pack(">i", 50 << 20) + bytes(60 << 10), b"\0", pause=0.5),
    "giant frames, not ended": lambda: held(struct.pack(">i", 90 << 20) + bytes(2 << 20)),
    "giant frames": lambda: each(whole(frame(3, 9, b"\xff" * (20 << 20), flexible=True))),
    "giant arrays, announced": lambda: each(whole(frame(3, 9, varint(1 << 30) + bytes(50), flexible=True))),
    "giant arrays, sent": lambda: each(whole(frame(3, 9, varint((4 << 20) + 1) + b"\1\0" * (4 << 20) + bytes(4), flexible=True))),
    "compression bombs": lambda: each(whole(produce(batch(gzip.compress(bytes(200 << 20)), 1)))),
    "pipelines nobody reads": unread,
    "requests behind waiting ones": lambda: held(FETCH * 20),
    "connections without end": lambda: each(whole(METADATA, answered=False)),
    "TLS handshakes": lambda: each(hello),
    "noise": lambda: each(noise),
}



def sink():
    """Answers nothing; ends a connection when a large frame has come whole."""
    open_ = selectors.DefaultSelector()
    for port in (PORT, TLS_PORT):
        listener = socket.create_server((HOST, port), backlog=1024)
        listener.setblocking(False)
        open_.register(listener, selectors.EVENT_READ)
    into = memoryview(bytearray(256 << 10))
    while True:
        for key, _ in open_.select():
            try:
                if key.data is None:
                    connection, _ = key.fileobj.accept()
                    connection.setblocking(False)
                    open_.register(connection, selectors.EVENT_READ, {"size": 0, "come": 0})
                    continue
                come = key.fileobj.recv_into(into)
            except BlockingIOError:
                continue
            except OSError:
                come = 0
            if come >= 4 and key.data["come"] == 0:
                key.data["size"] = 4 + int.from_bytes(into[:4], "big")
            key.data["come"] += come
            if come == 0 or 1 << 20 < key.data["size"] <= key.data["come"]:
                open_.unregister(key.fileobj)
                key.fileobj.close()


if KIND == "sink":
    sink()
if KIND == "kinds":
    print("\n".join(KINDS))
else:
    KINDS[KIND]()
