#!/usr/bin/env python3
"""Draws the loss curve: curve.py TRAIN.OUT OUT.csv OUT.svg. Reads the lines that train.py prints; standard library."""
import re
import sys

KINDS = {"needles": "#c33", "facts": "#28c", "variables": "#2a5", "values": "#a3c", "several": "#c83"}
W, H, L, B, T = 640, 300, 50, 40, 24


def read(path):
    """(tokens, loss) of every tenth step, and (tokens, length, {kind: share}) of every probe."""
    loss, probes, tokens = [], [], 0
    for line in open(path, encoding="utf-8"):
        m = re.match(r"step \d+ tokens (\d+) T \d+ loss ([\d.]+) mean ([\d.]+)", line)
        if m:
            tokens = int(m[1])
            while loss and loss[-1][0] >= tokens:  # steps done again after a restart
                loss.pop()
            loss.append((tokens, float(m[3])))
        m = re.match(r"probe (\d+) \{(.+)\}", line)
        if m:
            probes.append((tokens, int(m[1]), {k: float(v) for k, v in re.findall(r"'(\w+)': ([\d.]+)", m[2])}))
    return loss, probes


def line(points, color):
    return f'<polyline fill="none" stroke="{color}" stroke-width="1.6" points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>'


def draw(loss, probes):
    far = max(t for t, _ in loss)
    high = max(v for _, v in loss)
    px = lambda t: L + (W - 2 * L) * t / far
    py = lambda v: H - B - (H - B - T) * v
    text = lambda x, y, s, c="#555", a="middle": f'<text x="{x:.0f}" y="{y:.0f}" fill="{c}" text-anchor="{a}">{s}</text>'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="sans-serif" font-size="11">',
           f'<rect width="{W}" height="{H}" fill="#fff"/>', f'<path d="M{L} {T}V{H - B}H{W - L}V{T}" fill="none" stroke="#999"/>']
    for i in range(5):
        out += [text(L - 6, py(i / 4) + 4, f"{high * i / 4:.1f}", a="end"), text(W - L + 6, py(i / 4) + 4, f"{25 * i}%", a="start"),
                text(px(far * i / 4), H - B + 15, f"{far * i / 4e6:.1f} M")]
    out += [line([(px(t), py(v / high)) for t, v in loss], "#222"), text(W / 2, H - 6, "tokens"), text(L, 14, "loss (left)", "#222", "start")]
    out += [text(L + 75, 14, "answered exactly (right):", a="start")]
    for i, kind in enumerate(KINDS):
        points = [(px(t), py(p[kind])) for t, _, p in probes if kind in p]
        out += [line(points, KINDS[kind]), text(L + 220 + 64 * i, 14, kind, KINDS[kind], "start")]
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    loss, probes = read(sys.argv[1])
    with open(sys.argv[2], "w") as h:
        h.write("tokens,loss\n" + "".join(f"{t},{v}\n" for t, v in loss))
        h.write("tokens,length," + ",".join(KINDS) + "\n")
        for t, n, p in probes:
            h.write(f"{t},{n}," + ",".join(f"{p[k]:.3f}" if k in p else "" for k in KINDS) + "\n")
    with open(sys.argv[3], "w") as h:
        h.write(draw(loss, probes))


if __name__ == "__main__":
    main()
