// A producer and a consumer in Rust, by plain extern "C". Build: rustc -O first.rs -L LIB -l fastq
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::ptr::{null, null_mut};

#[repr(C)]
#[derive(Clone, Copy)]
struct Message {
    number: u64,
    tag: u64,
    token: u64,
    time_us: i64,
    body: *const u8,
    properties: *const u8,
    body_bytes: u32,
    property_bytes: u16,
    delivery_count: u16,
    flags: u32,
    life: u32,
}

extern "C" {
    fn fastq_open(abi: u32, path: *const c_char, options: *const c_char, connection: *mut u64) -> c_int;
    fn fastq_close(connection: u64) -> c_int;
    fn fastq_declare_queue(connection: u64, name: *const c_char, attributes: *const c_char, json: *mut *const c_char) -> c_int;
    fn fastq_open_queue(connection: u64, name: *const c_char, queue: *mut u32) -> c_int;
    fn fastq_publish(connection: u64, queue: u32, body: *const c_void, bytes: usize, properties: *const c_void, property_bytes: usize, level: c_int, number: *mut u64) -> c_int;
    fn fastq_flush(connection: u64, level: c_int, wait_ns: i64) -> c_int;
    fn fastq_subscribe(connection: u64, queue: *const c_char, options: *const c_char, subscription: *mut u64) -> c_int;
    fn fastq_receive(connection: u64, subscription: u64, messages: *mut Message, most: usize, wait_ns: i64, count: *mut usize) -> c_int;
    fn fastq_settle(connection: u64, subscription: u64, message: *const Message, outcome: c_int, level: c_int, delay_ms: i64, flags: u32, number: *mut u64) -> c_int;
    fn fastq_last_error() -> *const c_char;
    fn fastq_code_name(code: c_int) -> *const c_char;
}

const ABI: u32 = 1;
const NONE: c_int = 0;
const DURABLE: c_int = 3;
const ACCEPT: c_int = 0;

/// What cannot be done is said, and ends the program.
fn must(code: c_int) {
    if code != 0 {
        let (name, words) = unsafe { (CStr::from_ptr(fastq_code_name(code)), CStr::from_ptr(fastq_last_error())) };
        panic!("{}: {}", name.to_string_lossy(), words.to_string_lossy());
    }
}

fn main() {
    let (work, attributes, credit) = (CString::new("work").unwrap(), CString::new("max-deliveries=5").unwrap(), CString::new("credit=10").unwrap());
    let (mut c, mut s, mut queue) = (0u64, 0u64, 0u32);
    unsafe {
        must(fastq_open(ABI, null(), null(), &mut c));
        must(fastq_declare_queue(c, work.as_ptr(), attributes.as_ptr(), null_mut()));
        must(fastq_open_queue(c, work.as_ptr(), &mut queue));
        for i in 0..3 {
            let body = format!("hello {i}");
            must(fastq_publish(c, queue, body.as_ptr().cast(), body.len(), null(), 0, DURABLE, null_mut()));
        }
        must(fastq_flush(c, DURABLE, -1)); // All three are on the disk.
        must(fastq_subscribe(c, work.as_ptr(), credit.as_ptr(), &mut s));
        let mut messages: [Message; 10] = std::mem::zeroed();
        let mut seen = 0;
        while seen < 3 {
            let mut came = 0;
            must(fastq_receive(c, s, messages.as_mut_ptr(), messages.len(), -1, &mut came));
            for message in &messages[..came] {
                let body = std::slice::from_raw_parts(message.body, message.body_bytes as usize); // Read where it lies.
                println!("{}", String::from_utf8_lossy(body));
                must(fastq_settle(c, s, message, ACCEPT, NONE, 0, 0, null_mut()));
            }
            seen += came;
        }
        must(fastq_flush(c, DURABLE, -1)); // The settlements, too.
        must(fastq_close(c));
    }
}
