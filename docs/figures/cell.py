"""The picture of a cell's steps, for light and for dark pages: ``python docs/figures/cell.py`` writes it."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parents[1] / "static"
COLOURS = {  # ink, muted, line, box, accent
    "light": ("#1f2933", "#52606d", "#829ab1", "#f5f7fa", "#a33d12"),
    "dark": ("#e4e7eb", "#b8c4d0", "#7b8794", "#26303b", "#f0a07a"),
}
TALL, SHORT, BESIDE = 116, 52, 12
COLUMNS, WIDTH, GAP = tuple(range(1, 700, 143)), 127, 16
UPPER, LOWER, LABELS = 26, 184, 342
BOXES = (  # column, top, height, name, caption, and the stages that make it
    (0, UPPER, SHORT, "subject", ("the model",), ()),
    (0, UPPER + SHORT + BESIDE, SHORT, "batch", ("the examples",), ()),
    (1, UPPER, TALL, "recording", ("what units do on", "half of the batch"), ()),
    (2, UPPER, TALL, "activity", ("one number per", "example and unit"), ("signal", "transform")),
    (3, UPPER, TALL, "spins", ("activity as", "−1 or +1"), ("binarizer",)),
    (4, UPPER, TALL, "affinity", ("how alike two", "units behave"), ("affinity",)),
    (0, LOWER, TALL, "partition", ("units in groups",), ("partitioner", "chooser")),
    (1, LOWER, TALL, "candidates", ("groups that", "will be tested"), ("selector",)),
    (2, LOWER, TALL, "closure", ("ablation, on the", "other half"), ("intervention", "controls · metric")),
    (3, LOWER, TALL, "record", ("complete result:", "record.json"), ()),
    (4, LOWER, SHORT, "boards", ("methods, ranked",), ()),
    (4, LOWER + SHORT + BESIDE, SHORT, "MLflow", ("a mirror",), ()),
)
TITLE = (
    "The steps of a cell: subject and batch, recording, activity, spins, affinity, partition, candidates, closure,"
    " record. Boards and MLflow are made from records."
)


def middle(column: int) -> float:
    """The centre of a column."""
    return COLUMNS[column] + WIDTH / 2


def picture(theme: str) -> str:
    """The SVG, 700 units wide."""
    ink, muted, line, fill, accent = COLOURS[theme]
    dashes = 'stroke-dasharray="5 4"'

    def text(at: float, y: float, words: str, kind: str) -> str:
        return f'<text x="{at}" y="{y}" class="{kind}">{words}</text>'

    def arrow(path: str, more: str = "") -> str:
        return f'<path d="{path}" class="arrow" {more}/>'

    parts = [
        text(middle(2), 14, "propose: cheap statistics", "part"),
        text(middle(2), LOWER + TALL + 20, "dispose: causal test", "part"),
    ]
    for column, top, height, name, caption, stages in BOXES:
        parts.append(f'<rect x="{COLUMNS[column]}" y="{top}" width="{WIDTH}" height="{height}" rx="6" class="box"/>')
        parts.append(text(middle(column), top + (23 if height == TALL else 21), name, "name"))
        parts += [
            text(middle(column), top + (44 if height == TALL else 40) + 15 * place, words, "caption")
            for place, words in enumerate(caption)
        ]
        parts += [
            text(middle(column), top + TALL - 25 + 14 * place, words, "stage") for place, words in enumerate(stages)
        ]
    for top in (UPPER, LOWER):
        parts += [arrow(f"M{COLUMNS[c] - GAP + 1} {top + TALL / 2}h{GAP - 4}") for c in range(1, 5)]
    turn = (UPPER + TALL + LOWER) / 2
    parts += [
        arrow(f"M{middle(4)} {UPPER + TALL}V{turn}H{middle(0)}V{LOWER - 3}"),
        f'<rect x="{COLUMNS[0]}" y="{LABELS}" width="{2 * WIDTH + GAP}" height="42" rx="6" class="line" {dashes}/>',
        text(COLUMNS[0] + WIDTH + GAP / 2, LABELS + 18, "labels: classes that are known", "caption"),
        text(COLUMNS[0] + WIDTH + GAP / 2, LABELS + 33, "only for methods that ask for them", "caption"),
        *(arrow(f"M{middle(c)} {LABELS}V{LOWER + TALL + 4}", dashes) for c in (0, 1)),
    ]
    style = (
        f"text{{text-anchor:middle;font-family:system-ui,sans-serif;fill:{muted}}} .box,.line,.arrow{{stroke:{line}}}"
        f" .box{{fill:{fill}}} .line,.arrow{{fill:none}} .arrow{{stroke-width:1.6;marker-end:url(#tip)}}"
        f" .name{{font-size:15px;font-weight:600;fill:{ink}}} .caption{{font-size:12px}}"
        f" .stage{{font-size:11px;font-family:ui-monospace,monospace;fill:{accent}}}"
        f" .part{{font-size:12.5px;font-weight:600;fill:{accent}}}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 701 {LABELS + 44}" width="701" role="img">',
            f"<title>{TITLE}</title>",
            f"<style>{style}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{line}"/></marker></defs>',
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    for theme in COLOURS:
        (STATIC / f"cell-{theme}.svg").write_text(picture(theme), encoding="utf-8")
