#!/usr/bin/env bash
# Everything that is checked and measured on a GPU machine, from a bundle made elsewhere by `./dev bundle --cuda ARCHS --tests`.
# Needs bash, python3 and the NVIDIA driver; nothing is installed. See bench/README.md.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<TXT
bench/gpu/run.sh [--bundle DIR] [--out DIR] [--filter GTEST_FILTER] [--flags "FLAGS OF donar serve"] [--model MODEL] [--text FILE] STAGE...
  doctor     what the machine has
  tests      the CUDA tests of every test binary (--filter chooses; default: those whose suite has Cuda in its name)
  sanitize   the same under compute-sanitizer: memcheck, then racecheck
  ops        the op benchmarks beside the device's ceilings
  step       the bare step, without engine and server
  decode, streams, prompt, load, ttft, small, qwen
             rows of the table, through HTTP
  start      start to /health 200 with dummy weights      load-file  with 16 GB on disk, cached and cold (wants 17 GB in --out)
  cycles     20 starts and stops; memory before and after
  torch      logits and greedy tokens against transformers (python3 with torch)
  devices    the CPU against the GPU, teacher-forced: --model MODEL --text FILE
  table      = decode streams prompt load ttft small qwen start
DIR: dist/donar, and gpu-results for the logs and JSON lines.
TXT
}

bundle=dist/donar out=gpu-results filter='*Cuda*' flags="" model="" text="" stages=()
while [ $# -gt 0 ]; do
  case $1 in
    --bundle) bundle=${2:?} && shift 2 ;;
    --out) out=${2:?} && shift 2 ;;
    --filter) filter=${2:?} && shift 2 ;;
    --flags) flags=${2?} && shift 2 ;;
    --model) model=${2:?} && shift 2 ;;
    --text) text=${2:?} && shift 2 ;;
    -h | --help) usage && exit 0 ;;
    table) stages+=(decode streams prompt load ttft small qwen start) && shift ;;
    *) stages+=("$1") && shift ;;
  esac
done
[ ${#stages[@]} -gt 0 ] || { usage >&2 && exit 2; }
[ -x "$bundle/donar" ] || { echo "run.sh: no $bundle/donar: make it by ./dev bundle --cuda ARCHS --tests" >&2 && exit 2; }
mkdir -p "$out"
bundle=$(cd "$bundle" && pwd) out=$(cd "$out" && pwd)
commit=$(cat "$bundle/COMMIT" 2>/dev/null || echo unknown)

failures=()
say() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }
check() {  # name command...: its output, and its failure noted
  local name=$1
  shift
  "$@" || failures+=("$name")
}

# "SUITE<tab>SUITE.TEST:SUITE.TEST..." for each suite of a binary that the filter leaves something of.
suites_of() {
  "$1" --gtest_filter="$filter" --gtest_list_tests 2>/dev/null | sed 's/ *#.*//' | awk '
    /^[^ ].*\.$/ { suite = $1; order[++n] = suite; next }
    /^  / { tests[suite] = tests[suite] (tests[suite] ? ":" : "") suite $1 }
    END { for (i = 1; i <= n; ++i) if (tests[order[i]]) print substr(order[i], 1, length(order[i]) - 1) "\t" tests[order[i]] }'
}

# The tests of one binary, a process for each suite: after a fault nothing on the device works for the process that had it. What
# failed is repeated from the log, since of a long output only the end may be seen.
test_binary() {  # binary seconds wrapper...
  local binary=$1 seconds=$2 name log suite tests status passed=0 failed=0 bad=0
  shift 2
  name=$(basename "$binary")
  while IFS=$'\t' read -r suite tests; do
    log="$out/$name-${suite//\//-}${1:+-$3}.log" status=0
    (cd "$bundle" && DONAR_REQUIRE_CUDA=1 timeout -k 5 "$seconds" "$@" "$binary" --gtest_filter="$tests" --gtest_brief=1) \
      >"$log" 2>&1 </dev/null || status=$?
    passed=$((passed + $(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | tail -n 1 | grep . || echo 0)))
    failed=$((failed + $(grep -c '^\[  FAILED  \].* ms)$' "$log")))
    [ "$status" -eq 0 ] && continue
    bad=1
    echo "$name, $suite: exit $status$([ "$status" -eq 124 ] && echo " (hangs: stopped after $seconds s)")"
    grep -E 'Failure$|Expected|actual|Which is|\[  FAILED  \].* ms\)$|rror: |ERROR SUMMARY|Invalid|hazard|what\(\)' "$log" | head -n 12
  done < <(suites_of "$binary")
  [ $((passed + failed + bad)) -eq 0 ] || echo "$name: $passed passed, $failed failed"
  return "$bad"
}

for stage in "${stages[@]}"; do
  say "$stage"
  case $stage in
    doctor)
      check doctor "$bundle/donar" doctor
      nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used,power.limit,clocks.sm,temperature.gpu --format=csv,noheader
      ;;
    tests)
      for binary in "$bundle"/*_test; do check "$(basename "$binary")" test_binary "$binary" 240; done
      ;;
    sanitize)
      for tool in memcheck racecheck; do
        for binary in "$bundle"/*_test; do
          echo "-- $tool"
          check "$tool $(basename "$binary")" test_binary "$binary" 500 \
            compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 5
        done
      done
      ;;
    ops)
      for binary in "$bundle"/bench_*_cuda; do
        log="$out/$(basename "$binary").log"
        check "$(basename "$binary")" "$binary" --commit "$commit" >"$log" 2>&1
        grep '^{' "$log" >>"$out/ops.jsonl"
        grep -v '^{' "$log"
      done
      ;;
    step)
      for model in llama-3.1-8b llama-3.2-1b qwen2.5-7b; do
        log="$out/step-$model.log"
        check "step $model" "$bundle/bench_step" "$here/models/$model" --commit "$commit" >"$log" 2>&1
        grep '^{' "$log" >>"$out/ops.jsonl"
        echo "$model" && grep -v '^{' "$log"
      done
      ;;
    torch)
      check torch python3 "$here/compare_torch.py" --donar "$bundle/donar" --out "$out" --donar-flags="$flags" ;;
    devices)
      check devices python3 "$here/compare_devices.py" --donar "$bundle/donar" --out "$out" --model "$model" --text "$text" ;;
    decode | streams | prompt | load | ttft | small | qwen | start | load-file | cycles)
      check "$stage" python3 "$here/serve_bench.py" --bundle "$bundle" --out "$out" --donar-flags="$flags" "$stage" ;;
    *) usage >&2 && exit 2 ;;
  esac
done
say "done: ${#failures[@]} failed${failures[*]:+: ${failures[*]}}"
[ ${#failures[@]} -eq 0 ]
