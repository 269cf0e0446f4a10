#!/usr/bin/env bash
# Builds llama.cpp for comparisons, from the sdist of the Python package llama-cpp-python (llama_cpp.txt pins it), with the compiler's
# flags for this machine. Prints the folder with llama-bench, llama-batched-bench and llama-quantize. Quick when that is done already.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
  cat <<TXT
bench/peers/llama_cpp.sh [--dir DIR] [--jobs N] [--without-amx]
DIR: .cache/peers of the repository. Wants pip (python3 -m pip or .venv), cmake, ninja, a C++ compiler; 77 MB are downloaded once.
--without-amx: all that this machine's x86 processor has but AMX, in a folder of its own.
TXT
}

dir=$root/.cache/peers jobs=$(nproc) amx=1
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=${2:?} && shift 2 ;;
    --jobs) jobs=${2:?} && shift 2 ;;
    --without-amx) amx=0 && shift ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

read -r requirement hash <"$here/llama_cpp.txt"
version=${requirement##*==} sha256=${hash##*:}
sdist=llama_cpp_python-$version.tar.gz
source=$dir/llama_cpp_python-$version/vendor/llama.cpp
build=$dir/llama.cpp-$version
[ "$amx" -eq 1 ] || build+=-without-amx
tools=(llama-bench llama-batched-bench llama-quantize)

say() { printf '==> %s\n' "$*" >&2; }
sound() { [ -f "$1" ] && printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status; }

pip() {
  if [ -x "$root/.venv/bin/pip" ]; then "$root/.venv/bin/pip" "$@"; else python3 -m pip "$@"; fi
}

# The compiler has no "native but for": each feature by its option.
features_without_amx() {
  local flags on pair
  flags=" $(sed -n '/^flags/{s/^[^:]*://p;q}' /proc/cpuinfo) "
  echo -DGGML_NATIVE=OFF
  for pair in SSE42=sse4_2 F16C=f16c FMA=fma BMI2=bmi2 AVX=avx AVX2=avx2 AVX_VNNI=avx_vnni AVX512=avx512vl AVX512_VBMI=avx512vbmi \
    AVX512_VNNI=avx512_vnni AVX512_BF16=avx512_bf16; do
    case $flags in *" ${pair#*=} "*) on=ON ;; *) on=OFF ;; esac
    echo "-DGGML_${pair%=*}=$on"
  done
}

mkdir -p "$dir"
if ! sound "$dir/$sdist"; then
  say "Fetching $sdist (77 MB)"
  pip download --quiet --no-deps --no-binary llama-cpp-python --require-hashes --dest "$dir" -r "$here/llama_cpp.txt" >&2
  sound "$dir/$sdist" || { say "$dir/$sdist is not the file that llama_cpp.txt pins: delete it and try again" && exit 1; }
fi
if [ ! -d "$source" ]; then
  say "Unpacking $sdist"
  rm -rf "$dir/unpacked"
  mkdir "$dir/unpacked"
  tar -xzf "$dir/$sdist" -C "$dir/unpacked"
  rm -rf "${dir:?}/llama_cpp_python-$version"
  mv "$dir/unpacked/llama_cpp_python-$version" "$dir/"
  rmdir "$dir/unpacked"
fi
if [ ! -f "$build/built" ]; then
  say "Building ${tools[*]} (minutes)"
  log=$dir/build.log
  launcher=()
  command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  features=(-DGGML_NATIVE=ON)
  [ "$amx" -eq 1 ] || mapfile -t features < <(features_without_amx)
  {
    cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF "${features[@]}" \
      -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
      -DLLAMA_OPENSSL=OFF "-DCMAKE_CXX_FLAGS=-include $here/tile_config.h" "${launcher[@]}" &&
      cmake --build "$build" --parallel "$jobs" --target "${tools[@]}"
  } >"$log" 2>&1 || { tail -n 20 "$log" >&2 && say "llama.cpp does not build: $log" && exit 1; }
  touch "$build/built"
fi
echo "$build/bin"
