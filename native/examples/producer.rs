// A producer in Rust. Build: rustc -O producer.rs -L LIB -l fastq
mod fastq;
use fastq::*;
use std::ptr::{null, null_mut};

fn main() {
    let (work, attributes) = (text("work"), text("max-deliveries=5"));
    let (mut c, mut queue) = (0u64, 0u32);
    unsafe {
        must(fastq_open(ABI, null(), null(), &mut c));
        must(fastq_declare_queue(c, work.as_ptr(), attributes.as_ptr(), null_mut()));
        must(fastq_open_queue(c, work.as_ptr(), &mut queue));
        for i in 0..3 {
            let body = format!("hello {i}");
            must(fastq_publish(c, queue, body.as_ptr().cast(), body.len(), null(), 0, DURABLE, null_mut()));
        }
        must(fastq_flush(c, DURABLE, -1)); // All three are on the disk.
        must(fastq_close(c));
    }
}
