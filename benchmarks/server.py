"""The fast server: a POP3 server in a helper process, all replies rendered before.

Run as ``python -m benchmarks.server '{...}'``. It prints one line of JSON (its ports
and how much a client will receive), answers ``stats`` lines on its standard input, and
ends with that input. A thread a connection and blocking sockets; a run of pipelined
``RETR`` with rising numbers is one slice of one buffer, so that the kernel's copy is
nearly all it does.
"""

import contextlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable

from benchmarks.loads import VARIANTS, message, stuffed

CAPA = (
    b"+OK Capabilities follow\r\nTOP\r\nUIDL\r\nUSER\r\nPIPELINING\r\nRESP-CODES\r\n"
    b"STLS\r\n.\r\n"
)
CAPA_IN_TLS = CAPA.replace(b"STLS\r\n", b"SASL PLAIN\r\n")
READ = 4096  # small, so that replies start before all requests are read


class Mailbox:
    """Every reply, rendered once: *count* messages in one buffer."""

    def __init__(self, count: int, size: int, shape: str) -> None:
        distinct = [message(shape, size, n + 1) for n in range(min(VARIANTS, count))]
        wire = [b"+OK\r\n%b.\r\n" % stuffed(content) for content in distinct]
        replies = [wire[n % len(wire)] for n in range(count)]
        self.count = count
        self.blob = memoryview(b"".join(replies))
        self.offsets = [0]
        for reply in replies:
            self.offsets.append(self.offsets[-1] + len(reply))
        numbers = range(1, count + 1)
        listing = "".join(f"{n} {size}\r\n" for n in numbers)
        unique = "".join(f"{n} uid{n:08d}\r\n" for n in numbers)
        self.fixed = {
            b"CAPA": CAPA,
            b"STAT": b"+OK %d %d\r\n" % (count, count * size),
            b"LIST": b"+OK\r\n" + listing.encode() + b".\r\n",
            b"UIDL": b"+OK\r\n" + unique.encode() + b".\r\n",
            b"QUIT": b"+OK bye\r\n",
        }
        for verb in (b"USER", b"PASS", b"AUTH", b"NOOP", b"RSET", b"DELE"):
            self.fixed[verb] = b"+OK\r\n"
        self.one = {
            b"LIST": lambda n: b"+OK %d %d\r\n" % (n, size),
            b"UIDL": lambda n: b"+OK %d uid%08d\r\n" % (n, n),
        }

    def other(self, line: bytes) -> bytes | memoryview:
        """The reply to anything but a plain RETR."""
        parts = line.split()
        verb = parts[0].upper() if parts else b""
        number = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
        if 1 <= number <= self.count:
            # fetchmail asks for TOP with a huge count where others say RETR
            if verb == b"RETR" or (verb == b"TOP" and int(parts[2]) > 1_000_000):
                return self.blob[self.offsets[number - 1] : self.offsets[number]]
            if verb in self.one:
                return self.one[verb](number)
        return self.fixed.get(verb, b"-ERR no\r\n")


class Server:
    """The listening ports, and what happened on them."""

    def __init__(self, mailbox: Mailbox, identity: str | None) -> None:
        self.mailbox = mailbox
        self.connections = self.resumed = 0
        self.identity = identity
        self.tls = self._context(tickets=True)
        self.tls_full = self._context(tickets=False)

    def _context(self, tickets: bool) -> ssl.SSLContext | None:
        if self.identity is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.identity)
        if not tickets:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context

    def listen(self, context: ssl.SSLContext | None) -> int:
        """A new port, with a thread of its own; TLS from the start with *context*."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                self.connections += 1
                threading.Thread(
                    target=self.session, args=(connection, context), daemon=True
                ).start()

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    def session(
        self, connection: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        """One connection, from greeting to QUIT or loss."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                connection = self.wrap(connection, context)
                stack.callback(connection.close)
            connection.sendall(b"+OK ready\r\n")
            while self.dialogue(connection):  # it returns True for STLS
                assert self.tls is not None
                connection = self.wrap(connection, self.tls)
                stack.callback(connection.close)

    def wrap(self, connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        """The TLS handshake; resumed ones are counted."""
        wrapped = context.wrap_socket(connection, server_side=True)
        self.resumed += bool(wrapped.session_reused)
        return wrapped

    def dialogue(self, connection: socket.socket) -> bool:
        """Answer until QUIT, loss (False) or STLS (True)."""
        mailbox, rest = self.mailbox, b""
        offsets, blob, last = mailbox.offsets, mailbox.blob, mailbox.count
        send: Callable[[bytes | memoryview], None] = connection.sendall
        in_tls = isinstance(connection, ssl.SSLSocket)
        while data := connection.recv(READ):
            lines = (rest + data).split(b"\r\n")
            rest = lines.pop()
            begin = end = 0  # messages begin + 1 .. end are owed
            for line in lines:
                if line[:5] == b"RETR " and line[5:].isdigit():
                    number = int(line[5:])
                    if number == end + 1 and end > begin and number <= last:
                        end = number
                        continue
                    if end > begin:
                        send(blob[offsets[begin] : offsets[end]])
                        begin = end = 0
                    if 1 <= number <= last:
                        begin, end = number - 1, number
                        continue
                if end > begin:
                    send(blob[offsets[begin] : offsets[end]])
                    begin = end = 0
                verb = line[:4].upper()
                if verb == b"STLS" and self.tls is not None:
                    send(b"+OK begin\r\n")
                    return True
                capa = in_tls and verb == b"CAPA"
                send(CAPA_IN_TLS if capa else mailbox.other(line))
                if verb == b"QUIT":
                    return False
            if end > begin:
                send(blob[offsets[begin] : offsets[end]])
        return False


def main() -> None:
    """Serve until standard input ends."""
    job = json.loads(sys.argv[1])
    threading.stack_size(256 * 1024)  # two thousand idle sessions are two thousand
    mailbox = Mailbox(job["count"], job["size"], job["shape"])
    server = Server(mailbox, job.get("identity"))
    hello = {"plain": server.listen(None), "wire": len(mailbox.blob)}
    if server.identity is not None:
        hello["tls"] = server.listen(server.tls)
        hello["tls_full"] = server.listen(server.tls_full)
    print(json.dumps(hello), flush=True)
    for _ in sys.stdin:
        figures = {
            "cpu": time.process_time(),
            "connections": server.connections,
            "resumed": server.resumed,
        }
        print(json.dumps(figures), flush=True)
    os._exit(0)  # the session threads may still wait for clients


if __name__ == "__main__":
    main()
