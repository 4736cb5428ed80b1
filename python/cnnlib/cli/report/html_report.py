"""The page about a training run: what came out, how it went, what was learnt, where the time goes."""

import importlib.util
import math
import platform
import time
import warnings
from pathlib import Path

import numpy as np

from cnnlib._system.config import current_config
from cnnlib._system.text import shape_text
from cnnlib.cli.options.config_file import setting_text
from cnnlib.cli.options.settings import defaults, has_defaults
from cnnlib.cli.report import html_page as html
from cnnlib.cli.report.certainty import first_remarks, interval_text, percent
from cnnlib.cli.run.trained import calibration_images
from cnnlib.inference import prepare
from cnnlib.inference.scoring import BatchScorer
from cnnlib.runs.data_sets import OF_FILES
from cnnlib.runs.log import history
from cnnlib.solver.histories import metrics_of, val_name
from cnnlib.solver.metrics import likeliest

_SHOWN_CLASSES = 12  # more are folded away
_MISTAKES, _NEAR_MISSES, _TYPICAL = 24, 12, 4  # images: in all, in all, of each class


def report(run, solver, data, part, scores, values, pictures):
    """The page, a str.

    `scores` (N, ...) are those of the split `part` ('test' or 'val') of the `data`, and `values` its metrics
    by name; the `solver` is at its end. `pictures` is None where matplotlib is not installed.
    """
    X, y, task = data[f"X_{part}"], data[f"y_{part}"], run.data_set.task
    right = likeliest(scores) == y if task == "classes" else None
    makers = {
        "the result": lambda: _result(run, solver, part, y, values, right),
        "the curves": lambda: _curves(solver, pictures),
    }
    if task == "classes":
        gallery = html.Gallery(X, y, scores, run.data_set.classes, data.get(f"files_{part}"))
        makers["the classes"] = lambda: _classes(run, part, y, right, pictures)
        if importlib.util.find_spec("PIL") is not None:
            makers |= {
                "the mistakes": lambda: _gallery(
                    "Mistakes, the surest first", gallery, gallery.mistakes(_MISTAKES)
                ),
                "the near misses": lambda: _gallery(
                    "Near misses: right, but only just", gallery, gallery.near_misses(_NEAR_MISSES)
                ),
                "the classes' images": lambda: _typical(gallery),
            }
        if pictures is not None:
            makers["the filters"] = lambda: _filters(pictures)
        makers["the eight bits"] = lambda: _eight_bits(run, solver, data, part, right)
        makers["the time by layer"] = lambda: _time_by_layer(solver)
    elif pictures is not None:
        makers["the samples"] = lambda: _samples(pictures)
    makers |= {
        "the network": lambda: _network(solver.model),
        "the settings": lambda: _settings(run),
        "the environment": lambda: _environment(run),
    }
    source, model = run.config.source, run.config.network.name
    name = Path(source.folder).name if source.name == "folder" else source.name
    return html.page(f"{run.folder.resolve().name}: {model} on {name}", html.parts_of(makers))


def best_value_name(solver):
    """Name :func:`best_value`."""
    name = val_name(metrics_of(solver.histories)[0])
    if solver.options.keep == "last":
        return f"last {name}"
    return f"best {name}" if solver.monitored == name else f"{name} at the best {solver.monitored}"


def best_value(solver, shares=False):
    """The first metric of the validation samples in the epoch that is kept, as text."""
    metric = metrics_of(solver.histories)[0]
    value = solver.histories[val_name(metric)][solver.best_epoch]
    return percent(value, len(solver.y_val)) if shares and metric == "accuracy" else f"{value:.4f}"


def _result(run, solver, part, y, values, right):
    counts = f"{len(solver.X_train):,} training and {len(solver.X_val):,} validation images"
    size = shape_text(run.data_set.shape)
    seconds = sum(solver.epoch_seconds)
    figures = [
        (f"{part}_{name}", percent(value, len(y)) if name == "accuracy" else f"{value:.4g}")
        for name, value in values.items()
    ]
    remarks = []
    if right is not None:
        figures.append(("right", f"{right.sum():,} of {len(right):,}"))
        figures.append(("19 times of 20", interval_text(int(right.sum()), len(right))))
        known = solver.histories.get("train_accuracy")
        trained = 0.0 if known is None else known[solver.best_epoch]
        remarks = first_remarks(right, y, run.data_set.classes, trained)
    figures += [
        (best_value_name(solver), f"{best_value(solver, shares=True)} (epoch {solver.best_epoch})"),
        ("epochs", f"{solver.epoch} of {solver.num_epochs}"),
        ("training time", f"{seconds:,.1f} s"),
        ("parameters", f"{sum(w.size for w in solver.model.params.values()):,}"),
    ]
    if seconds > 0:
        figures.append(("images a second", f"{len(solver.X_train) * solver.epoch / seconds:,.0f}"))
    outputs = f"{len(run.data_set.classes)} {'classes' if run.data_set.task == 'classes' else 'outputs'}"
    about = f"{counts} of {size} in {outputs}"
    checkpoint = run.newest_checkpoint(solver.epoch)
    ended = time.strftime("%Y-%m-%d %H:%M %z", time.localtime(checkpoint and checkpoint.stat().st_mtime))
    first = [html.paragraph(f"{about}; finished {ended}"), html.key_figures(figures)]
    return "\n".join([*first, *map(html.paragraph, remarks)])


def _curves(solver, pictures):
    parts = []
    if pictures is None:
        parts.append(html.paragraph("Without matplotlib there are no curves: pip install cnnlib[plots]"))
    else:
        loss = pictures.html("loss", "Loss of training and validation by epoch", "svg")
        about = f"{metrics_of(solver.histories)[0].capitalize()} in training and validation by epoch"
        parts.append(html.side_by_side(loss, pictures.html("metric", about, "svg")))
    heading, *rows = history(solver)
    if rows:
        columns = [(name, "number") for name in heading]
        parts.append(html.folded("Epoch by epoch", html.table(columns, rows)))
    return html.section("Training", *parts)


def _classes(run, part, y, right, pictures):
    """How the classes fared: in numbers, and as a matrix."""
    rows = []
    for k, name in enumerate(run.data_set.classes):
        of_class = right[y == k]
        share = of_class.mean() if len(of_class) else math.nan
        text = percent(share, len(of_class)) if len(of_class) else ""
        rows.append((name, f"{of_class.sum():,}", f"{len(of_class):,}", text, np.nan_to_num(share)))
    columns = [("class", "text"), ("right", "number"), ("of", "number"), ("share", "number"), ("", "bar")]
    by_class = html.table(columns, rows)
    if len(rows) > _SHOWN_CLASSES:
        by_class = html.folded(f"{len(rows)} classes", by_class)
    what = "Test images" if part == "test" else "Validation images"
    if pictures is None:
        return html.section(what, by_class)
    matrix = pictures.html("confusion.png", "How many images of each class were taken for each class", "svg")
    return html.section(what, html.side_by_side(matrix, by_class))


def _gallery(title, gallery, rows):
    return html.section(title, gallery.html(rows)) if len(rows) else ""


def _typical(gallery):
    """What each class looks like: the images of which the model was surest."""
    parts = []
    for label, name in enumerate(gallery.classes[:_SHOWN_CLASSES]):
        rows = gallery.typical(label, _TYPICAL)
        if len(rows):
            parts += [html.heading(name), gallery.html(rows)]
    more = len(gallery.classes) - _SHOWN_CLASSES
    title = "What the classes look like" + (f" (the first {_SHOWN_CLASSES})" if more > 0 else "")
    return html.section(title, *parts) if parts else ""


def _filters(pictures):
    return html.section("First layer", pictures.html("filters.png", "The first layer's filters", "png"))


def _samples(pictures):
    about = "Above the best samples, below the worst: image, target, what the network gives"
    return html.section("Samples", html.paragraph(about), pictures.html("samples.png", about, "png"))


def _eight_bits(run, solver, data, part, right):
    """What the network comes to in eight bits: its accuracy, and each layer's loss."""
    if not len(data["X_train"]):
        return ""
    images = calibration_images(data["X_train"])
    try:
        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always", UserWarning)
            twin = prepare(solver.model, precision="int8", calibration=_preprocessed(solver, images))
    except ValueError as error:  # a layer that prepared networks do not have
        return html.folded_section("In eight bits", html.paragraph(f"Not prepared: {error}"))
    scores = BatchScorer(twin, solver.options.preprocess, run.tta).all(data[f"X_{part}"])
    right_too = likeliest(scores) == data[f"y_{part}"]
    rows_of_table = twin.quantization()
    figures = [
        (f"{part}_accuracy in eight bits", percent(right_too.mean(), len(right))),
        ("beside float32", f"{100 * (right_too.mean() - right.mean()):+.2f} points"),
        (
            "layers in eight bits",
            f"{sum(r.precision == 'int8' for r in rows_of_table)} of {len(rows_of_table)}",
        ),
    ]
    about = f"As cnnlib.prepare(precision='int8') makes it of {len(images)} training images."
    listed = html.folded("Layer by layer", html.preformatted(str(rows_of_table)))
    told = [html.paragraph(str(doubt.message)) for doubt in doubts]
    return html.folded_section(
        "In eight bits", html.key_figures(figures), html.paragraph(about), *told, listed
    )


def _preprocessed(solver, X):
    return X if solver.options.preprocess is None else solver.options.preprocess(X)


def _time_by_layer(solver):
    """Where a training step's time goes, by the operations of what trained the network."""
    profile = solver.profile_step()
    rows = profile.rows()
    longest = max(share for _, share, *_ in rows)
    cells = [(name, f"{100 * share:.1f} %", share / longest, *times) for name, share, *times in rows]
    columns = [("layer, shape of its input", "text"), ("share", "number"), ("", "bar")]
    columns += [("forward, ms", "number"), ("backward, ms", "number")]
    about = (
        f"A step with {profile.images} images takes {1e3 * profile.total:.3g} ms (mean of {profile.steps}, "
        "measured after the training, without the preparation of images)."
    )
    return html.folded_section("Time by layer", html.paragraph(about), html.table(columns, cells))


def _network(model):
    """The layers of a model."""
    return html.folded_section(
        "Network", html.preformatted(model.summary() if hasattr(model, "summary") else repr(model))
    )


def _settings(run):
    """A run's settings, those first that differ from the defaults."""
    source, network, training = run.config.source, run.config.network, run.config.training
    groups = {
        "": {"model": network.name, "recipe": run.config.recipe},
        "data": {name: value for name, value in source.content().items() if name != "names"},
        "preprocessing": run.config.content()["preprocessing"],
        "model": {name: value for name, value in network.arguments.items() if name not in training},
        "training": training,
    }
    if source.name in OF_FILES:
        groups["data"]["folder"] = Path(source.folder).name  # where it lies is this machine's affair
    about = source.name, network.name
    usual = defaults(*about) if has_defaults(*about) else {}
    own, others = [], []
    for group, group_settings in groups.items():
        for name, value in group_settings.items():
            changed = group in ("model", "training") and name in usual and usual[name] not in (value, [value])
            row = (f"{group} {name}".strip().replace("_", " "), _text(name, value))
            own.append((*row, _text(name, usual[name]))) if changed else others.append(row)
    parts = [html.table([("setting", "text"), ("value", "text"), ("by default", "text")], own)] if own else []
    rest = html.table([("setting", "text"), ("value", "text")], others)
    return html.folded_section(
        "Settings", *parts, html.folded("All others" if own else "All by default", rest)
    )


def _environment(run):
    """Versions and the machine's kind."""
    config = {**current_config(), "platform": platform.platform(), "ranks": run.config.ranks}
    rows = [(name, f"{value}") for name, value in config.items()]
    return html.folded_section("Environment", html.table([("what", "text"), ("value", "text")], rows))


def _text(name, value):
    """The setting `name` as the command line has it; of mean and standard deviation a few digits."""
    if value is None:
        return "none"
    if value and isinstance(value, (list, tuple)) and all(isinstance(item, float) for item in value):
        return ", ".join(f"{item:.6g}" for item in value)
    return setting_text(name, value)
