"""What the stories in this folder share: nginx with the module, backends, clients that record every outcome, TAP.

A story is one `asyncio` program: `story.main(tell)` gives it a `Tap` and ends all that it started, by pid. The
backends live in its own process, so it can slow them, make them fail, kill them and read their counts at any moment.
Python's own library alone.

    GATEWAY_MODULE       the module (target/ngx_http_gateway_module.so)
    TEST_NGINX_BINARY    nginx (/usr/sbin/nginx)
"""

import asyncio
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = os.environ.get("GATEWAY_MODULE", str(ROOT / "target/ngx_http_gateway_module.so"))
BINARY = os.environ.get("TEST_NGINX_BINARY") or ("/usr/sbin/nginx" if os.access("/usr/sbin/nginx", os.X_OK) else "nginx")


def main(tell, limit=120):
    """Runs the story `tell(tap)` and exits with prove's idea of success; `limit` seconds are the end of all patience."""

    async def run():
        tap = Tap()
        try:
            await asyncio.wait_for(tell(tap), limit)
        except Exception as error:  # a story that cannot go on has failed
            import traceback

            for line in traceback.format_exc().splitlines():
                print("#", line)
            tap.ok(False, f"the story ends as it should: {type(error).__name__}")
        finally:
            for end in reversed(tap.ends):
                end()
        return tap.finish()

    if not os.path.exists(MODULE):
        print(f"1..0 # SKIP {MODULE} is not built: make build")
        sys.exit(0)
    # Client, backends and their files are one process.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384) if hard > 0 else 16384, hard))
    sys.exit(asyncio.run(run()))


class Tap:
    """Test Anything Protocol, and what has to be ended."""

    def __init__(self):
        self.count, self.failed, self.ends, self.logs = 0, 0, [], []

    def ok(self, good, name, *notes):
        self.count += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.count} - {name}", flush=True)
        for note in notes:
            print(f"#   {note}", flush=True)
        if not good:
            for nginx in self.logs:
                for line in nginx.logged("error", "crit", "alert", "emerg")[-8:]:
                    print(f"#   log: {line}", flush=True)
        return good

    def note(self, text):
        print(f"# {text}", flush=True)

    def finish(self):
        print(f"1..{self.count}", flush=True)
        return 1 if self.failed or not self.count else 0


def free_port():
    """A port that nobody listens on, below the range from which the kernel gives ports to clients."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


async def until(check, seconds, every=0.02):
    """Waits until `check` (plain or async) says something true, and returns that; what it said last after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if asyncio.iscoroutine(value):
            value = await value
        if value or time.monotonic() > end:
            return value
        await asyncio.sleep(every)


# --- backends ---------------------------------------------------------------------------------------------------------


class Backend:
    """A backend that says in `X-Upstream` which upstream it belongs to and can be told to misbehave.

    `delay` is how many seconds it takes; `?ms=N` adds to it for one request, `?size=N` sets the answer's length.
    `status` is what it answers. `count` are whole requests, `in_flight` and `peak` what it has in hand.
    """

    def __init__(self, tap, name, port=None):
        self.name, self.port = name, port or free_port()
        self.delay, self.status = 0.0, 200
        self.count = self.in_flight = self.peak = self.bytes = 0
        self.server, self.connections = None, set()
        # A list takes the heads of requests.
        self.heads = None
        tap.ends.append(self.kill)

    @property
    def node(self):
        return {"host": "127.0.0.1", "port": self.port}

    async def start(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Served(self), "127.0.0.1", self.port, backlog=1024)
        return self

    def kill(self):
        """As the kernel does for a killed process: nobody listens any more, every connection ends at once."""
        if self.server:
            self.server.close()
            self.server = None
        for number, transport in enumerate(list(self.connections)):
            # What was not read makes a reset of a close; both kinds are met in the field.
            if number % 2:
                transport.abort()
            else:
                sock = transport.get_extra_info("socket")
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                transport.abort()


class Served(asyncio.Protocol):
    """One connection to a backend."""

    def __init__(self, backend):
        self.backend, self.data, self.busy, self.timer, self.served = backend, bytearray(), False, None, 0

    def connection_made(self, transport):
        self.transport = transport
        self.backend.connections.add(transport)

    def connection_lost(self, _):
        self.backend.connections.discard(self.transport)
        if self.timer:
            self.timer.cancel()
        self.over()

    def over(self):
        if self.busy:
            self.busy = False
            self.backend.in_flight -= 1

    def data_received(self, data):
        self.data += data
        if not self.busy:
            self.next()

    def next(self):
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.data[:end]).decode("latin-1")
        length = re.search(r"\r\ncontent-length: *(\d+)", head, re.I)
        length = int(length[1]) if length else 0
        if re.search(r"\r\ntransfer-encoding: *chunked", head, re.I):
            last = self.data.find(b"0\r\n\r\n", end + 4)
            if last < 0:
                return
            length, total = last - end - 4, last + 5
        else:
            total = end + 4 + length
        if len(self.data) < total:
            return
        del self.data[:total]
        backend = self.backend
        if backend.heads is not None:
            backend.heads.append(head)
        backend.count += 1
        backend.bytes += length
        backend.in_flight += 1
        backend.peak = max(backend.peak, backend.in_flight)
        self.busy = True
        method, target, _ = head.split("\r\n", 1)[0].split(" ", 2)
        wait = backend.delay
        if found := re.search(r"[?&]ms=(\d+)", target):
            wait += int(found[1]) / 1000
        size = re.search(r"[?&]size=(\d+)", target)
        answer = (method, length, int(size[1]) if size else None)
        if wait:
            self.timer = asyncio.get_running_loop().call_later(wait, self.answer, *answer)
        else:
            self.answer(*answer)

    def answer(self, method, length, size):
        backend = self.backend
        self.timer = None
        self.served += 1
        body = f"{backend.name} {method} {length}\n".encode() if size is None else b"x" * size
        self.over()
        if self.transport.is_closing():
            return
        self.transport.write(
            f"HTTP/1.1 {backend.status} Story\r\nContent-Length: {len(body)}\r\nX-Upstream: {backend.name}\r\n"
            f"X-Port: {backend.port}\r\n\r\n".encode() + body
        )
        if self.data:
            self.next()


# --- nginx ------------------------------------------------------------------------------------------------------------


class Nginx:
    """nginx with the module on a folder and ports of its own."""

    def __init__(self, tap, document, workers=2, server="", main="", zone="16m", http="", balancer="", connections=2048):
        self.folder = Path(tempfile.mkdtemp(prefix="gateway-story-"))
        # The workers are somebody else's.
        self.folder.chmod(0o755)
        (self.folder / "logs").mkdir()
        self.port, self.admin, self.h2 = free_port(), free_port(), free_port()
        self.workers = workers
        self.file = self.folder / "gateway.yaml"
        self.edit(document)
        self.conf = self.folder / "nginx.conf"
        self.conf.write_text(
            f"""
            load_module {MODULE};
            daemon off;
            pid {self.folder}/nginx.pid;
            error_log {self.folder}/logs/error.log info;
            worker_processes {workers};
            worker_shutdown_timeout 20s;
            {main}
            events {{ worker_connections {connections}; }}
            http {{
                access_log off;
                client_body_temp_path {self.folder}/body;
                proxy_temp_path {self.folder}/proxy;
                fastcgi_temp_path {self.folder}/fastcgi;
                uwsgi_temp_path {self.folder}/uwsgi;
                scgi_temp_path {self.folder}/scgi;
                keepalive_requests 100000;
                client_max_body_size 8m;
                gateway_zone main {zone};
                gateway_config {self.file};
                upstream gateway {{ gateway_balancer; keepalive 64; {balancer} }}
                {http}
                server {{
                    listen 127.0.0.1:{self.port} backlog=2048;
                    listen 127.0.0.1:{self.h2} http2;
                    add_header X-Worker $pid always;
                    {server}
                    location / {{ gateway_pass gateway; }}
                }}
                server {{
                    listen 127.0.0.1:{self.admin};
                    location = /metrics {{ gateway_metrics; }}
                }}
            }}
            """
        )
        self.process = None
        tap.ends.append(self.stop)
        tap.logs.append(self)

    async def start(self):
        self.process = subprocess.Popen(
            [BINARY, "-p", str(self.folder), "-c", str(self.conf), "-e", str(self.folder / "logs/error.log")],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if not await until(lambda: self.process.poll() is not None or self.is_up(), 10):
            raise RuntimeError("nginx is not up")
        if self.process.poll() is not None:
            raise RuntimeError(f"nginx: {self.process.stderr.read().decode()}")
        await until(lambda: len(self.worker_pids()) == self.workers and self.leader_pid(), 5)
        return self

    def is_up(self):
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        if self.process and self.process.poll() is None:
            children = self.children()
            # A stopped child would never see the signal.
            for pid in children:
                send(pid, signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                for pid in children:
                    send(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def edit(self, document):
        """Puts `document` in the place of the live one, by rename. JSON is YAML."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(document, indent=1))
        fresh.rename(self.file)

    def log(self):
        try:
            return (self.folder / "logs/error.log").read_text(errors="replace")
        except OSError:
            return ""

    def logged(self, *levels):
        """Lines of these levels."""
        marks = [f"[{level}]" for level in levels]
        return [line for line in self.log().splitlines() if any(mark in line for mark in marks)]

    def children(self):
        """{pid: title} of the master's children."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z":
                    found[int(stat.parent.name)] = (stat.parent / "cmdline").read_bytes().decode("latin-1")
            except OSError:
                pass
        return found

    def worker_pids(self):
        """Workers that take new connections."""
        return sorted(
            pid for pid, title in self.children().items() if "worker process" in title and "shutting" not in title
        )

    def old_pids(self):
        return sorted(pid for pid, title in self.children().items() if "shutting down" in title)

    def leader_pid(self):
        """The cache manager, which leads."""
        return next((pid for pid, title in self.children().items() if "cache manager" in title), None)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def rss(self):
        """The master's, kilobytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1])

    def files(self):
        """How many descriptors each worker has."""
        counts = {}
        for pid in self.worker_pids():
            try:
                counts[pid] = len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                pass
        return counts

    def memory(self):
        """{pid: kilobytes that each worker has for itself}; pages of the zone and of files are not in it."""
        found = {}
        for pid in self.worker_pids():
            text = Path(f"/proc/{pid}/status").read_text()
            found[pid] = int(re.search(r"RssAnon:\s+(\d+)", text)[1])
        return found

    async def metrics(self):
        """{name: {labels (a sorted tuple of pairs): value}}"""
        async with Client(self.admin) as client:
            answer = await client.get("/metrics")
        assert answer.status == 200, answer
        found = {}
        for line in answer.body.decode().splitlines():
            if line and not line.startswith("#"):
                name, labels, value = re.match(r'(\w+)(?:\{(.*)\})? (\S+)$', line).groups()
                labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels or "")))
                found.setdefault(name, {})[labels] = float(value)
        return found

    async def breaker(self, upstream, wanted, seconds=2):
        """Waits until the breaker of `upstream` is "closed", "open" or "half-open", and returns how it stands.

        A worker reports a request when the answer is on its way already: who asks at once on another connection may be
        a moment too early.
        """
        names, now = ("closed", "open", "half-open"), None

        async def there():
            nonlocal now
            now = names[int(total(await self.metrics(), "gateway_circuit_breaker_state", upstream=upstream))]
            return now == wanted

        await until(there, seconds)
        return now

    async def one_client_each(self, port=None):
        """{pid: client}: a kept connection to every worker. Who accepts is the kernel's choice, so it is asked often."""
        wanted, clients = set(self.worker_pids()), {}
        end = time.monotonic() + 10
        while set(clients) < wanted and time.monotonic() < end:
            fresh = [Client(port or self.port) for _ in range(16)]
            answers = await asyncio.gather(*(client.get("/-") for client in fresh), return_exceptions=True)
            for client, answer in zip(fresh, answers):
                pid = answer.worker if isinstance(answer, Answer) else None
                if pid in wanted and pid not in clients:
                    clients[pid] = client
                else:
                    client.close()
        assert set(clients) >= wanted, f"no connection to each of {wanted}"
        return clients


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


# --- clients ----------------------------------------------------------------------------------------------------------


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def worker(self):
        return int(self.headers.get("x-worker", 0))

    @property
    def upstream(self):
        return self.headers.get("x-upstream")

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:200]!r}"


class Cut(Exception):
    """The connection ended with a request sent and no whole answer."""


class Client:
    """A kept connection.

    A server may close an idle connection at any moment, also while a request is under way to it; RFC 9112, 9.5 has the
    client try again on a new one. So a request that meets a clean end of a *used* connection before the first byte of
    an answer is sent once more, and `retried` counts it. Everything else is `Cut`.
    """

    def __init__(self, port, retry=True):
        self.port, self.retry, self.reader, self.writer = port, retry, None, None
        self.used, self.retried, self.worker = 0, 0, None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.close()

    async def get(self, path, **more):
        return await self.request("GET", path, **more)

    async def request(self, method, path, headers=(), body=b"", slowly=0.0):
        """`slowly`: the body takes so many seconds to send."""
        for last in (False, True):
            fresh = self.writer is None
            try:
                if fresh:
                    self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
                    self.used = 0
                return await self.once(method, path, headers, body, slowly)
            except Idle:
                self.close()
                if fresh or last or not self.retry:
                    raise Cut("closed before an answer") from None
                self.retried += 1
            except (OSError, asyncio.IncompleteReadError, Cut) as error:
                self.close()
                raise Cut(f"{type(error).__name__} {error}") from error
            except asyncio.CancelledError:
                self.close()
                raise

    async def once(self, method, path, headers, body, slowly):
        lines = [f"{method} {path} HTTP/1.1", "Host: story", *headers]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        try:
            if slowly and body:
                self.writer.write(head)
                pieces = 8
                step = -(-len(body) // pieces)
                for start in range(0, len(body), step):
                    await asyncio.sleep(slowly / pieces)
                    self.writer.write(body[start : start + step])
                    await self.writer.drain()
            else:
                self.writer.write(head + body)
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise (Cut("in the header") if error.partial else Idle()) from None
        except (ConnectionResetError, BrokenPipeError):
            raise Idle() from None
        status, *lines = head.decode("latin-1").rstrip().split("\r\n")
        status = int(status.split(" ")[1])
        found = {}
        for line in lines:
            name, value = line.split(":", 1)
            found[name.lower()] = value.strip()
        if found.get("transfer-encoding") == "chunked":
            content = b""
            while size := int(await self.reader.readline(), 16):
                content += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        else:
            content = await self.reader.readexactly(int(found.get("content-length", 0)))
        self.used += 1
        self.worker = int(found.get("x-worker", 0))
        if found.get("connection") == "close":
            self.close()
        return Answer(status, found, content)

    def close(self):
        if self.writer:
            self.writer.transport.abort()
        self.reader = self.writer = None


class Idle(Exception):
    """The connection ended without a byte."""


class Load:
    """`connections` clients that ask as fast as they are answered, until `stop`.

    `ask(client, number)` makes one request; by default a GET of `path`. Outcomes: `statuses`, `upstreams` (the
    `X-Upstream` of the 200s), `cuts` (worker that had the connection, error), `retried`.
    """

    def __init__(self, port, connections, path="/", pause=0.0, ask=None, note=None, retry=True):
        self.port, self.connections, self.path, self.pause, self.retry = port, connections, path, pause, retry
        self.ask, self.note = ask, note
        self.statuses, self.upstreams, self.ports, self.cuts = Counter(), Counter(), Counter(), []
        self.sent = self.retried = 0
        self.going = True
        self.tasks = []

    def start(self):
        self.tasks = [asyncio.create_task(self.run(number)) for number in range(self.connections)]
        return self

    async def run(self, number):
        client = Client(self.port, self.retry)
        while self.going:
            worker = client.worker if client.writer else None
            self.sent += 1
            began = time.monotonic()
            try:
                answer = await (self.ask(client, number) if self.ask else client.get(self.path))
                self.statuses[answer.status] += 1
                if answer.status == 200:
                    self.upstreams[answer.upstream] += 1
                    self.ports[int(answer.headers.get("x-port", 0))] += 1
                if self.note:
                    self.note(answer, began)
            except Cut as error:
                self.cuts.append((worker, str(error)))
            if self.pause:
                await asyncio.sleep(self.pause)
        self.retried += client.retried
        client.close()

    async def stop(self):
        self.going = False
        await asyncio.gather(*self.tasks)
        return self

    @property
    def bad(self):
        """What was not a 200."""
        return {status: count for status, count in self.statuses.items() if status != 200}

    def summary(self):
        return (
            f"{self.sent} requests: {dict(self.statuses)}, {len(self.cuts)} cut {self.cuts[:3]}, "
            f"{self.retried} sent again after an idle close"
        )


def total(metrics, name, **labels):
    """The sum of a family's series that have `labels`."""
    wanted = set(labels.items())
    return sum(value for key, value in metrics.get(name, {}).items() if wanted <= set(key))


def counters(metrics):
    """The series that must never fall."""
    names = [name for name in metrics if name.endswith(("_total", "_count", "_bucket"))]
    return {(name, labels): value for name in names for labels, value in metrics[name].items()}
