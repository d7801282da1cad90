#!/usr/bin/env python3
"""A picture of a terminal: the text of a screen (tmux capture-pane -p, with -e in its colours) on
standard input, an SVG on standard output. Development only; standard library only.

  tmux capture-pane -t chat -p -e | scripts/screen_svg.py "tailor chat" > docs/chat.svg
"""
import html
import re
import sys
import unicodedata

CELL, LINE, MARGIN, BAR = 8.4, 19, 16, 30
TEXT, BACK = "#d6dae2", "#16181d"
SIXTEEN = ("#000000 #cd0000 #00cd00 #cdcd00 #0000ee #cd00cd #00cdcd #e5e5e5 "
           "#7f7f7f #ff0000 #00ff00 #ffff00 #5c5cff #ff00ff #00ffff #ffffff").split()


def color_256(i):
    if i < 16:
        return SIXTEEN[i]
    if i >= 232:
        return "#%02x%02x%02x" % ((8 + 10 * (i - 232),) * 3)
    step = (0, 95, 135, 175, 215, 255)
    i -= 16
    return "#%02x%02x%02x" % (step[i // 36], step[i // 6 % 6], step[i % 6])


def apply(codes, look):
    codes = [int(c or 0) for c in codes.split(";")]
    while codes:
        c = codes.pop(0)
        if c == 0:
            look.update(fg=None, bg=None, bold=False, under=False, reverse=False)
        elif c in (1, 4, 7):
            look[{1: "bold", 4: "under", 7: "reverse"}[c]] = True
        elif c in (38, 48) and codes:
            kind = codes.pop(0)
            n = 3 if kind == 2 else 1
            value, codes = codes[:n], codes[n:]
            look["fg" if c == 38 else "bg"] = "#%02x%02x%02x" % tuple(value) if kind == 2 else color_256(value[0])
        elif c in (39, 49):
            look["fg" if c == 39 else "bg"] = None
        elif 30 <= c <= 37 or 90 <= c <= 97:
            look["fg"] = SIXTEEN[c % 10 + (8 if c >= 90 else 0)]
        elif 40 <= c <= 47:
            look["bg"] = SIXTEEN[c % 10]


def width(text):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def pieces(line, look):
    """(column, text, look) of each run; the look goes on over line ends, as tmux writes it."""
    column = 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        code = re.match(r"\x1b\[([0-9;]*)m$", part)
        if code:
            apply(code.group(1), look)
        elif part:
            yield column, part, dict(look)
            column += width(part)


def draw(x, y, text, look):
    fg, bg = look["fg"] or TEXT, look["bg"]
    if look["reverse"]:
        fg, bg = bg or BACK, look["fg"] or TEXT
    wide = width(text) * CELL
    if bg:
        yield '<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>' % (x, y - LINE + 5, wide, LINE, bg)
    if text.strip():
        style = (' font-weight="bold"' if look["bold"] else "") + (' text-decoration="underline"' if look["under"] else "")
        yield '<text x="%.1f" y="%d" fill="%s" textLength="%.1f" lengthAdjust="spacingAndGlyphs" xml:space="preserve"%s>%s</text>' % (
            x, y, fg, wide, style, html.escape(text))


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    wide = max(width(line) for line in plain) * CELL + 2 * MARGIN
    high = len(lines) * LINE + 2 * MARGIN + BAR
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">' % ((wide, high) * 2),
           '<rect width="100%%" height="100%%" rx="8" fill="%s"/>' % BACK,
           '<text x="50%%" y="20" fill="#8a919e" font-family="sans-serif" font-size="13" text-anchor="middle">%s</text>'
           % html.escape(sys.argv[1] if len(sys.argv) > 1 else ""),
           '<g font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">']
    look = dict(fg=None, bg=None, bold=False, under=False, reverse=False)
    for i, line in enumerate(lines):
        for column, text, how in pieces(line, look):
            out.extend(draw(MARGIN + column * CELL, BAR + MARGIN + (i + 1) * LINE - 5, text, how))
    out.append("</g></svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
