#!/usr/bin/env python3
"""A picture of a terminal: the text of a screen (tmux capture-pane -p) on standard input, an SVG on
standard output. Development only; standard library only.

  tmux capture-pane -t chat -p | scripts/screen_svg.py "tailor chat" > docs/chat.svg
"""
import html
import sys

CELL, LINE, MARGIN, BAR = 8.4, 19, 16, 30


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    width = max(len(line) for line in lines) * CELL + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN + BAR
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">' % ((width, height) * 2),
           '<rect width="100%" height="100%" rx="8" fill="#16181d"/>',
           '<text x="50%%" y="20" fill="#8a919e" font-family="sans-serif" font-size="13" text-anchor="middle">%s</text>'
           % html.escape(sys.argv[1] if len(sys.argv) > 1 else ""),
           '<g font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14" fill="#d6dae2">']
    for i, line in enumerate(lines):
        typed = line.startswith(("> ", "$ "))
        out.append('<text x="%d" y="%d" xml:space="preserve"%s>%s</text>' %
                   (MARGIN, BAR + MARGIN + (i + 1) * LINE - 5, ' fill="#8fc7a0"' if typed else "", html.escape(line)))
    out.append("</g></svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
