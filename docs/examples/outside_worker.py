"""A worker of your own for Postrider: counts the words of texts, for jobs of the kind `wordcount`.

    pip install confluent-kafka
    KAFKA=127.0.0.1:9092 python outside_worker.py

At least once: a job counts as read only when Kafka has its result. A worker that dies leaves its job to another, which begins
it again; of two results of one job Postrider takes the first. Start as many of these as you like.
"""
import json
import os
import signal

from confluent_kafka import Consumer, Producer

KAFKA = os.environ.get("KAFKA", "127.0.0.1:9092")
PREFIX = os.environ.get("PREFIX", "postrider.")
KIND = "wordcount"


def work(job_input, progress):
    """Does one job; returns its result. Whatever it raises is the job's failure."""
    lines = job_input["text"].splitlines()
    words = 0
    for number, line in enumerate(lines, 1):
        words += len(line.split())
        progress(number / len(lines))
    return {"lines": len(lines), "words": words}


consumer = Consumer({
    "bootstrap.servers": KAFKA, "group.id": f"{KIND}-workers", "auto.offset.reset": "earliest", "enable.auto.commit": False,
    "session.timeout.ms": 6000, "max.poll.interval.ms": 3_600_000,  # how long one job may take
})
producer = Producer({"bootstrap.servers": KAFKA, "acks": "all", "enable.idempotence": True})


def say(job_id, status, **more):
    """Returns once Kafka has it; ends the worker otherwise."""
    lost = []
    value = json.dumps({"job_id": job_id, "status": status, **more})
    producer.produce(f"{PREFIX}job-results", value, key=job_id, on_delivery=lambda error, _: error and lost.append(error))
    if producer.flush(30) or lost:
        raise SystemExit(f"Kafka did not take a result: {lost}")


signal.signal(signal.SIGTERM, lambda *_: exit())
consumer.subscribe([f"{PREFIX}jobs.{KIND}"])
while True:
    record = consumer.poll(1.0)
    if record is None or record.error():
        continue
    job_id = record.key().decode()
    try:
        result = work(json.loads(record.value()), lambda share: say(job_id, "processing", progress=share))
        say(job_id, "completed", result=result)
    except Exception as error:
        say(job_id, "failed", error={"code": "bad_input", "message": repr(error)[:1000]})
    consumer.commit(record, asynchronous=False)
