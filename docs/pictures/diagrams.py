"""Draw the diagrams of how-it-is-fast.md as SVG: `python docs/pictures/diagrams.py docs/images`."""

import sys
from pathlib import Path

INK, FAINT, PAPER = "#2b2b2b", "#b9bec6", "#ffffff"
IMAGE, FILTER, OUTPUT = "#9ec9e8", "#f5c08a", "#a9d8a2"  # the same thing has the same colour in all three
CELL = 16


class Drawing:
    """An SVG under construction; lengths in pixels."""

    def __init__(self, width, height, title):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" font-family="sans-serif" font-size="13">',
            f"<title>{title}</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>',
            f'<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
            f'<path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
        ]

    def box(self, x, y, width, height, fill="none", stroke=INK, dash="", rounding=0):
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{rounding}" fill="{fill}" '
            f'stroke="{stroke}"{dashes}/>'
        )

    def grid(self, x, y, rows, columns, fill="none", cell=CELL, stroke=FAINT):
        for row in range(rows):
            for column in range(columns):
                self.box(x + column * cell, y + row * cell, cell, cell, fill, stroke)
        self.box(x, y, columns * cell, rows * cell)

    def text(self, x, y, *lines, anchor="middle", size=13, weight="normal"):
        for number, line in enumerate(lines):
            self.parts.append(
                f'<text x="{x}" y="{y + number * size * 1.3:.0f}" text-anchor="{anchor}" font-size="{size}" '
                f'font-weight="{weight}" fill="{INK}">{line}</text>'
            )

    def arrow(self, x0, y0, x1, y1):
        self.parts.append(
            f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="{INK}" stroke-width="1.4" '
            f'marker-end="url(#tip)"/>'
        )

    def __str__(self):
        return "\n".join([*self.parts, "</svg>", ""])


def implicit_gemm():
    """The matrix product that a convolution is, and the matrix that is never built."""
    d = Drawing(760, 400, "Convolution as a matrix product whose second matrix is read from the image")
    d.text(110, 30, "filters", "F x (C KH KW)", weight="bold")
    d.grid(46, 70, 6, 8, FILTER)
    d.box(46, 70, 8 * CELL, 3 * CELL, "none", INK)
    d.text(110, 190, "a panel: the rows of a tile,", "packed once")
    d.text(196, 122, "x", size=20)
    d.text(330, 30, "columns (C KH KW) x (N OH OW)", "never built", weight="bold")
    d.box(216, 60, 14 * CELL, 8 * CELL, "none", INK, "5 4")
    for row in range(8):
        d.box(216 + 3 * CELL, 60 + row * CELL, 4 * CELL, CELL, IMAGE, FAINT)
    d.text(460, 122, "=", size=20)
    d.text(600, 30, "output", "F x (N OH OW)", weight="bold")
    d.grid(484, 70, 6, 14, PAPER)
    d.box(484 + 3 * CELL, 70, 4 * CELL, 3 * CELL, OUTPUT)
    d.text(600, 190, "the tile: sums that stay in registers", "until all rows k are added up")
    # Below: one row k is the image, shifted by a tap.
    d.text(172, 250, "the image, as it lies in memory", weight="bold")
    d.grid(80, 264, 6, 12, PAPER)
    d.box(80 + 3 * CELL, 264 + 2 * CELL, 4 * CELL, CELL, IMAGE)
    d.box(80 + 4 * CELL, 264 + 2 * CELL, 4 * CELL, CELL, "none", INK, "3 3")
    d.box(80 + 3 * CELL, 264 + 3 * CELL, 4 * CELL, CELL, "none", INK, "3 3")
    d.arrow(300, 264 + 2.5 * CELL, 352, 264 + 2.5 * CELL)
    d.text(362, 280, "Row k = (c, a, b) of the columns is the image of channel c,", anchor="start")
    d.text(362, 298, "read from another place: tap (a, b) is a constant distance", anchor="start")
    d.text(362, 316, "in memory. A vector of neighbouring outputs reads a vector", anchor="start")
    d.text(362, 334, "of neighbouring pixels, and the next tap the same vector,", anchor="start")
    d.text(362, 352, "one pixel or one row further.", anchor="start")
    return d


def winograd():
    """F(4x4, 3x3): 36 multiplications for 16 outputs."""
    d = Drawing(760, 360, "Winograd's minimal filtering, F(4x4, 3x3)")
    d.text(84, 34, "image tile d, 6x6", weight="bold")
    d.grid(36, 48, 6, 6, IMAGE)
    d.arrow(142, 96, 218, 96)
    d.text(180, 84, "B' d B")
    d.grid(228, 48, 6, 6, IMAGE)
    d.text(276, 34, "36 points", weight="bold")
    d.text(84, 214, "filter g, 3x3", weight="bold")
    d.grid(60, 228, 3, 3, FILTER)
    d.arrow(142, 252, 218, 252)
    d.text(180, 240, "G g G'")
    d.grid(228, 204, 6, 6, FILTER)
    d.text(276, 318, "once for all tiles")
    d.arrow(334, 110, 384, 146)
    d.arrow(334, 240, 384, 204)
    d.text(452, 122, "at each of the 36 points", weight="bold")
    d.box(392, 134, 120, 84, PAPER, INK, "", 6)
    d.text(452, 160, "filters x channels", "times", "channels x tiles")
    d.text(452, 240, "a matrix product each:", "this is where the time goes")
    d.arrow(520, 176, 596, 176)
    d.text(558, 164, "A' m A")
    d.grid(612, 144, 4, 4, OUTPUT)
    d.text(644, 130, "16 outputs", weight="bold")
    d.text(644, 232, "36 multiplications", "instead of 16 x 9 = 144")
    return d


def cache_blocks():
    """What stays where while a block is computed."""
    d = Drawing(760, 330, "Which operand stays in which level of the memory")
    d.box(16, 16, 728, 298, "#f4f5f7", INK, "", 8)
    d.text(
        34,
        40,
        "memory: images, filters, results; each read and written as few times as possible",
        anchor="start",
    )
    d.box(36, 56, 560, 240, "#e6ecf3", INK, "", 8)
    d.text(54, 80, "second-level cache (0.25 to 2 MB): a block of the image,", anchor="start")
    d.text(54, 97, "staged with its padding, which every panel of filters reads again", anchor="start")
    d.grid(56, 112, 10, 5, IMAGE)
    d.box(156, 112, 420, 170, "#d5e3d8", INK, "", 8)
    d.text(174, 136, "first-level cache (32 or 48 KB): a panel of filters,", anchor="start")
    d.text(174, 153, "which every tile of the block reads again", anchor="start")
    d.grid(176, 170, 6, 3, FILTER)
    d.box(248, 170, 308, 98, PAPER, INK, "", 8)
    d.text(266, 192, "registers: the tile's sums, rows of filters x", anchor="start")
    d.text(266, 209, "two vectors of pixels, 14 x 32 with AVX-512", anchor="start")
    d.grid(268, 220, 2, 16, OUTPUT)
    d.box(612, 56, 116, 240, PAPER, INK, "", 8)
    d.text(670, 80, "results", weight="bold")
    d.grid(630, 96, 10, 5, OUTPUT)
    d.text(670, 278, "from the registers", size=11)
    d.arrow(560, 236, 626, 190)
    return d


def main():
    folder = Path(sys.argv[1])
    for draw in (implicit_gemm, winograd, cache_blocks):
        (folder / f"{draw.__name__.replace('_', '-')}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
