#!/usr/bin/env python3
"""Writes a quantized GGUF file again with its matrices in BF16, so that a comparison of devices does not compare how they treat
quantized weights. Knows Q4_0, Q4_1, Q8_0, Q6_K, F16 and F32. Wants numpy.

  unpack_gguf.py IN.gguf OUT.gguf"""

import struct
import sys

import numpy as np

from gguf import BLOCKS, Reader

F32, F16, Q4_0, Q4_1, Q8_0, Q6_K, BF16 = 0, 1, 2, 3, 8, 14, 30
KNOWN = (F32, F16, Q4_0, Q4_1, Q8_0, Q6_K, BF16)


def half(blocks, at):
    return blocks[:, at : at + 2].copy().view(np.float16).astype(np.float32)


def nibbles(packed):
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)


def values_of(kind, raw):
    if kind == F32:
        return raw.view(np.float32)
    if kind == F16:
        return raw.view(np.float16).astype(np.float32)
    blocks = raw.reshape(-1, BLOCKS[kind][1])
    if kind == Q4_0:
        return half(blocks, 0) * (nibbles(blocks[:, 2:]) - 8)
    if kind == Q4_1:
        return half(blocks, 0) * nibbles(blocks[:, 4:]) + half(blocks, 2)
    if kind == Q8_0:
        return half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)
    low, high = blocks[:, :128].reshape(-1, 2, 64), blocks[:, 128:192].reshape(-1, 2, 32)
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32).reshape(-1, 2, 8)
    quarters = []
    for q in range(4):  # of each half block of 128: 32 values in a row
        bits = low[:, :, 32 * (q % 2) : 32 * (q % 2) + 32] >> (4 * (q // 2)) & 15
        quarters.append((bits | ((high >> (2 * q)) & 3) << 4).astype(np.float32) - 32)
    values = np.stack(quarters, axis=2).reshape(-1, 2, 8, 16) * scales[:, :, :, None]
    return half(blocks, 208) * values.reshape(-1, 256)


def bf16(values):
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def main():
    data = np.fromfile(sys.argv[1], dtype=np.uint8)
    reader = Reader(memoryview(data))
    assert reader.take("I") == 0x46554747 and reader.take("I") in (2, 3), "not a GGUF file of version 2 or 3"
    num_tensors, num_values, alignment = reader.take("Q"), reader.take("Q"), 32
    for _ in range(num_values):
        key, kind = reader.string(), reader.take("I")
        if key == b"general.alignment":
            alignment = struct.unpack_from("<I", data, reader.at)[0]
        reader.skip(kind)
    out = bytearray(data[: reader.at].tobytes())
    tensors, end = [], 0
    for _ in range(num_tensors):
        name, dims = reader.string(), reader.take("I")
        shape, kind, offset = [reader.take("Q") for _ in range(dims)], reader.take("I"), reader.take("Q")
        assert kind in KNOWN, f"{name.decode()}: type {kind} is not known here"
        target = F32 if dims == 1 else BF16
        count = int(np.prod(shape))
        out += struct.pack("<Q", len(name)) + name + struct.pack(f"<I{dims}QIQ", dims, *shape, target, end)
        tensors.append((kind, target, count, offset))
        end += -(-count * BLOCKS[target][1] // alignment) * alignment
    begin = -(-reader.at // alignment) * alignment
    with open(sys.argv[2], "wb") as file:
        file.write(out + bytes(-len(out) % alignment))
        for kind, target, count, offset in tensors:
            per_block, size = BLOCKS[kind]
            at = begin + offset
            raw = data[at : at + count // per_block * size]
            if kind == BF16:
                written = raw if target == BF16 else (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                values = values_of(kind, raw).reshape(-1)
                written = bf16(values) if target == BF16 else values
            content = np.ascontiguousarray(written).tobytes()
            file.write(content + bytes(-len(content) % alignment))


if __name__ == "__main__":
    main()
