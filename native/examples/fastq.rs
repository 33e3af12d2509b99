// What the examples in Rust want of fastq.h, by plain extern "C".
#![allow(dead_code)] // Each of them uses a part.
use std::ffi::{c_char, c_int, c_void, CStr, CString};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Message {
    pub number: u64,
    pub tag: u64,
    pub token: u64,
    pub time_us: i64,
    pub body: *const u8,
    pub properties: *const u8,
    pub body_bytes: u32,
    pub property_bytes: u16,
    pub delivery_count: u16,
    pub flags: u32,
    pub life: u32,
}

#[repr(C)]
pub struct Reply {
    pub body: *const u8,
    pub properties: *const u8,
    pub body_bytes: u32,
    pub property_bytes: u32,
    pub part: u32,
    pub flags: u32,
}

extern "C" {
    pub fn fastq_open(abi: u32, path: *const c_char, options: *const c_char, connection: *mut u64) -> c_int;
    pub fn fastq_close(connection: u64) -> c_int;
    pub fn fastq_declare_queue(connection: u64, name: *const c_char, attributes: *const c_char, json: *mut *const c_char) -> c_int;
    pub fn fastq_open_queue(connection: u64, name: *const c_char, queue: *mut u32) -> c_int;
    pub fn fastq_publish(connection: u64, queue: u32, body: *const c_void, bytes: usize, properties: *const c_void, property_bytes: usize, level: c_int, number: *mut u64) -> c_int;
    pub fn fastq_flush(connection: u64, level: c_int, wait_ns: i64) -> c_int;
    pub fn fastq_subscribe(connection: u64, queue: *const c_char, options: *const c_char, subscription: *mut u64) -> c_int;
    pub fn fastq_receive(connection: u64, subscription: u64, messages: *mut Message, most: usize, wait_ns: i64, count: *mut usize) -> c_int;
    pub fn fastq_settle(connection: u64, subscription: u64, message: *const Message, outcome: c_int, level: c_int, delay_ms: i64, flags: u32, number: *mut u64) -> c_int;
    pub fn fastq_request(connection: u64, queue: u32, body: *const c_void, bytes: usize, properties: *const c_void, property_bytes: usize, timeout_ms: i64, flags: u32, number: *mut u64) -> c_int;
    pub fn fastq_receive_reply(connection: u64, number: u64, wait_ns: i64, reply: *mut Reply) -> c_int;
    pub fn fastq_reply_to(connection: u64, subscription: u64, message: *const Message, body: *const c_void, bytes: usize, properties: *const c_void, property_bytes: usize, part: u32, flags: u32, level: c_int, number: *mut u64) -> c_int;
    fn fastq_last_error() -> *const c_char;
    fn fastq_code_name(code: c_int) -> *const c_char;
}

pub const ABI: u32 = 1;
pub const NONE: c_int = 0;
pub const ACCEPTED: c_int = 1;
pub const DURABLE: c_int = 3;
pub const ACCEPT: c_int = 0;
pub const LAST: u32 = 1;

/// What cannot be done is said, and ends the program.
pub fn must(code: c_int) {
    if code != 0 {
        let (name, words) = unsafe { (CStr::from_ptr(fastq_code_name(code)), CStr::from_ptr(fastq_last_error())) };
        panic!("{}: {}", name.to_string_lossy(), words.to_string_lossy());
    }
}

pub fn text(words: &str) -> CString {
    CString::new(words).unwrap()
}

/// The bytes of a body, where they lie.
///
/// # Safety
/// They are good as long as fastq.h says.
pub unsafe fn words_at(body: *const u8, bytes: u32) -> String {
    String::from_utf8_lossy(std::slice::from_raw_parts(body, bytes as usize)).into_owned()
}
