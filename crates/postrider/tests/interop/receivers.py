"""Has the published Standard Webhooks libraries for Python and Node verify what a real postrider sends.

Run by `cargo xtask interop`, which installs the libraries. Usage: receivers.py POSTRIDER VERIFY_MJS
Exits 0 only if every delivery was accepted by every library, and none of them accepted a body that was altered.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import urllib.request

import standardwebhooks
import svix.webhooks

KEY = "interop"
DEADLINE = 20
# A generated secret is None. The last one does not decode as base64, so its text is the key.
SECRETS = [None, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_my_secret_key", "plain-words-not-base64!"]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps every request and answers 204."""

    received = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.send_response(204)
        self.end_headers()
        Receiver.received.put((self.path, headers, body))

    def log_message(self, *_):
        pass


def call(url, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(url + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.loads(answer.read() or b"null")


def key_of(secret):
    """What a library is given: the text where it is base64, else its bytes, as the libraries only guess then."""
    try:
        base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        return secret
    except ValueError:
        return secret.encode()


def verify(name, secret, headers, body, node):
    """Every library accepts the delivery and refuses it with one byte changed."""
    text = body.decode()
    for library in (standardwebhooks, svix.webhooks):
        webhook = library.Webhook(key_of(secret))
        webhook.verify(text, headers)
        try:
            webhook.verify(text.replace("number", "numbex"), headers)
        except Exception:
            continue
        raise SystemExit(f"{library.__name__} accepted an altered body")
    message = json.dumps({"secret": secret, "raw": isinstance(key_of(secret), bytes), "headers": headers, "body": text})
    subprocess.run(["node", node], input=message, text=True, check=True, timeout=DEADLINE)
    plain = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if name == "newest" and not hmac.compare_digest(plain, headers["x-webhook-signature"]):
        raise SystemExit("X-Webhook-Signature does not match")


def main(postrider, node):
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{receiver.server_port}"
    with tempfile.TemporaryDirectory() as folder:
        command = [postrider, "dev", "--data", os.path.join(folder, "data"), "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "POSTRIDER_API_KEY": KEY})
        try:
            url = server.stdout.readline().split()[-1]
            verified = run(url, base, node)
        finally:
            server.terminate()
            server.wait(DEADLINE)
    print(f"{verified} deliveries verified by every library")


def run(url, base, node):
    verified = 0

    def delivered(path):
        got, headers, body = Receiver.received.get(timeout=DEADLINE)
        assert got == path, f"{got} instead of {path}"
        return headers, body

    for number, secret in enumerate(SECRETS):
        path = f"/{number}"
        endpoint = {"url": base + path, "events": [f"interop.n{number}"]}
        if secret is not None:
            endpoint["secret"] = secret
        made = call(url, "POST", "/v1/webhooks", endpoint)
        event = {"type": f"interop.n{number}", "data": {"number": number, "text": "grüße, 你好"}}
        call(url, "POST", "/v1/events", event)
        headers, body = delivered(path)
        verify("newest", made["secret"], headers, body, node)
        rotated = call(url, "POST", f"/v1/webhooks/{made['id']}/rotate-secret", {})
        call(url, "POST", "/v1/events", event)
        headers, body = delivered(path)
        verify("newest", rotated["secret"], headers, body, node)
        verify("older", made["secret"], headers, body, node)
        verified += 2
    call(url, "POST", "/v1/events", {"type": "interop.url", "data": {"number": 1}, "webhook_url": base + "/url"})
    headers, body = delivered("/url")
    verify("newest", call(url, "GET", "/v1/signing-secret")["secret"], headers, body, node)
    return verified + 1


if __name__ == "__main__":
    main(*sys.argv[1:])
