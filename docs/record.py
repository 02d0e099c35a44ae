#!/usr/bin/env python3
"""Reads one record of format 1 from standard input and prints it as JSON.

docs/record.md describes the format. Anything that deviates from it is refused
with a sentence and exit status 1.
"""

import json
import sys
import uuid

HASH, VERSION = 32, 8


class Refused(Exception):
    pass


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n > len(self.data) - self.at:
            raise Refused(f"{n} bytes at {self.at}, where {len(self.data) - self.at} are left")
        self.at += n
        return self.data[self.at - n : self.at]

    def varint(self, limit):
        number, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        if byte == 0 and shift > 0:
            raise Refused(f"a number before {self.at} is longer than needed")
        if number > limit:
            raise Refused(f"the number {number} before {self.at} is over {limit}")
        return number

    def time(self):
        return self.varint(2**50)

    def sized(self, limit):
        return self.take(self.varint(limit))


def read(data):
    r = Reader(data)
    record = {"format": r.take(1)[0]}
    if record["format"] != 1:
        raise Refused(f"format {record['format']} is not known here")
    record["id"] = str(uuid.UUID(bytes=r.take(16)))
    record["hash"] = r.take(HASH).hex()
    for name in ("created", "authenticated", "end", "written"):
        record[name] = r.time()
    record["user"] = r.sized(1024).decode()
    record["superseded"] = [{"hash": r.take(HASH).hex(), "at": r.time()} for _ in range(r.varint(16))]
    record["recent"] = [{"version": r.take(VERSION).hex(), "at": r.time()} for _ in range(r.varint(16))]
    record["values"] = []
    last = b""
    while r.at < len(data):
        name = r.sized(255)
        if name <= last:
            raise Refused(f"the name before {r.at} is empty or out of order")
        last = name
        size = r.varint(2**32)
        value = json.loads(r.take(size // 2))
        record["values"].append({"name": name.decode(), "survives": size % 2 == 1, "value": value})
    return record


if __name__ == "__main__":
    try:
        json.dump(read(sys.stdin.buffer.read()), sys.stdout, indent=1, ensure_ascii=False)
        print()
    except (Refused, ValueError) as err:
        sys.exit(f"not a record: {err}")
