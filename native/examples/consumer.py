"""A consumer in Python: it prints three messages. Needs: pip install ./native/bindings/python"""
import fastq

with fastq.connect() as c, c.subscribe("work", credit=10) as s:
    seen = 0
    while seen < 3:
        for m in s.receive_many(10):
            print(bytes(m.body).decode())
            m.accept(confirm="none")
            seen += 1
    c.flush("durable")  # The settlements, too.
