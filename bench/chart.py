"""One SVG chart: minim's time over the best peer's, a dot a cell, on a logarithmic axis."""
import math
from xml.sax.saxutils import escape

LEFT, RIGHT, TOP, LINE, WIDTH = 170, 30, 62, 18, 760
COLOURS = {1: "#2563eb", 8: "#059669", 32: "#d97706"}
OTHER = "#7c3aed"


def x_of(ratio, low, high):
    return LEFT + (math.log(ratio) - math.log(low)) / (math.log(high) - math.log(low)) * (WIDTH - LEFT - RIGHT)


def ticks(low, high):
    return [t for t in (0.05, 0.1, 0.2, 0.33, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200) if low <= t <= high]


def text(x, y, words, **style):
    extra = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in style.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{escape(words)}</text>\n'


def grid(low, high, bottom):
    out = ""
    for tick in ticks(low, high):
        x = x_of(tick, low, high)
        colour, width = ("#111", 1.5) if tick == 1 else ("#ddd", 1)
        out += (f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom}" stroke="{colour}" '
                f'stroke-width="{width}"/>\n')
        out += text(x, bottom + 16, f"{tick:g}", text_anchor="middle")
    return out


def legend(batches):
    out, x = "", LEFT
    for batch in batches:
        out += f'<circle cx="{x}" cy="38" r="4" fill="{COLOURS.get(batch, OTHER)}"/>'
        out += text(x + 8, 42, f"batch {batch}")
        x += 80
    return out + text(x, 42, "filled: 1 thread, open: more")


def dot(row, y, low, high):
    colour = COLOURS.get(int(row["batch"]), OTHER)
    fill = colour if int(row["threads"]) == 1 else "white"
    x = x_of(float(row["ratio"]), low, high)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>\n'


def ratio_chart(rows):
    rows = [r for r in rows if r.get("ratio")]
    names = list(dict.fromkeys((r["model"], r["precision"]) for r in rows))
    ratios = [float(r["ratio"]) for r in rows] or [1]
    low, high = min(0.45, min(ratios) / 1.1), max(2.2, max(ratios) * 1.1)
    bottom = TOP + LINE * len(names)
    title = "minim's time over the best peer's, same precision (left of 1: minim is faster)"
    out = (f'<svg viewBox="0 0 {WIDTH} {bottom + 30}" xmlns="http://www.w3.org/2000/svg" role="img" '
           f'font-family="sans-serif" font-size="12"><title>{title}</title>\n'
           f'<rect width="{WIDTH}" height="{bottom + 30}" fill="white"/>\n')
    out += text(16, 20, title, font_size=14, font_weight="bold")
    out += legend(sorted({int(r["batch"]) for r in rows})) + grid(low, high, bottom)
    for i, (model, precision) in enumerate(names):
        y = TOP + LINE * i + 4
        out += text(LEFT - 10, y + 4, f"{model} {precision.upper()}", text_anchor="end")
        out += "".join(dot(r, y, low, high) for r in rows if (r["model"], r["precision"]) == (model, precision))
    return out + "</svg>\n"
