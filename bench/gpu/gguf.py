"""What a GGUF file says about itself: a reader of its metadata, and the bytes that one token reads. Standard library only."""

import math
import mmap
import struct

SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a metadata value by its type
STRING, ARRAY = 8, 9
# Values and bytes of a block, by the tensor's type.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110)}
BLOCKS |= {12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2)}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def string(self):
        size = self.take("Q")
        self.at += size
        return bytes(self.data[self.at - size : self.at])

    def skip(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            item, count = self.take("I"), self.take("Q")
            if item in SCALARS:
                self.at += SCALARS[item] * count
            else:
                for _ in range(count):
                    self.skip(item)
        else:
            self.at += SCALARS[kind]


def tensor_bytes(path):
    """Bytes of each tensor by its name."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = Reader(data)
        if reader.take("I") != 0x46554747 or reader.take("I") not in (2, 3):
            raise ValueError(f"{path} is not a GGUF file of version 2 or 3")
        num_tensors, num_values = reader.take("Q"), reader.take("Q")
        for _ in range(num_values):
            reader.string()
            reader.skip(reader.take("I"))
        sizes = {}
        for _ in range(num_tensors):
            name = reader.string().decode()
            dims = [reader.take("Q") for _ in range(reader.take("I"))]
            kind = reader.take("I")
            reader.take("Q")
            if kind not in BLOCKS:
                raise ValueError(f"{path}: {name} has type {kind}, of which no size is known here")
            values, size = BLOCKS[kind]
            sizes[name] = math.prod(dims) // values * size
        return sizes


def bytes_of_token(path):
    """Weights that one decode step must read: all but the embedding table, of which it reads a row. A table that is the head too, because
    the file has no output.weight, is read whole."""
    sizes = tensor_bytes(path)
    if "output.weight" in sizes:
        del sizes["token_embd.weight"]
    return sum(sizes.values())
