#!/usr/bin/env bash
# The CPU comparison of bench/README.md from nothing: builds llama.cpp and donar, makes the files, measures every row.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
  cat <<TXT
bench/peers/run.sh [--models DIR] [--prepare] [--donar PATH] [ARGS OF compare.py]
--models DIR   the model files (.cache/peers/models; 7 GB)
--prepare      builds and makes what is missing, measures nothing
--donar PATH   a donar that is built already, with bench_serve beside it
Then compare.py: --list, --rounds N, --out FILE, names of rows.
TXT
}

models=$root/.cache/peers/models donar="" prepare=0 rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --models) models=${2:?} && shift 2 ;;
    --donar) donar=${2:?} && shift 2 ;;
    --prepare) prepare=1 && shift ;;
    -h | --help) usage && exit 0 ;;
    *) rest+=("$1") && shift ;;
  esac
done

say() { printf '==> %s\n' "$*" >&2; }

peer=$("$here/llama_cpp.sh")
without_amx=()
if grep -qs '^flags.* amx_int8' /proc/cpuinfo; then
  without_amx=(--peer-without-amx "$("$here/llama_cpp.sh" --without-amx)")
fi

mkdir -p "$models"
smol=SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -e "$models/$smol" ]; then
  (cd "$root" && ./dev model >&2)
  ln -s "$root/.cache/models/$smol" "$models/$smol"
fi
make() {  # name command... OUT: the file appears whole or not at all
  local out=$models/$1
  [ -e "$out" ] && return
  say "Making $1"
  shift
  "$@" "$out.part" >&2
  mv "$out.part" "$out"
}
quantized() {  # type
  local out=$models/llama-1b-$1.gguf
  [ -e "$out" ] && return
  say "Quantizing llama-1b-$1.gguf"
  "$peer/llama-quantize" "$models/llama-1b-BF16.gguf" "$out.part" "$1" >"$models/quantize.log" 2>&1 ||
    { tail -n 5 "$models/quantize.log" >&2 && exit 1; }
  mv "$out.part" "$out"
}
make llama-1b-BF16.gguf python3 "$here/make_gguf.py" "$root/bench/gpu/models/llama-3.2-1b"
for type in Q4_0 Q8_0 Q4_K_M; do quantized "$type"; done

if [ -z "$donar" ]; then
  build=$root/.cache/peers/donar
  say "Building donar and bench_serve"
  cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDONAR_CUDA=OFF -DDONAR_BENCH=ON -DDONAR_TESTS=OFF >&2
  cmake --build "$build" --target donar bench_serve >&2
  donar=$build/donar
fi
[ "$prepare" -eq 1 ] && exit 0
exec python3 "$here/compare.py" --donar "$donar" --peer "$peer" "${without_amx[@]}" --models "$models" "${rest[@]}"
