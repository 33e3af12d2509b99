"""A producer in Python. Needs: pip install ./native/bindings/python"""
import fastq

with fastq.connect() as c:
    c.declare_queue("work", max_deliveries=5)
    c.publish_many("work", [f"hello {i}".encode() for i in range(3)])  # Back when all three are on the disk.
