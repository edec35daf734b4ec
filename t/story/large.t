#!/usr/bin/env python3
"""Large and slow requests: a body of 1 GiB, headers of 8 KiB, clients that take their time; what each of them costs."""

import asyncio
import socket
import threading
import time
from collections import Counter

import story
from story import Backend, Nginx, free_port, total, until

GIB = 1 << 30
KIB = 1 << 10
CAP = 200 * KIB
CLIENTS = 100


class Sink(threading.Thread):
    """Takes bodies, in a thread, as fast as they come; counts bytes after the header."""

    def __init__(self, tap):
        super().__init__(daemon=True)
        self.listener, self.taken, self.peak = socket.socket(), 0, 0
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        tap.ends.append(self.listener.close)

    @property
    def node(self):
        return {"host": "127.0.0.1", "port": self.port}

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        head, buffer = b"", memoryview(bytearray(1 << 20))
        with connection:
            while b"\r\n\r\n" not in head:
                piece = connection.recv(4096)
                if not piece:
                    return
                head += piece
            head, _, rest = head.partition(b"\r\n\r\n")
            chunked, got, tail = b"chunked" in head.lower(), len(rest), rest[-5:]
            length = 0 if chunked else int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while (not tail.endswith(b"0\r\n\r\n")) if chunked else got < length:
                count = connection.recv_into(buffer)
                if not count:
                    break
                got += count
                tail = (tail + bytes(buffer[max(0, count - 5) : count]))[-5:]
            self.taken += got
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
            except OSError:
                pass


def upload(port, path, size, chunked, most=GIB):
    """Status of a request with so many bytes, of which at most `most` are sent, and how many could be."""
    piece = b"x" * (1 << 20)
    framed = b"100000\r\n" + piece + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        try:
            sock.sendall(f"POST {path} HTTP/1.1\r\nHost: story\r\nConnection: close\r\n{how}\r\n\r\n".encode())
            for _ in range(min(size, most) // len(piece)):
                sock.sendall(framed if chunked else piece)
                sent += len(piece)
            if chunked:
                sock.sendall(b"0\r\n\r\n")
        except OSError:
            pass
        try:
            answer = sock.recv(4096)
        except OSError:
            answer = b""
    return int(answer[9:12] or 0), sent


async def raw(port, text, wait=5):
    """The status of whatever `text` is answered with; 0: the connection ends without."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text)
        answer = await asyncio.wait_for(reader.read(4096), wait)
    except OSError:
        answer = b""
    writer.transport.abort()
    return int(answer[9:12] or 0)


def document(backend, sink):
    return {
        "version": 1,
        "upstreams": [{"name": "u", "nodes": [backend.node]}, {"name": "sink", "nodes": [sink.node]}],
        "routes": [
            {"name": "all", "paths": ["/*"], "upstream": "u", "max_body": f"{CAP // KIB}k"},
            {"name": "up", "paths": ["/up/*"], "upstream": "sink"},
            {"name": "capped", "paths": ["/capped/*"], "upstream": "sink", "max_body": f"{CAP // KIB}k"},
        ],
    }


async def tell(tap):
    backend, sink = await Backend(tap, "u").start(), Sink(tap)
    sink.start()
    server = """
        client_header_timeout 1s; client_body_timeout 1s;
        location /up/ { gateway_pass gateway; client_max_body_size 0; proxy_request_buffering off; }
        location /capped/ { gateway_pass gateway; client_max_body_size 0; proxy_request_buffering off; }
        location /431/ { gateway_pass gateway; error_page 494 =431 @large; }
        error_page 494 =431 @large;
        location @large { return 431; }
    """
    nginx = await Nginx(tap, document(backend, sink), workers=1, server=server).start()
    (worker,) = nginx.worker_pids()

    async def peak(work):
        """What `work` gives, and by how many KiB the worker's own memory was higher meanwhile."""
        base = highest = nginx.memory()[worker]
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0.02)
            highest = max(highest, nginx.memory().get(worker, 0))
        return task.result(), highest - base

    # The first request makes what a worker keeps for good.
    await asyncio.to_thread(upload, nginx.port, "/up/1", 1 << 20, False)
    for chunked in (False, True):
        how = "in chunks" if chunked else "with its length"
        sink.taken, began = 0, time.monotonic()
        (status, sent), grown = await peak(asyncio.to_thread(upload, nginx.port, "/up/1", GIB, chunked))
        tap.ok(status == 200 and sink.taken >= GIB, f"1 GiB {how}: passed on as it comes",
               f"{status}, {sink.taken} bytes, {time.monotonic() - began:.1f} s")
        tap.ok(grown <= 64, f"1 GiB {how}: in at most 64 KiB", f"{grown} KiB")
        sink.taken = 0
        (status, sent), grown = await peak(asyncio.to_thread(upload, nginx.port, "/capped/1", GIB, chunked, GIB // 16))
        # nginx goes on reading for a while, and throws it away, so that the client can see the answer.
        tap.ok(status == 413 and sink.taken <= CAP + 64 * KIB,
               f"1 GiB {how}, where {CAP // KIB} KiB are allowed: refused", f"{status}, {sent} sent, {sink.taken} passed on")
        tap.ok(grown <= 64, f"1 GiB {how}, refused: in at most 64 KiB", f"{grown} KiB")
    # A client that does not press on has its answer.
    over = CAP + 1
    statuses = [
        await raw(nginx.port, f"POST /capped/2 HTTP/1.1\r\nHost: story\r\nContent-Length: {over}\r\n\r\n".encode()),
        await raw(nginx.port, f"POST /x HTTP/1.1\r\nHost: story\r\nTransfer-Encoding: chunked\r\n\r\n{over:x}\r\n".encode()
                  + b"x" * over + b"\r\n0\r\n\r\n"),
    ]
    tap.ok(statuses == [413, 413], "a byte too many: 413, by the length or by the count", statuses)

    # nginx's own bounds on what comes before the body: four buffers of 8 KiB, each line in one.
    count = backend.count
    line = lambda size: b"X-Large: " + b"x" * (size - 11) + b"\r\n"
    head = lambda *lines, path=b"/h": b"GET " + path + b" HTTP/1.1\r\nHost: story\r\n" + b"".join(lines) + b"\r\n"
    cases = {
        "a header of 8,000 bytes": (200, head(line(8_000))),
        "three of them": (200, head(*[line(8_000)] * 3)),
        "five hundred small ones": (200, head(*[b"X-%d: x\r\n" % number for number in range(500)])),
        "a path of 8,000 bytes": (200, head(path=b"/" + b"a" * 8_000)),
        "a header of 9,000 bytes": (431, head(line(9_000))),
        "six of 8,000 bytes": (431, head(*[line(8_000)] * 6)),
        "ten thousand small ones": (431, head(*[b"X-%d: x\r\n" % number for number in range(10_000)])),
        "a path of 9,000 bytes": (414, head(path=b"/" + b"a" * 9_000)),
    }
    got = {name: await raw(nginx.port, text) for name, (_, text) in cases.items()}
    wrong = {name: status for name, status in got.items() if status != cases[name][0]}
    tap.ok(not wrong, "large headers: passed on as long as nginx takes them, then 431 and 414", got)
    tap.ok(backend.count == count + 4, "what is refused reaches no backend", backend.count - count)

    # Clients that take their time, with their header and with their body.
    async def slow(text):
        began = time.monotonic()
        status = await raw(nginx.port, text, 10)
        return status, time.monotonic() - began

    count = backend.count
    slowly = await asyncio.gather(slow(b"GET /slow HTTP/1.1\r\nHost: st"),
                                  slow(b"POST /slow HTTP/1.1\r\nHost: story\r\nContent-Length: 1000\r\n\r\nxxx"))
    tap.ok(all(status in (408, 0) and seconds < 3 for status, seconds in slowly) and backend.count == count,
           "who stops sending is let go after nginx's timeouts", [f"{status}, {seconds:.1f} s" for status, seconds in slowly])

    # What a hundred of them at once take, each of a fresh nginx, beside a bare proxy_pass.
    text = head(line(8_000)).replace(b"GET", b"POST").replace(b"\r\n\r\n", f"\r\nContent-Length: {CAP}\r\n\r\n".encode())
    costs = {}
    for name, location in (("gateway", ""), ("bare", f"proxy_pass http://127.0.0.1:{backend.port};")):
        each = await Nginx(tap, document(backend, sink), workers=1, server=f"location /h {{ {location} }}" if location else "").start()
        (pid,) = each.worker_pids()
        await raw(each.port, head())
        base = each.memory()[pid]
        writers = []
        for _ in range(CLIENTS):
            _, writer = await asyncio.open_connection("127.0.0.1", each.port)
            writer.write(text + b"x" * (CAP // 2))
            writers.append(writer)
        await asyncio.sleep(0.5)
        body = each.memory()[pid] - base
        # The rest comes, and the backend takes its time.
        backend.delay, backend.in_flight = 1.0, 0
        for writer in writers:
            writer.write(b"x" * (CAP // 2))
        await until(lambda: backend.in_flight == CLIENTS, 5)
        costs[name] = (body / CLIENTS, (each.memory()[pid] - base) / CLIENTS, backend.in_flight)
        await asyncio.sleep(1.2)
        backend.delay = 0.0
        for writer in writers:
            writer.transport.abort()
        each.stop()
    tap.note({name: f"{body:.1f} KiB while the body comes, {all_:.1f} while the backend works" for name, (body, all_, _) in costs.items()})
    tap.ok(all(flight == CLIENTS for _, _, flight in costs.values()), "all of them were under way at once", costs)
    tap.ok(max(costs["gateway"][:2]) <= CAP / KIB + 64, f"each takes at most its {CAP // KIB} KiB and 64", costs["gateway"])
    more = max(costs["gateway"][index] - costs["bare"][index] for index in (0, 1))
    tap.ok(more <= 16, "and at most 16 KiB more than with a bare proxy_pass", f"{more:.1f} KiB")
    tap.ok(total(await nginx.metrics(), "gateway_active_connections") == 0, "nothing is in flight any more")
    tap.ok(not nginx.logged("alert", "emerg", "crit"), "no alert", *nginx.logged("alert", "emerg", "crit")[:5])


story.main(tell, limit=200)
