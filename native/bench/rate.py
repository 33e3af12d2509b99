"""How fast the Python binding is, in batches: rate.py SOCKET LEVEL COUNT. A producer and a consumer process, every message checked."""
import json
import multiprocessing
import sys
import time

import fastq

BYTES, BATCH = 100, 1000


def consume(socket, level, count):
    with fastq.connect(socket, client_name="rate consumer") as c:
        s, expected = c.subscribe("rate", credit=10000), 0
        while expected < count:
            messages = s.receive_many(BATCH, timeout=60)
            for m in messages:
                body = m.body
                if len(body) != BYTES or int(bytes(body[:12])) != expected:
                    sys.exit(f"message {expected} is not what was sent")
                expected += 1
            s.accept_many(messages, confirm="none")
        c.flush(level)


def main():
    socket, level, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with fastq.connect(socket) as c:
        c.declare_queue("rate")
        other = multiprocessing.get_context("fork").Process(target=consume, args=(socket, level, count))
        began = time.monotonic()
        other.start()
        c.publish_many("rate", (b"%012d" % i + b"." * (BYTES - 12) for i in range(count)), confirm=level)
        other.join()
        took = time.monotonic() - began
        c.delete_queue("rate")
    print(json.dumps({"client": "python", "scenario": "throughput", "level": level, "bytes": BYTES, "count": count, "rate": round(count / took)}))
    sys.exit(other.exitcode)


if __name__ == "__main__":
    main()
