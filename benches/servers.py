"""The nginx processes that benches/e2e and benches/costs measure, one with one worker for each:

    bare    proxy_pass with keepalive, the module not loaded
    idle    the same with the module loaded and a policy, in a location where the gateway is off
    route   one of 1,000 routes, and the gateway's adaptive balancer
    full    one of 1,000 routes, HS256, permission, limit, breaker, adaptive pick, metrics
    again   a second bare one

Same backends, same requests (the token is sent to all of them), three nodes.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "bench"
ROUTES = 1000
SECRET = "bench-secret-of-at-least-thirty-two-bytes"


class Server:
    """An nginx of ours in the foreground, with one worker."""

    def __init__(self, name, configuration, core, args, log="warn"):
        self.name, self.folder = name, WORK / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        port, text, policy = configuration
        self.port = port
        module = None if name in ("bare", "again", "backend") else args.module
        (self.folder / "nginx.conf").write_text(common(text, module, log))
        if policy:
            (self.folder / "gateway.yaml").write_text(policy)
        command = [args.nginx, "-e", f"{self.folder}/error.log", "-p", f"{self.folder}/", "-c", f"{self.folder}/nginx.conf"]
        self.process = subprocess.Popen(pinned(command, core), env={**os.environ, "BENCH_SECRET": SECRET})
        self.worker = self.wait_for_worker()

    def wait_for_worker(self):
        for _ in range(200):
            if self.process.poll() is not None:
                sys.exit(f"bench: {self.name} does not start\n{self.log()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self.find_worker()
            except (OSError, LookupError):
                time.sleep(0.05)
        sys.exit(f"bench: {self.name} does not answer\n{self.log()}")

    def find_worker(self):
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
                title = (stat.parent / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == self.process.pid and b"worker process" in title:
                return int(stat.parent.name)
        raise LookupError(self.name)

    def check(self, token):
        """Nothing is measured before it is known to be right."""
        for number in (0, 1, ROUTES // 2, ROUTES - 1):
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port}/svc{number}/items/1", headers={"Authorization": f"Bearer {token}"}
            )
            try:
                body = urllib.request.urlopen(request, timeout=5).read()
            except OSError as error:
                sys.exit(f"bench: {self.name}: {error}\n{self.log()}")
            if body != b"ok\n":
                sys.exit(f"bench: {self.name}: unexpected answer {body[:80]!r}")
        if self.name == "full":
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/svc0/items/1", timeout=5)
                sys.exit("bench: full: an answer without a token")
            except urllib.error.HTTPError as error:
                if error.code != 401:
                    sys.exit(f"bench: full: {error.code} without a token, not 401")

    def log(self):
        try:
            return "\n".join((self.folder / "error.log").read_text().splitlines()[-10:])
        except OSError:
            return ""

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


def common(text, module, log):
    user = "user root;" if os.geteuid() == 0 else ""
    module = f"load_module {module};" if module else ""
    temp = "\n".join(f"    {kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""{module}
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log {log};
env BENCH_SECRET;
events {{ worker_connections 1024; }}
http {{
{temp}
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
{text}
}}
"""


def backend(nodes):
    listens = "\n".join(f"        listen 127.0.0.1:{port};" for port in nodes)
    return nodes[0], f"    server {{\n{listens}\n        location / {{ return 200 \"ok\\n\"; }}\n    }}", None


def front(name, nodes):
    (port,) = free_ports(1)
    servers = "\n".join(f"        server 127.0.0.1:{node};" for node in nodes)
    stock = f"    upstream stock {{\n{servers}\n        keepalive 64;\n        keepalive_requests 100000000;\n    }}"
    bare = 'proxy_pass http://stock; proxy_http_version 1.1; proxy_set_header Connection "";'
    gateway = "    gateway_zone bench 64m;\n    gateway_config gateway.yaml;"
    ours = "    upstream gateway { gateway_balancer; keepalive 64; keepalive_requests 100000000; }"

    if name in ("bare", "again"):
        body, location, text = stock, bare, None
    elif name == "idle":
        body, location, text = f"{gateway}\n{stock}", bare, policy(nodes, full=False)
    else:
        body, location, text = f"{gateway}\n{ours}", "gateway_pass gateway;", policy(nodes, full=name == "full")
    return port, f"{body}\n    server {{\n        listen 127.0.0.1:{port};\n        location / {{ {location} }}\n    }}", text


def policy(nodes, full):
    upstream = {"name": "u", "nodes": [{"host": "127.0.0.1", "port": port} for port in nodes]}
    document = {"version": 1, "upstreams": [upstream]}
    route = {"upstream": "u"}
    if full:
        upstream["algorithm"] = "adaptive"
        upstream["breaker"] = {"failures": 10, "window": "10s", "open_for": "30s", "probes": 5}
        keys = [{"alg": "HS256", "secret": "$env://BENCH_SECRET"}]
        document["auth"] = [{"name": "jwt", "jwt": {"issuer": "bench", "audience": "bench", "keys": keys,
                             "claims": {"consumer": "sub", "permissions": "permissions"}}}]
        document["limiters"] = [{"name": "per-user", "key": ["consumer"], "rate": "1000000/s", "burst": 1000000}]
        route |= {"methods": ["GET"], "auth": ["jwt"], "permissions": {"any": ["items:read"]}, "limits": ["per-user"]}
    document["routes"] = [
        {"name": f"r{number}", "paths": [f"/svc{number}/items/{{id}}"], **route} for number in range(ROUTES)
    ]
    # JSON is YAML.
    return json.dumps(document, indent=1)


def token():
    """One that `full` lets in."""
    return jwt({"iss": "bench", "aud": "bench", "sub": "ada", "exp": int(time.time()) + 86400, "permissions": ["items:read"]})


def jwt(claims):
    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    text = encode(b'{"alg":"HS256","typ":"JWT"}') + b"." + encode(json.dumps(claims).encode())
    return (text + b"." + encode(hmac.new(SECRET.encode(), text, hashlib.sha256).digest())).decode()


def pinned(command, core):
    """The worker under test alone on one core; the load and the backend on another, where there are two."""
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) >= 2 and shutil.which("taskset") else command


def arguments(description):
    """What all who measure may be told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", type=os.path.abspath, default=str(ROOT / "target" / "ngx_http_gateway_module.so"))
    parser.add_argument("--nginx", default=os.environ.get("NGINX", "/usr/sbin/nginx"))
    return parser


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def machine():
    names = re.findall(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return f"{names[0] if names else os.uname().machine}, {os.cpu_count()} cores"


def nginx_version(nginx):
    said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True)
    return (said.stdout + said.stderr).strip().rsplit("/", 1)[-1]
