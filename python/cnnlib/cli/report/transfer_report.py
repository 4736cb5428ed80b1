"""The page about a network that others trained and a folder's images: results, and what to do about them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib.cli.report import html_page as html
from cnnlib.cli.report.certainty import about_doubling, first_remarks, interval_text, percent
from cnnlib.pretrained.head import Fit, by_count, doubtful_labels, near_duplicates, nearest, plane

_MISTAKES, _NEIGHBOURS, _DOUBTFUL, _DUPLICATES = 12, 3, 24, 24  # images that are shown
_POINTS, _THUMBNAIL = 500, 32  # of the map: images, and their pixels
_COLOURS = (
    "#1f77b4 #ff7f0e #2ca02c #d62728 #9467bd #8c564b #e377c2 #7f7f7f #bcbd22 #17becf"  # matplotlib's tab10
).split()


@dataclass
class Transfer:
    """All that is known of a run: images and their features by split, the head, the test's scores."""

    name: str
    data: dict[str, Any]
    learned: dict[str, Any]
    part: str
    scores: np.ndarray
    fit: Fit
    tuned: Fit | None
    options: Any
    seconds: float

    def __post_init__(self):
        self.word = "test" if self.part == "test" else "validation"
        self.classes, self.y = self.data["classes"], self.data[f"y_{self.part}"]
        self.seen = self.scores.argmax(axis=1)
        self.right = self.seen == self.y
        # Features of the training images as they are, without their other views.
        self.rows = np.asarray(self.learned["X_train"][: len(self.data["y_train"])])
        self.tested = self.gallery(self.part, self.scores)
        self.learned_from = self.gallery("train", self.fit.model.loss(self.rows))

    def gallery(self, part, scores):
        X, y, files = (self.data[f"{name}_{part}"] for name in ("X", "y", "files"))
        return html.Gallery(X, y, scores, self.data["classes"], files)


def transfer_report(about: Transfer) -> str:
    """The page, a str."""
    makers = {
        "the result": _result,
        "the near duplicates": _duplicates,
        "the number of photos": _by_count,
        "the classes": _classes,
        "the mistakes": _mistakes,
        "the doubtful labels": _doubtful,
        "the map": _map,
    }
    title = f"{about.name}: photos and a network that others trained"
    return html.page(title, html.parts_of(makers, about))


def _result(about):
    right = about.right
    figures = [
        (f"{about.part}_accuracy", percent(right.mean(), len(right))),
        ("right", f"{right.sum():,} of {len(right):,}"),
        ("19 times of 20", interval_text(int(right.sum()), len(right))),
        ("val_accuracy of the head", percent(about.fit.val_accuracy, len(about.data["y_val"]))),
        ("training images", f"{len(about.data['y_train']):,}"),
        ("features", f"{about.learned['X_train'].shape[1]:,}"),
        ("seconds", f"{about.seconds:,.1f}"),
    ]
    if about.tuned is not None:
        fine = percent(about.tuned.val_accuracy, len(about.data["y_val"]))
        figures.insert(4, ("val_accuracy, fine-tuned", fine))
    settings = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in about.fit.settings.items())
    about_head = f"Settings of the head, found by validation: {settings}."
    trained = float(np.mean(about.fit.model.loss(about.rows).argmax(axis=1) == about.data["y_train"]))
    remarks = first_remarks(right, about.y, about.classes, trained)
    return html.key_figures(figures) + "".join(map(html.paragraph, [*remarks, about_head]))


def _duplicates(about):
    pairs = near_duplicates(np.asarray(about.learned[f"X_{about.part}"]), about.rows)
    if not pairs:
        return ""
    right = about.right
    others = np.setdiff1d(np.arange(len(right)), [k for k, _, _ in pairs])
    rest = f"; without them it is {percent(right[others].mean(), len(others))}" if len(others) else ""
    text = (
        f"{len(pairs)} of {len(right)} {about.word} images nearly equal a training image, so the accuracy "
        f"says too much{rest}. Put copies into one place, or remove them."
    )
    shown = [
        html.in_a_gallery(about.tested.figures([k]) + about.learned_from.figures([place]))
        for k, place, _ in pairs[:_DUPLICATES]
    ]
    return html.section(
        "Near duplicates in training and test", html.paragraph(text), html.side_by_side(*shown)
    )


def _by_count(about):
    views = len(about.learned["y_train"]) // len(about.data["y_train"])
    found = by_count(about.learned, about.part, len(about.classes), about.fit, about.options.hidden, views)
    tested = len(about.right)
    rows = [(f"{count:.0f}", percent(share, tested), share) for count, share in found]
    text = about_doubling(found[-2][1], found[-1][1], tested)
    columns = [("photos a class", "number"), (f"{about.part}_accuracy", "number"), ("", "bar")]
    return html.section("Are more photos worth while?", html.table(columns, rows), html.paragraph(text))


def _classes(about):
    rows = []
    for k, name in enumerate(about.classes):
        own = about.seen[about.y == k]
        share = float(np.mean(own == k)) if len(own) else 0.0
        wrong = np.bincount(own[own != k], minlength=len(about.classes))
        taken = about.classes[wrong.argmax()] if wrong.any() else ""
        learned = int(np.sum(about.data["y_train"] == k))
        rows.append((name, f"{learned:,}", f"{np.sum(own == k)} of {len(own)}", share, taken))
    columns = [("class", "text"), ("learned from", "number"), ("right", "number"), ("", "bar")]
    return html.section("Classes", html.table([*columns, ("mostly taken for", "text")], rows))


def _mistakes(about):
    wrong = about.tested.mistakes(_MISTAKES)
    if not len(wrong):
        return ""
    places, _ = nearest(np.asarray(about.learned[f"X_{about.part}"])[wrong], about.rows, _NEIGHBOURS)
    parts = []
    for number, near in zip(wrong, places, strict=True):
        name = about.data[f"files_{about.part}"][number].name
        own = ", ".join(about.classes[k] for k in about.data["y_train"][near])
        parts.append(html.heading(f"{name}, and the nearest photos that were learned from: {own}"))
        parts.append(html.in_a_gallery(about.tested.figures([number]) + about.learned_from.figures(near)))
    return html.section("Mistakes, the surest first", *parts)


def _doubtful(about):
    """Training photos whose label a head doubts that has not learned from them."""
    y = about.data["y_train"]
    p = doubtful_labels(about.rows, y, len(about.classes), about.fit, about.options.hidden)
    own = p[np.arange(len(y)), y]
    rows = np.flatnonzero(p.argmax(axis=1) != y)
    rows = rows[np.argsort(own[rows], kind="stable")]
    if not len(rows):
        return ""
    text = (
        f"{len(rows)} of {len(y)} training photos look like another class to a head that has learned from "
        "the others alone; the most doubtful come first. Look whether they lie in the right folder."
    )
    gallery = about.gallery("train", np.log(np.maximum(p, 1e-12)))
    return html.section("Doubtful labels", html.paragraph(text), gallery.html(rows[:_DOUBTFUL]))


def _map(about):
    """Photos where their features lie in the plane."""
    rows = np.sort(np.random.default_rng(0).permutation(len(about.rows))[:_POINTS])
    X, y = about.rows[rows], about.data["y_train"][rows]
    if len(rows) < 5:
        return ""
    names = [html.escape(name) for name in about.classes]
    colours = [_COLOURS[k % len(_COLOURS)] for k in range(len(names))]
    legend = " ".join(
        f'<span style="border-left: .8rem solid {colour}; padding: 0 1rem 0 .3rem">{name}</span>'
        for name, colour in zip(names, colours, strict=True)
    )
    images = [
        html.data_url("jpeg", html.thumbnail(about.data["files_train"][row], _THUMBNAIL, quality=70))
        for row in rows
    ]
    methods = ["PCA"] + (["t-SNE"] if importlib.util.find_spec("sklearn") else [])
    maps = []
    for method in methods:
        points = 12 + 776 * plane(X, method)
        marks = [
            f'<g transform="translate({x:.0f} {800 - z:.0f})"><title>{names[k]}</title>'
            f'<rect x="-12" y="-12" width="24" height="24" fill="{colours[k]}"/>'
            f'<image x="-10" y="-10" width="20" height="20" href="{image}"/></g>'
            for (x, z), k, image in zip(points, y, images, strict=True)
        ]
        svg = f'<svg viewBox="0 0 800 800" role="img" aria-label="map by {method}">{"".join(marks)}</svg>'
        maps.append(html.heading(method) + svg)
    return html.section("Map of the features", f"<p>{legend}</p>", html.side_by_side(*maps))
