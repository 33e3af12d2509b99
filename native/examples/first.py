"""A producer and a consumer in Python. Needs: pip install ./native/bindings/python"""
import fastq

with fastq.connect() as c:
    c.declare_queue("work", max_deliveries=5)
    c.publish_many("work", [f"hello {i}".encode() for i in range(3)])  # Back when all three are on the disk.
    with c.subscribe("work", credit=10) as s:
        seen = 0
        while seen < 3:
            for m in s.receive_many(10):
                print(bytes(m.body).decode())
                m.accept(confirm="none")
                seen += 1
    c.flush("durable")  # The settlements, too.
