"""Properties and headers of messages, to and from the bytes of the protocol (src/FastQ.Protocol/README.md, section 7)."""
import datetime
import struct

from ._library import Error, milliseconds

HEADER, BODY_ENCODING, DEATH, ORIGIN = 1, 10, 64, 65
TEXTS = {
    "id": 2, "correlation_id": 3, "reply_to": 4, "content_type": 5, "content_encoding": 6, "type": 7, "key": 8, "schema_version": 9,
    "group": 36, "tenant": 37, "dedup_id": 38, "unique": 39,
    "exchange": 41, "routing_key": 42, "schedule_key": 48,
}
DELAY, DELIVER_AT, TTL, PRIORITY, UNIQUE_UNTIL, SCHEDULE_MODE, LONGEST_WAIT = 32, 33, 34, 35, 40, 49, 50
MODES = {"replace": 0, "debounce": 1, "keep": 2}
NAMES = {
    2: "messageId", 3: "correlationId", 4: "replyTo", 5: "contentType", 6: "contentEncoding", 7: "type", 8: "key", 9: "schemaVersion", 32: "delay",
    33: "deliverAt", 34: "ttl", 35: "priority", 36: "group", 37: "tenant", 38: "deduplicationId", 39: "uniqueKey", 40: "uniqueUntil",
    41: "exchange", 42: "routingKey", 48: "scheduleKey", 49: "scheduleMode", 50: "longestWait", 51: "request",
}
TEXT, BOOLEAN, INT64, DOUBLE, BYTES, TIMESTAMP, LIST, TABLE = range(8)
REASONS = {1: "max-deliveries", 2: "rejected", 3: "expired", 4: "overflow", 5: "unroutable", 16: "lease-ended", 17: "consumer-gone", 18: "released", 19: "released-uncounted"}
DEEPEST = 16
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def moment(micros):
    """A moment beyond the calendar's end is its end."""
    try:
        return EPOCH + datetime.timedelta(microseconds=micros)
    except OverflowError:
        return datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)


def micros(value):
    if isinstance(value, datetime.datetime):
        return (value.astimezone(datetime.timezone.utc) - EPOCH) // datetime.timedelta(microseconds=1)
    return int(value * 1e6)


# ---- writing

def _value(value, depth=1):
    """(type, bytes) of a header's value."""
    if depth > DEEPEST:
        raise Error("too-large", f"Lists and tables lie more than {DEEPEST} deep within one another")
    if isinstance(value, str):
        return TEXT, value.encode()
    if isinstance(value, bool):
        return BOOLEAN, b"\1" if value else b"\0"
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise Error("bad-argument", f"An integer in a header has 64 bits; {value} has more")
        return INT64, struct.pack("<q", value)
    if isinstance(value, float):
        return DOUBLE, struct.pack("<d", value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return BYTES, bytes(value)
    if isinstance(value, datetime.datetime):
        return TIMESTAMP, struct.pack("<q", micros(value))
    if isinstance(value, (list, tuple)):
        return LIST, b"".join(_typed(*_value(one, depth + 1)) for one in value)
    if isinstance(value, dict):
        return TABLE, b"".join(_key(key) + _typed(*_value(one, depth + 1)) for key, one in value.items())
    raise Error("bad-argument", f"A header is text, a boolean, a number, bytes, a datetime, a list or a dict, not {type(value).__name__}")


def _key(key):
    encoded = key.encode()
    if not 1 <= len(encoded) <= 255:
        raise Error("bad-argument", "A header's key has 1 to 255 bytes of UTF-8")
    return bytes([len(encoded)]) + encoded


def _typed(kind, data):
    if len(data) > 0xFFFF:
        raise Error("too-large", "A header's value has more than 65,535 bytes")
    return struct.pack("<BH", kind, len(data)) + data


def _property(tag, kind, data):
    if len(data) > 0xFFFF:
        raise Error("too-large", "A property has more than 65,535 bytes")
    return struct.pack("<BBH", tag, kind, len(data)) + data


def write(headers=None, ttl=None, delay=None, deliver_at=None, priority=0, unique_until=None, schedule_mode=None, longest_wait=None, **texts):
    """The properties of a message that is to be published; names and values as Connection.publish has them."""
    parts = []
    for name, value in texts.items():
        if value is None:
            continue
        if name not in TEXTS:
            raise TypeError(f"publish has no keyword '{name}'")
        parts.append(_property(TEXTS[name], TEXT, str(value).encode()))
    if delay is not None:
        parts.append(_property(DELAY, INT64, struct.pack("<q", milliseconds(delay))))
    if deliver_at is not None:
        parts.append(_property(DELIVER_AT, TIMESTAMP, struct.pack("<q", micros(deliver_at))))
    if ttl is not None:
        parts.append(_property(TTL, INT64, struct.pack("<q", milliseconds(ttl))))
    if priority:
        parts.append(_property(PRIORITY, INT64, struct.pack("<q", priority)))
    if unique_until == "started":
        parts.append(_property(UNIQUE_UNTIL, INT64, struct.pack("<q", 1)))
    if schedule_mode is not None:
        if schedule_mode not in MODES:
            raise Error("bad-argument", f"schedule_mode is one of {', '.join(MODES)}, not {schedule_mode!r}")
        parts.append(_property(SCHEDULE_MODE, INT64, struct.pack("<q", MODES[schedule_mode])))
    if longest_wait is not None:
        parts.append(_property(LONGEST_WAIT, INT64, struct.pack("<q", milliseconds(longest_wait))))
    for key, value in (headers or {}).items():
        kind, data = _value(value)
        parts.append(_property(HEADER, kind, _key(key) + data))
    return b"".join(parts)


# ---- reading: of any origin, and so it fails for nothing

def read(data):
    """(tag, type, key, value) of each property, to the end or to where they are cut short."""
    at = 0
    while len(data) - at >= 4:
        tag, kind, length = struct.unpack_from("<BBH", data, at)
        value = data[at + 4:at + 4 + length]
        at += 4 + length
        if len(value) < length:
            return
        key = None
        if tag == HEADER:
            if not value or value[0] == 0 or len(value) - 1 < value[0]:
                return
            key, value = value[1:1 + value[0]].decode("utf-8", "replace"), value[1 + value[0]:]
        yield tag, kind, key, value


def value_of(kind, data, depth=1):
    """A value in Python's terms; one whose bytes have not the form of its type is bytes."""
    try:
        if kind == TEXT:
            return data.decode()
        if kind == BOOLEAN and len(data) == 1 and data[0] < 2:
            return data[0] == 1
        if kind in (INT64, DOUBLE, TIMESTAMP) and len(data) == 8:
            number = struct.unpack("<d" if kind == DOUBLE else "<q", data)[0]
            return moment(number) if kind == TIMESTAMP else number
        if kind in (LIST, TABLE) and depth <= DEEPEST:
            return _members(kind, data, depth)
    except (ValueError, OverflowError):
        pass
    return data


def _members(kind, data, depth):
    members, at = ([] if kind == LIST else {}), 0
    while at < len(data):
        key = None
        if kind == TABLE:
            length = data[at]
            key = data[at + 1:at + 1 + length].decode()
            at += 1 + length
            if length == 0:
                raise ValueError
        if len(data) - at < 3:
            raise ValueError
        member, length = struct.unpack_from("<BH", data, at)
        value = data[at + 3:at + 3 + length]
        at += 3 + length
        if len(value) < length:
            raise ValueError
        if kind == LIST:
            members.append(value_of(member, value, depth + 1))
        else:
            members[key] = value_of(member, value, depth + 1)
    return members


def fields(data):
    """Fields of an answer or a death: {tag: bytes}, the first of each."""
    found, at = {}, 0
    while len(data) - at >= 4:
        tag, length = struct.unpack_from("<HH", data, at)
        value = data[at + 4:at + 4 + length]
        at += 4 + length
        if len(value) < length:
            break
        found.setdefault(tag, value)
    return found


def _number(found, tag):
    value = found.get(tag, b"")
    return struct.unpack("<Q", value)[0] if len(value) == 8 else 0


def deaths(data):
    """The story of a dead letter, the latest death first."""
    return [
        {
            "source": found.get(1, b"").decode("utf-8", "replace"), "tag": _number(found, 24), "reason": REASONS.get(_number(found, 46), "unknown"),
            "deliveries": _number(found, 26), "count": _number(found, 48), "first": moment(_number(found, 49)), "last": moment(_number(found, 50)),
            "text": found[22].decode("utf-8", "replace") if 22 in found else None, "details": found[47].decode("utf-8", "replace") if 47 in found else None,
        }
        for found in (fields(value) for tag, kind, _, value in read(data) if tag == DEATH and kind == BYTES)
    ]


def text_of(data, wanted):
    """The first property of a tag, as text; None: it is not there."""
    for tag, kind, _, value in read(data):
        if tag == wanted and kind == TEXT:
            return value.decode("utf-8", "replace")
    return None


def headers(data):
    return {key: value_of(kind, value) for tag, kind, key, value in read(data) if tag == HEADER}


def properties(data):
    """What the message says of itself, by the names that `browse --json` has."""
    return {
        NAMES.get(tag, str(tag)): value_of(kind, value) for tag, kind, _, value in read(data) if tag not in (0, HEADER, BODY_ENCODING, DEATH, ORIGIN)
    }
