#!/usr/bin/env python3
"""The cases of paths and headers, sent raw to a running nginx with a backend that takes more than it should."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from urllib.parse import unquote_to_bytes

import story
from story import ROOT, Nginx, free_port, until

SECRET = "a secret of more than thirty-two bytes for HS256"
CASES = ROOT / "tests/data/own"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token():
    claims = {"iss": "i", "aud": "a", "sub": "someone", "exp": int(time.time()) + 600}
    text = encode(b'{"alg":"HS256","kid":"k"}') + b"." + encode(json.dumps(claims).encode())
    return (text + b"." + encode(hmac.new(SECRET.encode(), text, hashlib.sha256).digest())).decode()


class Recorder:
    """A backend that keeps what it is sent, byte by byte, and answers whatever looks like a request."""

    def __init__(self, tap, name):
        self.name, self.port, self.heads = name, free_port(), []
        tap.ends.append(lambda: self.server.close())

    @property
    def node(self):
        return {"host": "127.0.0.1", "port": self.port}

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        return self

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                if found := re.search(rb"\r\ncontent-length: *(\d+)", head, re.I):
                    await reader.readexactly(int(found[1]))
                elif re.search(rb"\r\ntransfer-encoding: *chunked", head, re.I):
                    await reader.readuntil(b"0\r\n\r\n")
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.name)}\r\n\r\n{self.name}".encode())
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, ConnectionError):
            pass  # the gateway closed the connection, or the story is over
        finally:
            writer.close()

    def take(self):
        heads, self.heads = self.heads, []
        return heads


async def ask(port, request):
    """The status of the first answer to `request`, which is sent as it is; 0 = none came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 8)
    except (asyncio.TimeoutError, ConnectionError):
        answer = b""
    finally:
        writer.close()
    found = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return int(found[1]) if found else 0


# --- paths ------------------------------------------------------------------------------------------------------------


def resolved(target, decodes):
    """The segments that a lenient backend makes of `target`."""
    path = target.split(b"?")[0].split(b"#")[0]
    for _ in range(decodes):
        path = unquote_to_bytes(path)
    segments = []
    for segment in path.replace(b"\\", b"/").split(b"/"):
        segment = segment.split(b";")[0]
        if segment == b"..":
            segments = segments[:-1]
        elif segment not in (b"", b"."):
            segments.append(segment)
    return segments


def leaks(target):
    for decodes in range(3):
        segments = resolved(target, decodes)
        if segments[:1] == [b"admin"] or len(segments) == 3 and segments[0] == b"users" and segments[2] == b"orders":
            return True
    return False


def path_document(file, backends, policy):
    routes = []
    for route in file["meta"]["routes"]:
        path = route.get("exact") or route.get("pattern") or (route["prefix"].rstrip("/") + "/*")
        fields = {"name": route["to"], "paths": [path], "upstream": route["to"], "path_policy": policy}
        if route.get("auth"):
            fields["auth"] = ["staff"]
        if route.get("strip_prefix"):
            fields["strip_prefix"] = True
        routes.append(fields)
    return {
        "version": 1,
        "auth": [{"name": "staff", "jwt": {"issuer": "i", "audience": "a", "keys": [{"kid": "k", "alg": "HS256", "secret": SECRET}]}}],
        "upstreams": [{"name": name, "nodes": [backend.node]} for name, backend in backends.items()],
        "routes": routes,
    }


async def paths(tap):
    file = json.loads((CASES / "path_cases.json").read_text())
    backends = {route["to"]: await Recorder(tap, route["to"]).start() for route in file["meta"]["routes"]}
    for policy, profiles in (("normal", ["core"]), ("strict", ["core", "strict"])):
        nginx = await Nginx(tap, path_document(file, backends, policy)).start()
        wrong, count = [], 0
        for case in file["cases"]:
            if case["profile"] not in profiles:
                continue
            count += 1
            made = case.get("gen")
            target = made["prefix"] + made["unit"] * made["count"] + made["suffix"] if made else case["target"]
            raw = target.encode("latin-1") if all(ord(char) < 256 for char in target) else target.encode()
            status = await ask(nginx.port, b"GET " + raw + b" HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n\r\n")
            reached = [(name, head) for name, backend in backends.items() for head in backend.take()]
            sent = [head.split(b"\r\n")[0].split(b" ")[1] for _, head in reached]
            leaked = any(leaks(target) for target in sent)
            names = [name for name, _ in reached]
            expect = case["expect"]
            good = {
                "deny": lambda: not leaked and (bool(reached) or status in (400, 401, 403, 404, 414)),
                "deny400": lambda: not reached and (400 <= status < 500 or status == 0),
                "route:public_or_deny": lambda: not leaked and names in ([], ["public"]),
            }.get(expect)
            # A route that asks for credentials is reached with 401.
            if good is None:
                name = expect.removeprefix("route:")
                good = lambda: not leaked and (names == [name] or name == "users" and status == 401 and not names)
            if not good():
                wrong.append(f"{case['id']} {target[:60]!r} expects {expect}: {status} {names} {sent}")
        tap.ok(count >= 70 and not wrong, f"{count} paths, policy {policy}", *wrong)
        nginx.stop()


# --- headers ----------------------------------------------------------------------------------------------------------


def header_document(backend, other):
    auth = {
        "name": "staff",
        "jwt": {
            "issuer": "i", "audience": "a", "keys": [{"kid": "k", "alg": "HS256", "secret": SECRET}],
            "claims": {"headers": {"X-User-Id": "sub", "X-Jwt-Claims": "sub"}},
        },
    }
    return {
        "version": 1,
        "auth": [auth],
        "upstreams": [{"name": "gw", "nodes": [backend.node]}, {"name": "other", "nodes": [other.node]}],
        "routes": [
            {"name": "admin", "hosts": ["gw.example"], "paths": ["/admin/*"], "upstream": "gw", "auth": ["staff"]},
            {"name": "open", "hosts": ["gw.example"], "paths": ["/*"], "upstream": "gw", "headers": {"X-Gateway-Time": "ours"}},
            {"name": "other", "paths": ["/*"], "upstream": "other"},
        ],
    }


def lines(head):
    """Name, lower case and with dashes alone, and value of each line."""
    pairs = (line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    return [(name.strip().lower().replace(b"_", b"-"), value.strip()) for name, value in pairs]


async def headers(tap):
    file = json.loads((CASES / "header_cases.json").read_text())
    backend, other = await Recorder(tap, "gw").start(), await Recorder(tap, "other").start()
    nginx = await Nginx(tap, header_document(backend, other)).start()
    valid = token()
    wrong = []

    async def send(case, path, more=()):
        method, body = case.get("method", "GET"), case.get("body", "").encode()
        given = [(name, value.replace("VALID", valid)) for name, value in case["headers"]]
        names = {name.lower() for name, _ in given}
        head = [f"{method} {path} HTTP/1.1"] + [f"{name}: {value}" for name, value in [*given, *more]]
        head += [] if "host" in names else ["Host: gw.example"]
        head += [] if "connection" in names else ["Connection: close"]
        status = await ask(nginx.port, "\r\n".join(head).encode() + b"\r\n\r\n" + body)
        return status, backend.take(), other.take()

    for case in file["cases"]:
        expect = case["expect"]
        bearer = [("Authorization", f"Bearer {valid}")]
        asks = expect in ("200", "401_or_400", "ignored_for_routing")
        path = "/admin/x" if asks or case["name"] == "Connection: Authorization" else "/open"
        more = bearer if case["name"] == "Connection: Authorization" else []
        status, heads, elsewhere = await send(case, path, more)
        seen = dict(lines(heads[0])) if heads else {}
        refused = status in (400, 401, 403, 405, 411, 501) and not heads
        named = {name.strip().lower().replace("_", "-").encode() for name, _ in case["headers"]}
        if expect == "client_ip_is_peer":
            good = status == 200 and seen[b"x-real-ip"] == b"127.0.0.1" and seen[b"x-forwarded-for"] == b"127.0.0.1"
        elif expect == "not_forwarded_or_400":
            good = refused or status == 200 and not any((name, b"admin") in lines(heads[0]) for name in named)
        elif expect == "gateway_header_survives":
            name = case["name"].split(": ")[1].lower().encode()
            good = status == 200 and (name in seen or name == b"authorization")
        elif expect == "401_or_400":
            good = status in (400, 401) and not heads
        elif expect == "200":
            good = status == 200
        elif expect == "host_canonical_or_400":
            hosts = [dict(lines(head))[b"host"].split(b":")[0].lower() for head in heads]
            away = [dict(lines(head))[b"host"].split(b":")[0].lower() for head in elsewhere]
            good = refused or all(host == b"gw.example" for host in hosts) and b"gw.example" not in away and hosts + away != []
        elif expect == "ignored_for_routing":
            good = status == 401 and not heads
        elif expect == "no_second_request_upstream":
            good = len(heads) <= 1 and not any(b"/admin" in head.split(b"\r\n")[0] for head in heads)
        elif expect in ("400_or_one_valid_json_line", "400_or_served"):
            good = status in (200, 400, 431, 414, 494)
        elif expect == "no_new_series":
            good = status in (200, 400, 405)
        else:
            good = False
        if not good:
            wrong.append(f"{case['id']} {case['cat']} {case['name']} expects {expect}: {status} {heads + elsewhere}"[:400])
    tap.ok(len(file["cases"]) >= 40 and not wrong, f"{len(file['cases'])} cases of headers", *wrong)

    known = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "other"}
    series = await nginx.metrics()
    methods = {value for labels in series.values() for pairs in labels for name, value in pairs if name == "method"}
    tap.ok(methods and methods <= known, "no method of a client's own has a series", f"{methods - known}")
    tap.ok(await until(lambda: not nginx.logged("alert", "crit", "emerg"), 1), "and nothing is wrong in the log")


async def tell(tap):
    await paths(tap)
    await headers(tap)


if __name__ == "__main__":
    story.main(tell)
