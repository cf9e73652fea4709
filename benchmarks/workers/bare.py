"""The limits: a bare receive loop, and a sink that does not even look.

``loop``: all requests are sent at once, then blocking receives of 64 KB and a search
for the end marker, counting messages; nothing is kept, un-stuffed or handed over.
``sink``: the octets are counted as they drop, in 1 MB reads: how fast the server can be
drained.
"""

import socket
import ssl
from types import SimpleNamespace

from benchmarks.workers.common import Clock, answer, job

MARK = b"\r\n.\r\n"


def session(task: SimpleNamespace) -> socket.socket:
    """Connected and logged in."""
    sock = socket.create_connection((task.host, task.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if task.tls:
        context = ssl.create_default_context(cafile=task.ca)
        sock = context.wrap_socket(sock, server_hostname=task.host)
    sock.recv(512)
    for line in (f"USER {task.user}", f"PASS {task.password}"):
        sock.sendall(line.encode() + b"\r\n")
        reply = sock.recv(512)
        assert reply.startswith(b"+OK"), reply
    return sock


def loop(sock: socket.socket, count: int) -> dict[str, int]:
    """Search each chunk for end markers, with the last four octets before it."""
    receive, done, tail = sock.recv, 0, b""
    while done < count:
        chunk = receive(65536)
        assert chunk, "connection lost"
        data = tail + chunk
        at = data.find(MARK)
        while at >= 0:
            done += 1
            at = data.find(MARK, at + 5)
        tail = data[-4:]
    return {"messages": done}


def sink(sock: socket.socket, octets: int, count: int) -> dict[str, int]:
    """Only count octets until all have come."""
    buffer, receive, done = bytearray(1 << 20), sock.recv_into, 0
    while done < octets:
        got = receive(buffer)
        assert got, "connection lost"
        done += got
    return {"messages": count if done == octets else -1}


def main() -> None:
    """Log in, fetch all, say how long it took."""
    task = job()
    sock = session(task)
    requests = b"".join(b"RETR %d\r\n" % n for n in range(1, task.count + 1))
    with Clock() as clock:
        sock.sendall(requests)
        if task.mode == "sink":
            figures = sink(sock, task.wire, task.count)
        else:
            figures = loop(sock, task.count)
    sock.sendall(b"QUIT\r\n")
    sock.recv(512)
    answer(**clock.figures, **figures)


if __name__ == "__main__":
    main()
