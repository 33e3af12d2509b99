"""The library's functions and structs, as fastq.h has them."""
import ctypes
import os
from ctypes import POINTER, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint16, c_uint32, c_uint64, c_ubyte, c_void_p

ABI = 1
LEVELS = {"none": 0, "accepted": 1, "written": 2, "durable": 3}
TIMED_OUT, DUPLICATE, NO_REQUESTER = 11, 30, 38


class Message(ctypes.Structure):
    _fields_ = [
        ("number", c_uint64), ("tag", c_uint64), ("token", c_uint64), ("time_us", c_int64), ("body", c_void_p), ("properties", c_void_p),
        ("body_bytes", c_uint32), ("property_bytes", c_uint16), ("delivery_count", c_uint16), ("flags", c_uint32), ("life", c_uint32),
    ]


class Browsed(ctypes.Structure):
    _fields_ = [
        ("tag", c_uint64), ("time_us", c_int64), ("due_us", c_int64), ("lease_left_ms", c_int64), ("whole_body_bytes", c_uint64),
        ("body", c_void_p), ("properties", c_void_p), ("owner", c_void_p), ("body_bytes", c_uint32), ("property_bytes", c_uint32),
        ("owner_bytes", c_uint32), ("state", c_uint32), ("delivery_count", c_uint32), ("reason", c_uint32), ("stopped", c_uint32), ("behind", c_uint32),
    ]


class Refusal(ctypes.Structure):
    _fields_ = [("number", c_uint64), ("value", c_uint64), ("code", c_int), ("text", c_char * 256)]


class Reply(ctypes.Structure):
    _fields_ = [("body", c_void_p), ("properties", c_void_p), ("body_bytes", c_uint32), ("property_bytes", c_uint32), ("part", c_uint32), ("flags", c_uint32)]


class Processed(ctypes.Structure):
    _fields_ = [("result", c_void_p), ("result_bytes", c_size_t), ("is_first", c_uint32), ("was_late", c_uint32)]


class Status(ctypes.Structure):
    _fields_ = [("size", c_size_t)] + [(name, c_uint64) for name in (
        "epoch", "producer", "last_number", "reconnects", "resent", "duplicates", "refusals", "max_message_bytes", "ring_bytes")]


class Error(Exception):
    """What the broker or the library refused. code: as scripts see it; message: words; value: the limit that is meant, else 0."""

    def __init__(self, code, message="", value=0):
        super().__init__(f"{code}: {message}" if message else code)
        self.code, self.message, self.value = code, message, value


def _load():
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libfastq.so.1")
    for path in (os.environ.get("FASTQ_LIB"), beside if os.path.exists(beside) else None, "libfastq.so.1"):
        if path:
            return ctypes.CDLL(path)
    raise AssertionError


_C, _S, _N = c_uint64, c_uint64, POINTER(c_uint64)
_SIGNATURES = {
    "open": [c_uint32, c_char_p, c_char_p, POINTER(c_uint64)], "close": [_C], "get_status": [_C, POINTER(Status)], "is_connected": [_C], "tick": [_C],
    "descriptor": [_C, POINTER(c_int)], "arm": [_C, POINTER(c_int)], "open_queue": [_C, c_char_p, POINTER(c_uint32)],
    "publish": [_C, c_uint32, c_char_p, c_size_t, c_char_p, c_size_t, c_int, _N],
    "publish_batch": [_C, c_uint32, c_char_p, c_void_p, c_void_p, c_size_t, c_int, _N],
    "wait": [_C, c_uint64, c_int, c_int64], "flush": [_C, c_int, c_int64], "next_refusal": [_C, POINTER(Refusal)],
    "subscribe": [_C, c_char_p, c_char_p, _N], "unsubscribe": [_C, _S], "set_credit": [_C, _S, c_uint32],
    "receive": [_C, _S, POINTER(Message), c_size_t, c_int64, POINTER(c_size_t)],
    "settle": [_C, _S, POINTER(Message), c_int, c_int, c_int64, c_uint32, _N],
    "settle_range": [_C, _S, c_uint64, c_uint64, c_uint32, c_int, c_int, _N],
    "reject": [_C, _S, POINTER(Message), c_char_p, c_char_p, c_int, _N], "extend": [_C, _S, POINTER(Message), c_int64, c_int, _N],
    "holds": [_C, _S, POINTER(Message)], "body_size": [POINTER(Message), POINTER(c_size_t)], "copy_body": [POINTER(Message), POINTER(c_ubyte), c_size_t],
    "copy_messages": [c_void_p, c_size_t, c_void_p, c_size_t, POINTER(c_size_t)],
    "declare_queue": [_C, c_char_p, c_char_p, POINTER(c_char_p)], "change_queue": [_C, c_char_p, c_char_p, POINTER(c_char_p)],
    "pause_queue": [_C, c_char_p, c_uint32], "list_consumers": [_C, c_char_p, POINTER(c_char_p)], "pause_consumer": [_C, c_char_p, c_uint32, c_int], "show_queue": [_C, c_char_p, POINTER(c_char_p)], "list_queues": [_C, POINTER(c_char_p)],
    "delete_queue": [_C, c_char_p], "purge_queue": [_C, c_char_p, _N], "show_statistics": [_C, POINTER(c_char_p)],
    "browse": [_C, c_char_p, c_char_p, _N, POINTER(Browsed), c_size_t, POINTER(c_size_t)], "delete_message": [_C, c_char_p, c_uint64],
    "change_message": [_C, c_char_p, c_uint64, c_int, c_int64],
    "start_move": [_C, c_char_p, c_char_p, c_char_p, c_uint64, c_uint64, POINTER(c_char_p)], "show_move": [_C, c_char_p, POINTER(c_char_p)],
    "cancel_move": [_C, c_char_p, POINTER(c_char_p)], "routed": [_C, c_uint64, POINTER(c_int64)],
    "open_exchange": [_C, c_char_p, POINTER(c_uint32)], "declare_exchange": [_C, c_char_p, c_char_p, POINTER(c_char_p)], "delete_exchange": [_C, c_char_p],
    "show_exchange": [_C, c_char_p, POINTER(c_char_p)], "list_exchanges": [_C, POINTER(c_char_p)],
    "bind": [_C, c_char_p, c_char_p, c_char_p, c_char_p, c_size_t, c_uint32], "unbind": [_C, c_char_p, c_char_p, c_char_p, c_char_p, c_size_t, c_uint32],
    "begin": [_C, c_int64, _N], "add_publish": [_C, c_uint64, c_uint32, c_char_p, c_size_t, c_char_p, c_size_t, c_uint32],
    "add_settle": [_C, c_uint64, _S, POINTER(Message), c_int, c_int64, c_uint32], "add_reject": [_C, c_uint64, _S, POINTER(Message), c_char_p, c_char_p],
    "commit_transaction": [_C, c_uint64, c_int, _N], "rollback": [_C, c_uint64],
    "request": [_C, c_uint32, c_char_p, c_size_t, c_char_p, c_size_t, c_int64, c_uint32, _N], "receive_reply": [_C, c_uint64, c_int64, POINTER(Reply)],
    "end_request": [_C, c_uint64], "send_reply": [_C, c_char_p, c_char_p, c_size_t, c_char_p, c_size_t, c_uint32, c_uint32, _N],
    "reply_to": [_C, _S, POINTER(Message), c_char_p, c_size_t, c_char_p, c_size_t, c_uint32, c_uint32, c_int, _N],
    "accept_processed": [_C, _S, POINTER(Message), c_char_p, c_char_p, c_size_t, POINTER(Processed)],
    "find_processed": [_C, c_char_p, c_char_p, POINTER(c_void_p), POINTER(c_size_t)],
    "cancel_scheduled": [_C, c_char_p, c_char_p, POINTER(c_uint32)], "reschedule": [_C, c_char_p, c_char_p, c_int64, POINTER(c_uint32)],
    "reschedule_at": [_C, c_char_p, c_char_p, c_int64, POINTER(c_uint32)],
    "set_schedule": [_C, c_char_p, c_char_p, c_char_p, c_char_p, c_size_t, c_char_p, c_size_t, POINTER(c_char_p)],
    "delete_schedule": [_C, c_char_p], "pause_schedule": [_C, c_char_p, c_int, POINTER(c_char_p)], "list_schedules": [_C, POINTER(c_char_p)],
    "declare_limit": [_C, c_char_p, c_char_p, POINTER(c_char_p)], "change_limit": [_C, c_char_p, c_char_p, POINTER(c_char_p)],
    "delete_limit": [_C, c_char_p], "list_limits": [_C, POINTER(c_char_p)],
}

library = _load()
for _name, _arguments in _SIGNATURES.items():
    _function = getattr(library, f"fastq_{_name}")
    _function.argtypes, _function.restype = _arguments, c_int
library.fastq_last_error.restype = library.fastq_code_name.restype = library.fastq_version.restype = c_char_p
library.fastq_last_value.restype = c_uint64
library.fastq_code_name.argtypes = [c_int]


def version():
    """The library's version."""
    return library.fastq_version().decode()


def name_of(code):
    return library.fastq_code_name(code).decode()


def error(code):
    """The exception for what the calling thread's last call of the library answered."""
    return Error(name_of(code), library.fastq_last_error().decode("utf-8", "replace"), library.fastq_last_value())


def level_of(confirm):
    if confirm not in LEVELS:
        raise Error("bad-argument", f"confirm is one of {', '.join(LEVELS)}, not {confirm!r}")
    return LEVELS[confirm]


def nanoseconds(seconds):
    """A wait for the library; None is for ever."""
    return -1 if seconds is None else min(int(seconds * 1e9), (1 << 62)) if seconds > 0 else 0


def milliseconds(seconds):
    """Whole ones; a part of one is a whole one."""
    return -int(-seconds * 1000 // 1)

