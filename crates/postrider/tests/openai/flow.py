"""OpenAI's own client against the real program: files, batches and webhooks, as its users write it.

Run by the test `batch::openais_own_client_runs_the_whole_flow`. Usage: flow.py URL KEY JOBS_MD
"""

import contextlib
import io
import json
import queue
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

URL, KEY, GUIDE = sys.argv[1:]
PATIENCE = 60
SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is delivered for the script to look at."""

    got = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Receiver.got.put((body, dict(self.headers)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def until(what, look):
    """Waits until `look` finds something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


def refused(kind, call):
    """The error that `call` raises, which is of this kind."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


def line(number, prompt="hello"):
    body = {"model": "m-1", "messages": [{"role": "user", "content": f"{prompt} {number}"}]}
    return {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def jsonl(lines):
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def the_guide_is_right(lines):
    """Runs the program that the guide shows, as it stands there but for the address and the key."""
    with open(GUIDE, encoding="utf-8") as guide:
        program = next(block for block in guide.read().split("```python\n") if block.startswith("import time\n")).split("```")[0]
    program = program.replace("http://127.0.0.1:8080", URL).replace('api_key="secret"', f"api_key={KEY!r}")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as shown:
        with open("requests.jsonl", "wb") as requests:
            requests.write(jsonl(lines))
        exec(program, {})
    answers = [json.loads(text) for text in shown.getvalue().splitlines() if text]
    assert {answer["custom_id"] for answer in answers} == {line["custom_id"] for line in lines}, answers


def main():
    the_guide_is_right([line(1), line(2)])
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook = {"url": f"http://127.0.0.1:{server.server_port}/hook", "events": ["batch.*"], "secret": SECRET}
    client.post("/webhooks", body=hook, cast_to=object)

    # A file, as the guide uploads it.
    lines = [line(number) for number in range(20)] + [line(99, "refuse")]
    uploaded = client.files.create(file=("requests.jsonl", io.BytesIO(jsonl(lines))), purpose="batch")
    assert uploaded.object == "file" and uploaded.filename == "requests.jsonl" and uploaded.purpose == "batch", uploaded
    assert uploaded.bytes == len(jsonl(lines)) and uploaded.status == "processed", uploaded
    assert client.files.retrieve(uploaded.id).to_dict() == uploaded.to_dict()
    assert client.files.content(uploaded.id).read() == jsonl(lines)

    # A batch, followed to its end.
    window = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = client.batches.create(input_file_id=uploaded.id, metadata={"description": "nightly"}, **window)
    assert batch.object == "batch" and batch.id.startswith("batch_") and batch.status == "validating", batch
    assert batch.metadata == {"description": "nightly"} and batch.input_file_id == uploaded.id, batch

    def ended(batch_id):
        found = client.batches.retrieve(batch_id)
        return found if found.status in ("completed", "failed", "expired", "cancelled") else None

    done = until("the batch ends", lambda: ended(batch.id))
    assert done.status == "completed" and done.completed_at >= done.created_at and done.errors is None, done
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (21, 20, 1), counts
    answers = [json.loads(text) for text in client.files.content(done.output_file_id).text.splitlines()]
    assert sorted(answer["custom_id"] for answer in answers) == sorted(f"request-{number}" for number in range(20))
    for answer in answers:
        assert answer["error"] is None and answer["response"]["status_code"] == 200, answer
        said = answer["response"]["body"]["choices"][0]["message"]["content"]
        assert said == "echo of hello " + answer["custom_id"].removeprefix("request-"), answer
    errors = [json.loads(text) for text in client.files.content(done.error_file_id).text.splitlines()]
    assert [error["custom_id"] for error in errors] == ["request-99"], errors
    assert errors[0]["response"]["status_code"] == 400 and "error" in errors[0]["response"]["body"], errors
    output = client.files.retrieve(done.output_file_id)
    assert output.purpose == "batch_output" and output.filename.endswith("_output.jsonl"), output

    # What is delivered is verified by the client itself.
    told = set()
    while ("batch.completed", batch.id) not in told:
        body, headers = Receiver.got.get(timeout=PATIENCE)
        event = client.webhooks.unwrap(body, headers, secret=SECRET)
        told.add((event.type, event.data.id))
        refused(openai.InvalidWebhookSignatureError, lambda: client.webhooks.unwrap(body + b" ", headers, secret=SECRET))
    data = json.loads(body)["data"]
    assert (data["total_requests"], data["completed"], data["failed"]) == (21, 20, 1), data
    assert data["output_file_id"] == done.output_file_id and data["error_file_id"] == done.error_file_id, data

    # A file that is wrong fails the batch, with the lines that are.
    wrong = client.files.create(file=("wrong.jsonl", jsonl([line(1), line(1)]) + b"{\n"), purpose="batch")
    refusable = client.batches.create(input_file_id=wrong.id, **window)
    failed = until("the wrong one ends", lambda: ended(refusable.id))
    assert failed.status == "failed" and failed.output_file_id is None, failed
    found = [(error.line, error.code) for error in failed.errors.data]
    assert found == [(2, "duplicate_custom_id"), (3, "invalid_json_line")], found

    # One that is cancelled keeps what it was answered.
    slow = client.files.create(file=("slow.jsonl", jsonl([line(1)] + [line(number, "slow") for number in range(2, 30)])), purpose="batch")
    running = client.batches.create(input_file_id=slow.id, **window)
    until("one answer", lambda: client.batches.retrieve(running.id).request_counts.completed >= 1)
    assert client.batches.cancel(running.id).status in ("cancelling", "cancelled")
    cancelled = until("it is cancelled", lambda: ended(running.id))
    assert cancelled.status == "cancelled" and cancelled.cancelled_at is not None, cancelled
    kept = [json.loads(text)["custom_id"] for text in client.files.content(cancelled.output_file_id).text.splitlines()]
    assert "request-1" in kept and len(kept) == cancelled.request_counts.completed < 29, kept

    # Lists go page by page; what is not there, or not right, raises what users catch.
    batches = [found.id for found in client.batches.list(limit=1)]
    assert batches[:3] == [running.id, refusable.id, batch.id], batches
    files = [found.id for found in client.files.list(purpose="batch", limit=2, order="asc")]
    assert files[-3:] == [uploaded.id, wrong.id, slow.id], files
    assert client.files.delete(wrong.id).deleted
    missing = refused(openai.NotFoundError, lambda: client.files.retrieve(wrong.id))
    assert missing.code == "not-found" and "there is no file" in missing.message, missing
    refused(openai.NotFoundError, lambda: client.batches.retrieve("batch_x"))
    gone = refused(openai.BadRequestError, lambda: client.batches.create(input_file_id=wrong.id, **window))
    assert gone.param == "input_file_id" and gone.type == "invalid_request_error", gone
    refused(openai.BadRequestError, lambda: client.files.create(file=b"x", purpose="dance"))
    refused(openai.ConflictError, lambda: client.with_options(max_retries=0).batches.cancel(batch.id))
    refused(openai.AuthenticationError, lambda: client.with_options(api_key="wrong").files.list())
    print("everything is as OpenAI's client expects it")


main()
