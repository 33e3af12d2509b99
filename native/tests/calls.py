"""Writes calls.inc (see calls.h) from abi.txt: calls.py ABI.TXT CALLS.INC. Stops where nobody has said what an argument may be."""

import re
import sys

HANDLE = "FASTQ_IS_CLOSED"
ANY = "ANY_CODE"

# Values by type and name of a parameter, then by type alone; the first is the good one. A pair: a value, and the code that it must give.
NUMBERS = ["1", "0", "UINT64_MAX"]
TIMES = ["1000", "0", "-5", "INT64_MAX", "INT64_MIN"]
WORDS = ["NULL", '""', '"nonsense=1"', '"=\\n==\\n=x"', "w->large", '"\\xff\\xfe"']
NAMES = ['"walk"', "NULL", '""', '"not there"', "w->large", '"\\xff\\xfe"', '"fastq.x"']
LENGTHS = ["10", "0", "60000", "SIZE_MAX", "(size_t)1 << 32", "UINT32_MAX"]  # Lengths that a function must judge before it reads so far.
VALUES = {
    ("uint32_t", "abi"): ["FASTQ_ABI", ("FASTQ_ABI + 1", "FASTQ_WRONG_ABI"), ("0", "FASTQ_WRONG_ABI")],
    ("const char *", "path"): ["w->path", ("w->large", "FASTQ_BAD_ARGUMENT"), '"/nowhere"'],
    ("const char *", "options"): WORDS,
    ("const char *", "attributes"): WORDS,
    ("const char *", "filter"): WORDS,
    ("const char *", "target"): WORDS,
    ("const char *", "rule"): ['"every=1h"', *WORDS],
    ("const char *", "limits"): ['"max-in-flight=5"', *WORDS],
    ("const char *", "address"): ['"fastq.reply.1.1"', '"fastq.reply.99999999999999999999.1"', *NAMES],
    ("const char *", "details"): WORDS,
    ("int", "level"): ["3", "0", ("-1", "FASTQ_BAD_ARGUMENT"), ("16", "FASTQ_BAD_ARGUMENT"), ("INT_MIN", "FASTQ_BAD_ARGUMENT")],
    ("int", "outcome"): ["0", "1", "2", ("3", "FASTQ_BAD_ARGUMENT"), ("-1", "FASTQ_BAD_ARGUMENT")],
    ("int64_t", "wait_ns"): ["0", "1000000"],  # One for ever would be kept.
    ("int64_t", "delay_ms"): ["0", "1000", "-5", "INT64_MAX", "INT64_MIN"],
    ("size_t", "bytes"): LENGTHS,
    ("size_t", "property_bytes"): ["0", *LENGTHS[3:]],
    ("size_t", "value_bytes"): LENGTHS,
    ("size_t", "header_bytes"): ["0", *LENGTHS[2:]],
    ("size_t", "count"): ["1", "0"],  # What the caller says that it has: to lie is to be read beyond.
    ("size_t", "most"): ["1", "0"],
    ("size_t", "room_bytes"): ["ROOM_BYTES", "0", "3"],
    ("uint32_t", "flags"): ["0", "1", "UINT32_MAX"],
    ("uint32_t", "tag"): ["FASTQ_TYPE", "0", "1", "256", "UINT32_MAX"],
    ("void *", "context"): ["NULL"],
    ("const void *", "properties"): ["NULL", "w->text"],
    ("const uint32_t *", "property_bytes"): ["NULL", "w->lengths"],
    "fastq_connection": ["w->c", ("w->closed", HANDLE), ("0", HANDLE), ("UINT64_MAX", HANDLE), ("w->c + 65536", HANDLE)],
    "fastq_subscription": ["w->s", ("0", HANDLE), ("UINT64_MAX", HANDLE)],
    "fastq_transaction": ["w->t", ("0", HANDLE), ("UINT64_MAX", HANDLE)],
    "fastq_queue": ["w->q", "0", "UINT32_MAX"],
    "fastq_log": ["NULL", "hear"],
    "const char *": NAMES,
    "const void *": ["w->text", "NULL"],
    "void *": ["w->room", "NULL"],
    "void **": ["&w->body", "NULL"],
    "const unsigned char **": ["&w->found", "NULL"],
    "const char **": ["&w->json", "NULL"],
    "const uint32_t *": ["w->lengths", "NULL"],
    "const fastq_message *": ["w->held", "NULL", "&w->zero", "&w->absurd"],
    "fastq_message *": ["w->messages", "NULL"],
    "fastq_browsed *": ["w->browsed", "NULL"],
    "int": ["1", "-1", "256", "INT_MAX", "INT_MIN"],
    "uint32_t": ["1", "0", "UINT32_MAX"],
    "uint64_t": NUMBERS,
    "int64_t": TIMES,
}

# Of one function alone: a length that it cannot know for a lie; a broker that is away and is not waited for.
OF_ONE = {
    ("fastq_next_property", "property_bytes"): ["10", "0"],
    ("fastq_next_property", "properties"): ["w->text", "NULL"],
    ("fastq_bind", "target"): NAMES,
    ("fastq_unbind", "target"): NAMES,
    ("fastq_open", "options"): ['"patience=0s"', '"nonsense=1"', '"ring=0"', '"patience=0s\\nring=65536\\ncopies\\nverify"', '"=\\n==\\n=x"', "w->large", '"\\xff\\xfe"'],
}


def values_of(function, kind, name):
    found = OF_ONE.get((function, name)) or VALUES.get((kind, name)) or VALUES.get(kind)
    if found is None and kind.endswith("*") and not kind.startswith("const "):
        found = [f"&w->{name}", "NULL"]  # A result goes to the world's field of that name: the compiler sees that there is one.
    if found is None:
        sys.exit(f"calls.py: nobody has said what {kind} {name} of {function} may be: add it to VALUES")
    return [value if isinstance(value, tuple) else (value, ANY) for value in found]


def write_call(to, returned, function, parameters):
    tables = [values_of(function, kind, name) for kind, name in parameters]
    good = [table[0][0] for table in tables]
    ways = [(good, ANY)]
    for place, table in enumerate(tables):
        ways += [(good[:place] + [value] + good[place + 1:], wanted) for value, wanted in table[1:]]
    to.append(f"static int call_{function}(struct world *w, int way) {{\n    (void)w;\n    switch (way) {{")
    for way, (arguments, _) in enumerate(ways):
        call = f"{function}({', '.join(arguments)})"
        to.append(f"        {'default' if way == 0 else f'case {way}'}: " + (f"return {call};" if returned == "int" else f"(void){call}; return 0;"))
    to.append("    }\n}\n")
    to.append(f"static const int wanted_{function}[] = {{{', '.join(wanted for _, wanted in ways)}}};\n")
    takes = "true" if any(kind == "fastq_connection" for kind, _ in parameters) else "false"
    return f'    {{"{function}", {takes}, {len(ways)}, wanted_{function}, call_{function}}},'


def main():
    text, rows = ["// Written by calls.py.\n"], []
    for line in open(sys.argv[1], encoding="utf-8"):
        declared = re.fullmatch(r"FASTQ_API (.+?) ?(fastq_\w+)\((.*)\);", line.strip())
        if declared is not None:
            returned, function, parameters = declared.groups()
            pairs = [] if parameters == "void" else [re.fullmatch(r"(.+?) ?(\w+)", one).groups() for one in parameters.split(", ")]
            rows.append(write_call(text, returned, function, pairs))
    with open(sys.argv[2], "w", encoding="utf-8") as output:
        output.write("\n".join([*text, "static const struct call calls[] = {", *rows, "};", ""]))


main()
