#!/usr/bin/env bash
# Rates of libfastq, of Python, of Node (where artifacts/native/node has it, as native/tests/run.sh lays it out) and of the .NET client in one run against one broker: run.sh [COUNT]. Needs ./build.sh publish before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
count=${1:-2000000}
folder=$(mktemp -d)
gcc -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror native/bench/rate.c artifacts/lib/libfastq.a -o artifacts/native/rate -pthread
coproc BROKER { exec artifacts/bin/fastq serve --data "$folder/data" --socket "$folder/s"; }
trap 'kill "$BROKER_PID"; wait "$BROKER_PID" || true; rm -rf "$folder"' EXIT
read -r _ <&"${BROKER[0]}"
for level in written durable; do
    echo "--- $level, 100 B: .NET, C, Python, Node"
    artifacts/bin/fastq bench --socket "$folder/s" --count "$count" --confirm "$level" --json
    artifacts/native/rate "$folder/s" throughput "$level" "$count"
    FASTQ_LIB=$PWD/artifacts/lib/libfastq.so.1 PYTHONPATH=native/bindings/python PYTHONDONTWRITEBYTECODE=1 python3 native/bench/rate.py "$folder/s" "$level" $((count / 2))
    [[ ! -d artifacts/native/node ]] || FASTQ_LIB=$PWD/artifacts/lib/libfastq.so.1 FASTQ_NODE=$PWD/artifacts/native/node node native/bench/rate.js "$folder/s" "$level" $((count / 2))
done
echo "--- latency, written: .NET, C"
artifacts/bin/fastq bench --socket "$folder/s" --scenario latency --count 20000 --json
artifacts/native/rate "$folder/s" latency written 20000
