#!/usr/bin/env python3
"""Which index finds the rows that matter, at how many bytes a row: table and plot.

  bench/indexes.py --text BOOK.txt [--tailor build/release/tailor] [--model models/demo.gguf]
                   [--ctx 8192,16384] [--svg FILE.svg] [--json FILE.json] [--threads 2]

Runs `tailor fit --indexes` once for each context, prints its command and a Markdown table (recall of the
attention mass of the best rows, in percent; a column for each context and number of rows chosen), and draws
recall over bytes. --json keeps what the runs said; a file that is there already is drawn again instead of
measured. Standard library only.
"""
import argparse
import json
import math
import os
import subprocess
import sys

FAMILIES = [  # prefix or name, colour, mark; the first that fits
    ("exact", "#888888", "exact keys (the rule of choice itself)"),
    ("vq", "#cc4433", "codebooks, built in"),
    ("fitted", "#e8a33d", "codebooks, fitted"),
    ("centred", "#701c1c", "codebooks, centred keys"),
    ("rotated", "#2a7f4f", "codes after rotation"),
    ("signs", "#7b4fa3", "signs and a norm"),
    ("int", "#3b73af", "codes"),
    ("channels", "#444444", "channels"),
    ("bounds", "#a07855", "page bounds"),
    ("mean+std", "#d46fa8", "mean + deviation of pages"),
]


def family(name):
    if name.startswith("vq"):
        return {"fitted": "fitted", "centred": "centred"}.get(name.split()[-1], "vq")
    if name.startswith("int") and name.endswith("rotated"):
        return "rotated"
    return next(f for f, _, _ in FAMILIES if name.startswith(f))


def measure(args, ctx):
    command = [args.tailor, "fit", "-m", args.model, "-f", args.text, "-c", str(ctx), "--indexes",
               "-t", str(args.threads), "--json"]
    print("    " + " ".join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    measured = json.loads(done.stdout)["measured"]
    return {"tokens": measured["tokens"], **measured["indexes"]}


def table(runs):
    rows = runs[0]["rows"]
    heads = [f"{r['tokens']}: best {n}" for r in runs for n in rows]
    print("\n| index | bytes a row | " + " | ".join(heads) + " |")
    print("|---|--:|" + "--:|" * len(heads))
    for ways in zip(*(r["ways"] for r in runs)):
        cells = [f"{100 * x:.1f}" for w in ways for x in w["recall"]]
        print(f"| {ways[0]['index']} | {ways[0]['row_bytes']:.2f} | " + " | ".join(cells) + " |")


class Panel:
    W, H = 400, 250

    def __init__(self, x, y, title, points):
        self.x, self.y, self.title, self.points = x, y, title, points
        self.least, self.most = math.log2(6), math.log2(160)

    def at(self, row_bytes, recall):
        across = (math.log2(row_bytes) - self.least) / (self.most - self.least)
        return self.x + across * self.W, self.y + self.H * (1 - recall)

    def draw(self):
        out = [f'<text x="{self.x}" y="{self.y - 8}" font-weight="bold">{self.title}</text>']
        for i in range(0, 101, 20):
            _, y = self.at(8, i / 100)
            out.append(f'<path d="M{self.x} {y:.1f}h{self.W}" stroke="#e2e2e2"/>'
                       f'<text x="{self.x - 6}" y="{y + 4:.1f}" text-anchor="end">{i}</text>')
        for b in (8, 12, 16, 20, 32, 64, 128):
            x, _ = self.at(b, 0)
            out.append(f'<path d="M{x:.1f} {self.y}v{self.H}" stroke="#f0f0f0"/>'
                       f'<text x="{x:.1f}" y="{self.y + self.H + 14}" text-anchor="middle">{b}</text>')
        for name, colour, _ in FAMILIES:
            mine = sorted(p for p in self.points if p[0] == name)
            path = " ".join("%s%.1f %.1f" % ("L" if i else "M", *self.at(b, r)) for i, (_, b, r, _) in enumerate(mine))
            out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            for _, b, r, label in mine:
                x, y = self.at(b, r)
                out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}">'
                           f'<title>{label}: {b:.2f} bytes, {100 * r:.1f} %</title></circle>')
        return out


def plot(runs, title, path):
    rows, shown = runs[0]["rows"], (0, 1)
    width, height = 60 + len(runs) * (Panel.W + 60), 96 + len(shown) * (Panel.H + 60)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="50" y="22" font-size="15" font-weight="bold">{title}</text>']
    for i, (_, colour, name) in enumerate(FAMILIES):
        x, y = 50 + i % 5 * 178, 42 + i // 5 * 16
        out.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colour}"/><text x="{x + 9}" y="{y}">{name}</text>')
    for i, run in enumerate(runs):
        for line, j in enumerate(shown):
            points = [(family(w["index"]), w["row_bytes"], w["recall"][j], w["index"]) for w in run["ways"]]
            title = f"{run['tokens']} tokens, {rows[j]} rows a head: % of the best rows' attention, by bytes a row"
            out += Panel(50 + i * (Panel.W + 60), 92 + line * (Panel.H + 60), title, points).draw()
    with open(path, "w") as f:
        f.write("\n".join(out + ["</svg>\n"]))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tailor", default="build/release/tailor")
    p.add_argument("--model", default="models/demo.gguf")
    p.add_argument("--text", required=True)
    p.add_argument("--ctx", default="8192,16384")
    p.add_argument("--svg")
    p.add_argument("--json")
    p.add_argument("--threads", type=int, default=2)
    args = p.parse_args()
    if args.json and os.path.exists(args.json):
        with open(args.json) as f:
            runs = json.load(f)
    else:
        runs = [measure(args, int(n)) for n in args.ctx.split(",")]
        if args.json:
            with open(args.json, "w") as f:
                json.dump(runs, f)
    table(runs)
    if args.svg:
        plot(runs, f"Which index finds the rows that matter: {os.path.basename(args.model)}, "
             f"{os.path.basename(args.text)}", args.svg)


if __name__ == "__main__":
    main()
