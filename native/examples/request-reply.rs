// A request and its reply in Rust; the responder is a connection of its own, as it would be in another program.
mod fastq;
use fastq::*;
use std::ptr::{null, null_mut};

/// Takes one request and answers it; the request is accepted in the same step.
unsafe fn respond(c: u64, s: u64) {
    let (mut request, mut came): (Message, usize) = (std::mem::zeroed(), 0);
    while came == 0 {
        must(fastq_receive(c, s, &mut request, 1, -1, &mut came));
    }
    let answer = format!("hello, {}", words_at(request.body, request.body_bytes));
    must(fastq_reply_to(c, s, &request, answer.as_ptr().cast(), answer.len(), null(), 0, 0, LAST, ACCEPTED, null_mut()));
    must(fastq_flush(c, ACCEPTED, -1));
}

fn main() {
    let (greetings, body) = (text("greetings"), "world");
    let (mut requester, mut responder, mut s, mut queue, mut number) = (0u64, 0u64, 0u64, 0u32, 0u64);
    unsafe {
        must(fastq_open(ABI, null(), null(), &mut responder));
        must(fastq_declare_queue(responder, greetings.as_ptr(), null(), null_mut()));
        must(fastq_subscribe(responder, greetings.as_ptr(), null(), &mut s));
        must(fastq_open(ABI, null(), null(), &mut requester));
        must(fastq_open_queue(requester, greetings.as_ptr(), &mut queue));
        must(fastq_request(requester, queue, body.as_ptr().cast(), body.len(), null(), 0, 5000, 0, &mut number)); // It returns at once: many may be under way.
        respond(responder, s);
        let mut reply: Reply = std::mem::zeroed();
        must(fastq_receive_reply(requester, number, -1, &mut reply));
        println!("{}", words_at(reply.body, reply.body_bytes));
        must(fastq_close(requester));
        must(fastq_close(responder));
    }
}
