#!/usr/bin/env python3
"""Writes tui/width_ranges.inc: which code points take no column of a terminal and which take two, from
Python's own copy of the Unicode data. Development only; standard library only.

  scripts/width_table.py > tui/width_ranges.inc
"""
import unicodedata

LAST = 0x10FFFF


# Blocks whose unassigned places are wide too (Python has no width for what is not assigned).
WIDE_BLOCKS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FFFD), (0x30000, 0x3FFFD))


def width(cp):
    c = chr(cp)
    category = unicodedata.category(c)
    if cp == 0xAD:  # soft hyphen: terminals draw it
        return 1
    if category in ("Mn", "Me", "Cf") or 0x1160 <= cp <= 0x11FF or 0xD7B0 <= cp <= 0xD7FB:
        return 0  # marks, formats; vowels and finals of Hangul join the syllable's first sign
    if category == "Cn":
        return 2 if any(first <= cp <= last for first, last in WIDE_BLOCKS) else 1
    return 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1


def ranges(wanted):
    start = None
    for cp in range(0x80, LAST + 2):
        inside = cp <= LAST and width(cp) == wanted
        if inside and start is None:
            start = cp
        elif not inside and start is not None:
            yield start, cp - 1
            start = None


def main():
    print("/* Made by scripts/width_table.py from Unicode %s. */" % unicodedata.unidata_version)
    for name, wanted in (("zero_ranges", 0), ("wide_ranges", 2)):
        items = ["{0x%x, 0x%x}," % pair for pair in ranges(wanted)]
        print("static const struct range %s[] = {" % name)
        for i in range(0, len(items), 5):
            print("    " + " ".join(items[i:i + 5]))
        print("};")


if __name__ == "__main__":
    main()
