// A consumer in Rust: it prints three messages. Build: rustc -O consumer.rs -L LIB -l fastq
mod fastq;
use fastq::*;
use std::ptr::{null, null_mut};

fn main() {
    let (work, credit) = (text("work"), text("credit=10"));
    let (mut c, mut s, mut seen) = (0u64, 0u64, 0);
    unsafe {
        must(fastq_open(ABI, null(), null(), &mut c));
        must(fastq_subscribe(c, work.as_ptr(), credit.as_ptr(), &mut s));
        let mut messages: [Message; 10] = std::mem::zeroed();
        while seen < 3 {
            let mut came = 0;
            must(fastq_receive(c, s, messages.as_mut_ptr(), messages.len(), -1, &mut came));
            for message in &messages[..came] {
                println!("{}", words_at(message.body, message.body_bytes));
                must(fastq_settle(c, s, message, ACCEPT, NONE, 0, 0, null_mut()));
            }
            seen += came;
        }
        must(fastq_flush(c, DURABLE, -1)); // The settlements, too.
        must(fastq_close(c));
    }
}
