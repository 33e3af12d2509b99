#!/usr/bin/env bash
# One way to build, test and try FastQ, for people and for CI alike: ./build.sh help
#
#   sources --publish--> artifacts/bin/fastq --demo, bench--> a table, perf-results/
#      |                        |
#      '------build-------> test programs --test--> "N passed, N failed"
#
# What was built from the same bytes is not built again: each step keeps a stamp (a hash of all that it reads) under artifacts/stamps.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$root"
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1
export MSBUILDDISABLENODEREUSE=1 # a build leaves no process behind
# In a container the checkout often belongs to another user, and git would refuse to list it.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0="$root"

usage() {
    cat <<'TEXT'
Usage: ./build.sh VERB [OPTIONS]

  demo [--file FILE] [--json]        publish real text, consume it, kill the broker halfway, count what came
  test [--rounds N] [--filter-class NAME]
                                     build everything, run every test; ends with "N passed, N failed"
  simulate [--lying] [--seeds N] [--minutes M] [--residues R] [--seed S [--keep ACTS] [--trace]]
                                     the whole broker in simulated worlds of failing disks and clients; a seed alone: replay
  planted [--seeds N] [--only NAME,...] [--json FILE]
                                     plant bugs in a copy of the sources and say which test catches each, after how many
                                     worlds; --build only builds that copy
  fuzz [--target NAME] [--minutes M | --inputs N] [--seed S] [--keep] [--replay FILE]
                                     throw bytes at what takes bytes in; tests/README.md says more. --target native: at libfastq
  coverage [--seeds N] [--write]     which branches of the engine and the journal the tests reach; fails when one has neither a test nor a
                                     reason in tests/coverage.md
  kill [--rounds N] [--seed S]       rounds of kill -9 of broker, producers and consumers on one directory (1000; a seed by chance);
                                     --clients: of programs with libfastq, in C and Python, beside one that nobody kills (200)
  verify [PART...] [--minutes M]     run simulation, planted bugs, coverage and kill rounds for long, into perf-results/verification.md;
                                     a part is simulation, lying, planted, coverage or kills; page only draws
  publish                            build the native binary artifacts/bin/fastq, and libfastq beside it
  native                             build libfastq, the client in C: artifacts/lib, artifacts/include
  bench [--quick]                    measure speed and memory against the machine's floor, into perf-results/
  format [--check]                   format the sources, or only say what is not formatted
  clean                              remove artifacts/
  help                               this text

A second run builds only what has changed. The .NET SDK that global.json names must be there; what else a bare Debian
lacks is installed with apt-get where the user may do that. CI=true restores exactly what the lock files say.
TEXT
}

fail() {
    printf 'build.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

has_header() { printf '#include <%s>\n' "$1" | gcc -fsyntax-only -x c - 2>/dev/null; }

# Is the tool or header of this Debian package there?
has() {
    case $1 in
        libc6-dev) has_header stdio.h ;;
        libxxhash-dev) has_header xxhash.h ;;
        nodejs) command -v node >/dev/null ;;
        libclang-rt-*) echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | clang -x c - -fsanitize=fuzzer,address -o /dev/null 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# Installs those of the named Debian packages that are missing, or says what to do.
need() {
    local package missing=() as_root=()
    for package in "$@"; do
        has "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    local remedy="missing: ${missing[*]}. Install with: apt-get install ${missing[*]}"
    command -v apt-get >/dev/null || fail "$remedy (or what your system calls them)"
    if ((EUID != 0)); then
        sudo -n true 2>/dev/null || fail "$remedy"
        as_root=(sudo -n)
    fi
    printf 'Installing %s\n' "${missing[*]}" >&2
    "${as_root[@]}" apt-get update -qq </dev/null >&2 || fail "apt-get update failed; $remedy"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >&2 \
        || fail "apt-get install failed; $remedy"
}

need_sdk() {
    command -v dotnet >/dev/null || fail "missing: the .NET SDK that global.json names. See https://dot.net/download"
}

# One hash over the contents of the given files and folders, the SDK and the kind of build.
stamp_of() {
    {
        printf '%s %s\n' "$(dotnet --version)" "${CI:-}"
        find "$@" -type f -not -name '*.md' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum
}

# build_once NAME PRODUCT STAMP COMMAND...: runs the command unless it made PRODUCT from the same STAMP before.
# What a build says goes to standard error: standard output belongs to what is built, as in demo --json.
build_once() {
    local name=$1 product=$2 stamp=$3 kept=artifacts/stamps/$1
    shift 3
    if [[ -e $product && -e $kept && $(<"$kept") == "$stamp" ]]; then
        printf '%s: up to date\n' "$name" >&2
        return
    fi
    rm -f "$kept"
    "$@" >&2
    mkdir -p artifacts/stamps
    printf '%s\n' "$stamp" >"$kept"
}

compile_binary() {
    dotnet publish src/FastQ.Server -c Release -o artifacts/publish/fastq -v q -clp:NoSummary </dev/null
    mkdir -p artifacts/bin artifacts/symbols
    # The symbols lie apart: beside the binary they make valgrind stop.
    mv artifacts/publish/fastq/fastq.dbg artifacts/symbols/fastq.dbg
    # Renamed into place, so that a broker that runs from the old file keeps it.
    cp artifacts/publish/fastq/fastq artifacts/bin/fastq.new
    mv artifacts/bin/fastq.new artifacts/bin/fastq
}

# A copy of the sources with all planted bugs, each behind a switch, under artifacts/planted.
compile_planted() {
    artifacts/bin/FastQ.Simulation/debug/FastQ.Simulation plant
    # The planted lines are nobody's style.
    dotnet build artifacts/planted/Planted.slnx -v q -clp:NoSummary \
        -p:RunAnalyzers=false -p:EnforceCodeStyleInBuild=false -p:TreatWarningsAsErrors=false </dev/null
}

compile_solution() {
    dotnet build FastQ.sln -v q -clp:NoSummary </dev/null
}

compile_simulation() {
    dotnet build tests/FastQ.Simulation -v q -clp:NoSummary </dev/null
}

# make builds only what has changed. Renamed into place, so that a program that runs with the old library keeps it.
native() {
    need gcc libc6-dev make
    make --silent -C native >&2
    mkdir -p artifacts/lib/pkgconfig artifacts/include
    local file
    for file in artifacts/native/libfastq.so.* artifacts/native/libfastq.a; do
        cp "$file" artifacts/lib/new
        mv artifacts/lib/new "artifacts/lib/${file##*/}"
    done
    cp -P artifacts/native/libfastq.so artifacts/lib/
    cp artifacts/native/fastq.pc artifacts/lib/pkgconfig/
    cp native/include/*.h artifacts/include/
    cp LICENSE artifacts/
}

publish() {
    need_sdk
    need gcc libc6-dev
    native
    build_once publish artifacts/bin/fastq "$(stamp_of src ./Directory.*.props global.json)" compile_binary
}

build_simulation() {
    build_once simulation artifacts/bin/FastQ.Simulation/debug/FastQ.Simulation \
        "$(stamp_of src tests/FastQ.Simulation tests/seeds.txt ./Directory.*.props global.json)" compile_simulation
}

# The simulation is built: it plants.
build_planted() {
    build_once planted artifacts/planted/artifacts/bin/FastQ.Simulation/debug/FastQ.Simulation \
        "$(stamp_of src tests ./Directory.*.props global.json)" compile_planted
}

run_planted() {
    need_sdk
    build_simulation
    build_planted
    [[ ${1:-} != --build ]] || exit 0
    exec artifacts/bin/FastQ.Simulation/debug/FastQ.Simulation planted "$@"
}

simulate() {
    need_sdk
    build_simulation
    exec artifacts/bin/FastQ.Simulation/debug/FastQ.Simulation simulate "$@"
}

run_demo() {
    publish
    exec artifacts/bin/fastq demo "$@"
}

run_tests() {
    local rounds=1 filter=()
    while (($#)); do
        case $1 in
            --rounds | --filter-class) (($# > 1)) || fail "$1 needs a value" 2 ;;&
            --rounds) rounds=$2 ;;
            # Projects without the class run no test, which the runner would call a failure (8).
            --filter-class) filter=(--filter-class "$2" --ignore-exit-code 8) ;;
            *) fail "test has no option '$1'; see ./build.sh help" 2 ;;
        esac
        shift 2
    done
    [[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds needs a number from 1 on, not '$rounds'" 2

    need git strace g++ make python3 nodejs npm
    publish
    build_once build artifacts/bin/FastQ.House.Tests/debug/FastQ.House.Tests \
        "$(stamp_of src tests benchmarks samples ./Directory.*.props global.json FastQ.sln .editorconfig)" compile_solution

    build_planted

    local log round code=0
    log=$(mktemp)
    # shellcheck disable=SC2064 # the name as it is now
    trap "rm -f '$log'" EXIT
    # What hangs is ended by tests/Watch.cs, by name; the runner's own limit asks a test to end, and waits for it.
    export FASTQ_TEST_MINUTES=${FASTQ_TEST_MINUTES:-20}
    for ((round = 1; round <= rounds; round++)); do
        dotnet test --solution FastQ.sln --no-build --no-progress --max-parallel-test-modules 1 "${filter[@]}" </dev/null 2>&1 \
            | tee -a "$log" || code=$?
        ((${#filter[@]})) || timeout -k 10 30m native/tests/run.sh artifacts/bin/fastq 2>&1 | tee -a "$log" || code=$?
    done
    closing_line "$log" "$code" || code=1
    exit "$code"
}

run_kills() {
    local rounds='' seed=$RANDOM clients=0
    while (($#)); do
        case $1 in
            --clients) clients=1 && shift && continue ;;
            --rounds | --seed) (($# > 1)) || fail "$1 needs a value" 2 ;;&
            --rounds) rounds=$2 ;;
            --seed) seed=$2 ;;
            *) fail "kill has no option '$1'; see ./build.sh help" 2 ;;
        esac
        shift 2
    done
    rounds=${rounds:-$((clients ? 200 : 1000))}
    [[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds needs a number from 1 on, not '$rounds'" 2
    [[ $seed =~ ^[0-9]{1,9}$ ]] || fail "--seed needs a number of at most nine digits, not '$seed'" 2

    publish
    if ((clients)); then
        need python3
        exec native/tests/run.sh artifacts/bin/fastq kills "$rounds" "$seed"
    fi
    dotnet build tests/FastQ.EndToEnd.Tests -v q -clp:NoSummary </dev/null
    FASTQ_KILL_ROUNDS=$rounds FASTQ_KILL_SEED=$seed exec artifacts/bin/FastQ.EndToEnd.Tests/debug/FastQ.EndToEnd.Tests \
        -class FastQ.EndToEnd.KillTests -showLiveOutput -noColor
}

# Adds up the runner's summaries. Nothing run is not a success, and a program that ended before its summary is one failure.
closing_line() {
    awk -v code="$2" '/^  succeeded: [0-9]+$/ { passed += $2 } /^  failed: [0-9]+$/ { failed += $2 }
        END { failed += code != 0 && failed == 0; printf "%d passed, %d failed\n", passed, failed; exit passed + failed == 0 }' "$1"
}

compile_fuzz() {
    dotnet build tests/FastQ.Fuzz -v q -clp:NoSummary </dev/null
}

# libFuzzer throws what a broker could send at libfastq. Its corpus is made of the byte vectors and of what it kept before.
run_fuzz_native() {
    local minutes=5 inputs=-1 seed=0 replay='' folder=artifacts/fuzz/native
    while (($#)); do
        case $1 in
            --target | --minutes | --inputs | --seed | --replay) (($# > 1)) || fail "$1 needs a value" 2 ;;&
            --target) ;;
            --minutes) minutes=$2 ;;
            --inputs) inputs=$2 ;;
            --seed) seed=$2 ;;
            --replay) replay=$2 ;;
            *) fail "fuzz --target native has no option '$1'; see ./build.sh help" 2 ;;
        esac
        shift 2
    done
    [[ $minutes =~ ^[1-9][0-9]*$ ]] || fail "--minutes needs a number from 1 on, not '$minutes'" 2
    [[ $inputs =~ ^(-1|[1-9][0-9]*)$ && $seed =~ ^[0-9]{1,9}$ ]] || fail "--inputs and --seed need numbers" 2

    need gcc libc6-dev make python3 clang libclang-rt-14-dev
    native
    mkdir -p "$folder/seeds" "$folder/corpus" "$folder/findings"
    python3 native/tests/calls.py native/abi.txt "$folder/calls.inc"
    local flags=(-std=c11 -D_GNU_SOURCE '-DFASTQ_VERSION_TEXT="fuzz"' -g -O1 -fno-omit-frame-pointer "-I$folder"
        "-Wl,--wrap=connect,--wrap=poll,--wrap=sched_yield,--wrap=nanosleep" native/tests/fuzz.c native/src/*.c -pthread)
    gcc "${flags[@]}" -o "$folder/seeder"
    clang -DFASTQ_LIBFUZZER -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all "${flags[@]}" -o "$folder/fuzz"
    [[ -z $replay ]] || exec "$folder/fuzz" "$replay"
    "$folder/seeder" --seeds tests/vectors "$folder/seeds"
    exec "$folder/fuzz" -max_len=12288 -timeout=20 -rss_limit_mb=1536 -print_final_stats=1 -artifact_prefix="$folder/findings/" \
        -max_total_time="$((inputs < 0 ? minutes * 60 : 0))" -runs="$inputs" -seed="$seed" "$folder/corpus" "$folder/seeds"
}

run_fuzz() {
    [[ " $* " != *' --target native '* ]] || run_fuzz_native "$@"
    need_sdk
    build_once fuzz artifacts/bin/FastQ.Fuzz/debug/FastQ.Fuzz \
        "$(stamp_of src tests/*.props tests/FastQ.Fuzz tests/FastQ.{Broker,Engine,Protocol}.Tests ./Directory.*.props global.json)" compile_fuzz
    exec artifacts/bin/FastQ.Fuzz/debug/FastQ.Fuzz "$@"
}

# A build of its own, not optimised: the optimiser merges branches. Built each time, for the last run wrote into its rooms.
run_coverage() {
    need_sdk
    local project
    for project in FastQ.Engine.Tests FastQ.Journal.Tests FastQ.Simulation FastQ.Coverage; do
        dotnet build "tests/$project" -v q -clp:NoSummary -p:Optimize=false "-p:ArtifactsPath=$root/artifacts/coverage" </dev/null >&2
    done
    exec artifacts/coverage/bin/FastQ.Coverage/debug/FastQ.Coverage "$@"
}

run_bench() {
    need gcc libc6-dev libxxhash-dev make python3
    publish
    make --silent -C benchmarks/floor
    exec python3 benchmarks/measure.py "$@"
}

run_verify() {
    need python3
    exec python3 benchmarks/verify.py "$@"
}

run_format() {
    local check=()
    case ${1:-} in
        '') ;;
        --check) check=(--verify-no-changes) ;;
        *) fail "format has no option '$1'; see ./build.sh help" 2 ;;
    esac
    need_sdk
    need git
    dotnet restore FastQ.sln -v q </dev/null

    local code=0
    dotnet format FastQ.sln --no-restore "${check[@]}" </dev/null || code=1
    refuse_lines 'a tab in C#' $'\t' '*.cs' || code=1
    refuse_lines 'blanks at the end of a line, or CRLF' '[[:blank:]\r]+$' || code=1
    return "$code"
}

# refuse_lines WHAT PATTERN [FILES...]: shows the lines of tracked text files that match, and fails when there are any.
refuse_lines() {
    local what=$1 pattern=$2
    shift 2
    if git grep -I -n -P -e "$pattern" -- "$@"; then
        printf 'build.sh: the lines above have %s\n' "$what" >&2
        return 1
    fi
}

verb=${1:-help}
shift || true
case $verb in
    demo) run_demo "$@" ;;
    simulate) simulate "$@" ;;
    test) run_tests "$@" ;;
    planted) run_planted "$@" ;;
    fuzz) run_fuzz "$@" ;;
    coverage) run_coverage "$@" ;;
    kill) run_kills "$@" ;;
    verify) run_verify "$@" ;;
    publish) publish ;;
    native) native ;;
    bench) run_bench "$@" ;;
    format) run_format "$@" ;;
    clean) rm -rf artifacts ;;
    help | --help | -h) usage ;;
    *)
        usage >&2
        fail "no verb '$verb'" 2
        ;;
esac
