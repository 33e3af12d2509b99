#!/usr/bin/env bash
# The tests of native/: run.sh BROKER; run.sh BROKER kills [ROUNDS] [SEED]: that part alone. Each suite ends with "  succeeded: N" and "  failed: N", which ./build.sh test adds up.
#
#   under ASan and UBSan   vectors, hostile, fuzz, conformance, walk        under TSan   conformance of threads
#   of the shared library  header, exports, ABI, unload, Python, Node, examples, kills of clients
#   under valgrind         conformance
set -uo pipefail
broker=$(realpath "${1:?the path of the broker}") || exit 1
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
out=$(realpath -m ../artifacts/native)
warnings=(-Wall -Wextra -pedantic -Werror)
conformance=(conformance queues life) # The programs that hold the library against the real broker.
code=0

# suite NAME COMMAND...: a command that is one test.
suite() {
    local name=$1 passed=0 failed=0
    shift
    if "$@"; then passed=1; else failed=1 code=1; fi
    printf '%s native.%s\n  succeeded: %d\n  failed: %d\n' "$([[ $passed == 1 ]] && echo passed || echo failed)" "$name" "$passed" "$failed"
}

# build FLAVOUR FLAGS: the library and its test programs.
build() {
    local flavour=$1 flags=$2 test
    make --silent -j2 OUT="$out-$flavour" EXTRA="$flags" || return 1
    for test in vectors hostile "${conformance[@]}" walk; do
        # shellcheck disable=SC2086 # flags are words
        gcc -std=c11 -D_GNU_SOURCE -g -O1 "${warnings[@]}" -I"$out" $flags "tests/$test.c" "$out-$flavour"/obj/*.o -o "$out-$flavour/$test" -pthread || return 1
    done
}

header_compiles() {
    printf '#include "fastq.h"\nint main(void) { return fastq_abi() == FASTQ_ABI ? 0 : 1; }\n' >"$out/header.c"
    gcc -x c -std=c11 "${warnings[@]}" -Iinclude "$out/header.c" -L"$out" -lfastq -o "$out/header" \
        && g++ -x c++ -std=c++17 "${warnings[@]}" -Iinclude "$out/header.c" -L"$out" -lfastq -o "$out/header" \
        && LD_LIBRARY_PATH=$out "$out/header"
}

# What the header declares, a declaration a line, without comments and layout.
declarations() {
    gcc -fpreprocessed -dD -E -P include/fastq.h 2>/dev/null | grep -v '^ *#' | tr '\n' ' ' | sed 's/[[:space:]]\+/ /g' \
        | grep -oE 'FASTQ_API [^;]*;|(typedef struct|enum) [^}]*}[^;]*;|typedef [^{;]*;'
}

exports_are_the_headers() {
    local symbols named
    symbols=$(nm -D --defined-only "$out/libfastq.so" | awk '{ print $3 }' | sort)
    named=$(declarations | grep '^FASTQ_API' | grep -o 'fastq_[a-z0-9_]*(' | tr -d '(' | sort -u)
    diff <(echo "$symbols") <(echo "$named") || { echo '    libfastq.so exports (<) other names than fastq.h declares (>)'; return 1; }
    # What a program links statically has no other names either.
    symbols=$(nm -g --defined-only "$out/libfastq.a" | awk 'NF == 3 { print $3 }' | sort)
    diff <(echo "$symbols") <(echo "$named") || { echo '    libfastq.a has (<) other names than fastq.h declares (>)'; return 1; }
}

# abi.txt: the ABI number, then the declarations as they were when it was given.
declarations_are_those_of_the_abi_number() {
    { sed -n 's/^#define FASTQ_ABI \([0-9]*\)u$/ABI \1/p' include/fastq.h; declarations; } >"$out/abi.txt"
    diff abi.txt "$out/abi.txt" || { echo "    A declaration has changed. If programs that were compiled before would not run, raise FASTQ_ABI; then: cp $out/abi.txt abi.txt"; return 1; }
}

needs_only_libc() { ! readelf -d "$out/libfastq.so" | grep NEEDED | grep -v 'libc\.so\|ld-linux'; }

has_its_soname() { readelf -d "$out/libfastq.so" | grep -q 'SONAME.*\[libfastq\.so\.1\]'; }

# The package as it is installed: unpacked from its wheel, with the library beside it.
python_tests() {
    local ran failed log=$out/python.log
    rm -rf "$out/wheel" "$out/site" && mkdir -p "$out/wheel" "$out/site"
    PYTHONPATH=bindings/python PYTHONDONTWRITEBYTECODE=1 python3 -c "import wheel_backend; wheel_backend.build_wheel('$out/wheel')" \
        && python3 -m zipfile -e "$out"/wheel/*.whl "$out/site" || return 1
    env -u FASTQ_LIB FASTQ_BROKER="$broker" PYTHONPATH="$out/site" PYTHONDONTWRITEBYTECODE=1 python3 -m unittest -v bindings/python/tests/test_fastq.py >"$log" 2>&1
    ran=$(sed -n 's/^Ran \([0-9]*\) tests.*/\1/p' "$log")
    failed=$(grep -cE '^(FAIL|ERROR): ' "$log")
    ((${ran:-0} > 0)) || failed=1
    ((failed == 0)) || { cat "$log"; code=1; }
    printf '  succeeded: %d\n  failed: %d\n' "$((${ran:-1} - failed))" "$failed"
}

# The package as it is installed, with its one dependency at the version that the lock file fixes.
node_tests() {
    local passed failed log=$out/node.log
    rm -rf "$out/node/test" && mkdir -p "$out/node" && cp -r bindings/node/*.js* bindings/node/*.d.ts bindings/node/test "$out/node/" || return 1
    if ! cmp -s "$out/node/package-lock.json" "$out/node/installed.json"; then
        (cd "$out/node" && npm ci --no-audit --no-fund --ignore-scripts >"$log" 2>&1) || { cat "$log"; printf '  succeeded: 0\n  failed: 1\n'; return 1; }
        cp "$out/node/package-lock.json" "$out/node/installed.json"
    fi
    (cd "$out/node" && FASTQ_BROKER=$broker FASTQ_LIB=$out/libfastq.so.1 timeout 300 node --test test/ >"$log" 2>&1)
    passed=$(sed -nE 's/^(# |ℹ )pass ([0-9]+)$/\2/p' "$log")
    failed=$(sed -nE 's/^(# |ℹ )fail ([0-9]+)$/\2/p' "$log")
    ((${passed:-0} > 0)) || failed=1
    ((${failed:-1} == 0)) || { cat "$log"; code=1; }
    printf '  succeeded: %d\n  failed: %d\n' "${passed:-0}" "${failed:-1}"
}

# The examples of a language do what they say, against a broker of their own: example NAME WANTED COMMAND...; where the command has {}, that is
# the name of each in turn.
example() {
    local name=$1 wanted=$2 folder pid said='' good=0 which parts=(once)
    shift 2
    [[ $* != *'{}'* ]] || parts=(producer consumer request-reply)
    folder=$(mktemp -d)
    mkfifo "$folder/ready"
    "$broker" serve --data "$folder/data" --socket "$folder/s" >"$folder/ready" 2>/dev/null &
    pid=$!
    read -r _ <"$folder/ready"
    for which in "${parts[@]}"; do
        said+=$(env -u FASTQ_LIB FASTQ_SOCKET="$folder/s" LD_LIBRARY_PATH="$out" timeout 60 "${@//\{\}/$which}") || good=1
    done
    [[ $good == 0 && $said == "$wanted" ]] || { good=1; echo "    $name said: $said"; }
    kill "$pid"
    wait "$pid"
    rm -rf "$folder"
    return "$good"
}

examples_run() {
    local good=0 which built=0 wanted=$'hello 0\nhello 1\nhello 2hello, world'
    for which in producer consumer request-reply; do
        gcc -std=c11 "${warnings[@]}" -Iinclude "examples/$which.c" -o "$out/example-$which" -L"$out" -lfastq || built=1
    done
    { ((built == 0)) && example C "$wanted" "$out/example-{}"; } || good=1
    example Python "$wanted" env PYTHONPATH="$out/site" PYTHONDONTWRITEBYTECODE=1 python3 'examples/{}.py' || good=1
    mkdir -p "$out/modules" && ln -sfn "$out/node" "$out/modules/fastq"
    example Node "$wanted" env NODE_PATH="$out/modules" FASTQ_LIB="$out/libfastq.so.1" node 'examples/{}.js' || good=1
    if command -v rustc >/dev/null; then
        for which in producer consumer request-reply; do
            rustc --edition 2021 -O "examples/$which.rs" -o "$out/rust-$which" -L "$out" -l fastq || built=1
        done
        { ((built == 0)) && example Rust "$wanted" "$out/rust-{}"; } || good=1
    else
        echo '    the examples in Rust were not tried: this machine has no rustc'
    fi
    return "$good"
}

java_hosts_it() {
    local home
    home=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.home = //p')
    gcc -std=c11 -shared -fPIC "${warnings[@]}" -Wno-unused-parameter "-I$home/include" "-I$home/include/linux" tests/java/host.c -o "$out/libhost.so" -L"$out" -lfastq \
        && "$home/bin/javac" -Xlint:all -Werror -d "$out/java" tests/java/Host.java && example Host.java $'hello 0\nhello 1\nhello 2' "$home/bin/java" -cp "$out/java" Host "$out/libhost.so"
}

# A broker's bytes, the same ones each time. ./build.sh fuzz --target native goes on, guided by what they reach.
fuzz_shortly() {
    local input=$out-asan/fuzz-input
    gcc -std=c11 -D_GNU_SOURCE -g -O1 "${warnings[@]}" -I"$out" -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
        "-Wl,--wrap=connect,--wrap=poll,--wrap=sched_yield,--wrap=nanosleep" tests/fuzz.c "$out-asan"/obj/*.o -o "$out-asan/fuzz" -pthread \
        && "$out-asan/fuzz" ../tests/vectors 16000 1 "$input" && return
    echo "    the input that did harm: $out-asan/fuzz --replay $input"
    printf '  succeeded: 0\n  failed: 1\n'
    return 1
}

# The whole conformance run without a suppression: no byte is read before it was written, none is lost.
conformance_under_valgrind() {
    local program
    for program in "${conformance[@]}"; do
        gcc -std=c11 -D_GNU_SOURCE -g -O1 "${warnings[@]}" "tests/$program.c" "$out"/obj/*.o -o "$out/$program" -pthread || return 1
        valgrind --quiet --child-silent-after-fork=yes --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible \
            "$out/$program" "$broker" >"$out/valgrind.log" 2>&1 || { grep -v '^  succeeded: \|^  failed: ' "$out/valgrind.log"; return 1; }
    done
}

# Clients in C and Python are killed inside any call, and harm nobody else: kill_clients ROUNDS [SEED].
kill_clients() {
    gcc -std=c11 -D_GNU_SOURCE -g -O1 "${warnings[@]}" -I"$out" tests/walk.c "$out"/obj/*.o -o "$out/walk" -pthread \
        && FASTQ_LIB="$out/libfastq.so.1" PYTHONPATH=bindings/python PYTHONDONTWRITEBYTECODE=1 timeout 600 python3 tests/kills.py "$broker" "$out/walk" "$@"
}

make --silent -j2 || exit 1
python3 tests/calls.py abi.txt "$out/calls.inc" || exit 1
if [[ ${2:-} == kills ]]; then
    kill_clients "${3:-200}" "${@:4}"
    exit
fi
build asan '-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' || exit 1
build tsan '-fsanitize=thread -Wno-tsan' || exit 1
gcc -std=c11 -D_GNU_SOURCE -g -O1 "${warnings[@]}" tests/unload.c -o "$out/unload" -ldl || exit 1

"$out-asan/vectors" ../tests/vectors || code=1
"$out-asan/hostile" ../tests/vectors 20000 || code=1
fuzz_shortly || code=1
for program in "${conformance[@]}"; do
    "$out-asan/$program" "$broker" || code=1
done
"$out-asan/walk" "$broker" || code=1
TSAN_OPTIONS=halt_on_error=1 "$out-tsan/life" "$broker" thread || code=1
"$out/unload" "$out/libfastq.so.1" "$broker" || code=1
suite header_compiles_as_c11_and_cpp17 header_compiles
suite library_and_header_have_the_same_names exports_are_the_headers
suite declarations_are_those_of_the_abi_number declarations_are_those_of_the_abi_number
suite library_needs_libc_alone needs_only_libc
suite library_has_its_soname has_its_soname
mkdir -p ../artifacts/lib && cp "$out/libfastq.so.1" ../artifacts/lib/ # Where the wheel takes it from.
python_tests || code=1
node_tests || code=1
suite examples_do_what_they_say examples_run
if command -v valgrind >/dev/null; then
    suite conformance_is_clean_under_valgrind conformance_under_valgrind
else
    echo 'NOT TRIED: conformance under valgrind. This machine has no valgrind (Debian: valgrind)'
fi
if command -v javac >/dev/null; then
    suite java_hosts_the_library java_hosts_it
else
    echo 'NOT TRIED: the library in a Java process. This machine has no javac (Debian: openjdk-17-jdk-headless)'
fi
suite kill_9_of_clients_in_C_and_Python_harms_nobody_else kill_clients 200 1
exit "$code"
