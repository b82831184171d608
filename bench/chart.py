"""SVG charts of benchmarks."""
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
    """minim's time over the best peer's, a dot a cell, on a logarithmic axis."""
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


STORAGES = {"whole": "#2563eb", "sqrt": "#111", "half": "#059669", "int8": "#d97706", "int4": OTHER}
PANEL, GAP, HEIGHT = 300, 80, 220


def panel(rows, left, top, title, of, unit):
    """One model's curves: of(row) over the share of the arena that is left."""
    values = [of(row) for row in rows]
    low, high = min(values), max(values)
    low, high = low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1)

    def at(row):
        return left + row["arena_share"] * PANEL, top + HEIGHT - (of(row) - low) / (high - low) * HEIGHT

    out = text(left, top - 8, title, font_weight="bold")
    for i in range(5):
        x, y = left + PANEL * i / 4, top + HEIGHT * i / 4
        out += f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + HEIGHT}" stroke="#ddd"/>\n'
        out += f'<line x1="{left}" x2="{left + PANEL}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>\n'
        out += text(x, top + HEIGHT + 16, f"{25 * i} %", text_anchor="middle")
        out += text(left - 6, y + 4, f"{high - (high - low) * i / 4:.3g}{unit}", text_anchor="end")
    for storage, colour in STORAGES.items():
        points = sorted(at(row) for row in rows if row["storage"] == storage)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        out += f'<polyline points="{line}" fill="none" stroke="{colour}"/>\n'
        out += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>\n' for x, y in points)
    return out


def checkpoint_chart(rows):
    """Step time and loss over the share of the activation memory that a budget leaves, a row a model."""
    names = list(dict.fromkeys(row["model"] for row in rows))
    width, height = 2 * (PANEL + GAP) + 20, len(names) * (HEIGHT + 70) + 60
    title = "A training step within a budget: time and loss over the arena's share"
    out = (f'<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img" '
           f'font-family="sans-serif" font-size="12"><title>{title}</title>\n'
           f'<rect width="{width}" height="{height}" fill="white"/>\n')
    out += text(16, 20, title, font_size=14, font_weight="bold")
    for i, (storage, colour) in enumerate(STORAGES.items()):
        out += f'<circle cx="{70 + 90 * i}" cy="38" r="4" fill="{colour}"/>' + text(78 + 90 * i, 42, storage)
    for i, name in enumerate(names):
        mine, top = [row for row in rows if row["model"] == name], 80 + i * (HEIGHT + 70)
        out += panel(mine, 70, top, f"{name}: time of a step", lambda row: row["time_ratio"], "x")
        out += panel(mine, 70 + PANEL + GAP, top, f"{name}: last loss", lambda row: row["loss"], "")
    return out + "</svg>\n"
