"""Detect things: a small network learns to find balls, boxes and stars in scenes drawn on the spot.

python examples/detect_shapes.py    # needs Pillow

It is made as networks of the YOLO family are: of each cell of a grid the network says how likely the cell
belongs to an object of each class, and how far the edges of that object's box are (Tian et al. 2019, FCOS,
arXiv:1904.01355).
"""

import cnnlib
import numpy as np
from cnnlib.detection import DetectionHead, draw, letterbox
from cnnlib.models import ConvNet
from cnnlib.solver import Solver

CLASSES = ("ball", "box", "star")
SCENE = (240, 320)  # height and width of a scene, in pixels
SIZE, CELL = 128, 8  # of the network's images and of a cell of its grid, in pixels
GRID = SIZE // CELL
CENTRES = (np.arange(GRID) + 0.5) * CELL  # of the cells, along either axis


def scene(rng):
    """A scene (3, H, W) of some things on a ground with shadows, their boxes (K, 4) and classes (K,)."""
    (H, W), (y, x) = SCENE, np.mgrid[: SCENE[0], : SCENE[1]]
    waves = sum(
        np.sin(x / rng.uniform(20, 90) + y / rng.uniform(20, 90) + rng.uniform(0, 6)) for _ in range(3)
    )
    image = rng.uniform(90, 170, (3, 1, 1)) + rng.uniform(-9, 9, (3, 1, 1)) * waves + 25 * y / H
    boxes, classes = [], []
    for _ in range(rng.integers(1, 5)):
        radius = rng.uniform(20, 46)
        cy, cx = rng.uniform(radius, H - radius), rng.uniform(radius, W - radius)
        if any(np.hypot(cy - (a + b) / 2, cx - (c + d) / 2) < radius for c, a, d, b in boxes):
            continue  # it would hide another one
        kind, angle = int(rng.integers(len(CLASSES))), np.arctan2(y - cy, x - cx) + rng.uniform(0, 6)
        distance = np.hypot(y - cy, x - cx) / radius
        edge = {  # distance from the centre at which the thing ends, by the angle
            0: np.ones_like(angle),
            1: 0.75 / np.maximum(abs(np.cos(angle)), abs(np.sin(angle))),
            2: 0.72 + 0.28 * np.cos(5 * angle),
        }[kind]
        inside = distance < edge
        image[:, np.roll(inside, (6, 8), (0, 1))] *= 0.7  # its shadow
        light = 1.1 - 0.35 * ((x - cx) + (y - cy)) / radius
        image[:, inside] = (rng.uniform(60, 220, (3, 1, 1)) * light)[:, inside]
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        classes.append(kind)
    return np.clip(image, 0, 255).astype(np.uint8), np.array(boxes, float), np.array(classes)


def scenes(n, seed):
    """Some scenes."""
    rng = np.random.default_rng(seed)
    return [scene(rng) for _ in range(n)]


def targets(found):
    """Images (N, 3, SIZE, SIZE) from 0 to 1 of scenes, and what the network is to say of each cell.

    That is (N, 4 + classes, GRID, GRID): left, upper, right and lower edge of the box, as distances in cells,
    and 1 for the class of a cell in the middle of an object.
    """
    X = np.empty((len(found), 3, SIZE, SIZE), np.float32)
    y = np.zeros((len(found), 4 + len(CLASSES), GRID, GRID), np.float32)
    for framed, cells, (image, boxes, classes) in zip(X, y, found, strict=True):
        pixels, placement = letterbox(image, (SIZE, SIZE))
        framed[:] = pixels / 255
        scale, shift = placement.inner[0] / SCENE[0], np.array([placement.left, placement.top] * 2)
        for (x1, y1, x2, y2), kind in zip(boxes * scale + shift, classes, strict=True):
            across, down = abs(CENTRES - (x1 + x2) / 2), abs(CENTRES - (y1 + y2) / 2)
            columns = across <= max((x2 - x1) / 4, across.min())
            rows = down <= max((y2 - y1) / 4, down.min())
            for i, j in np.argwhere(rows[:, None] & columns):
                edges = CENTRES[j] - x1, CENTRES[i] - y1, x2 - CENTRES[j], y2 - CENTRES[i]
                cells[:, i, j] = 0
                cells[:4, i, j], cells[4 + kind, i, j] = np.array(edges) / CELL, 1
    return X, y


def loss(scores, y):
    """Cross-entropy of the classes of all cells, and the error of the edges where there is an object."""
    there = y[:, 4:].sum(axis=1, keepdims=True)
    count = max(there.sum(), 1)
    logits, classes = scores[:, 4:], y[:, 4:]
    errors = (scores[:, :4] - y[:, :4]) * there
    value = np.sum(np.logaddexp(0, logits) - classes * logits) / count
    value += np.sum(np.where(abs(errors) < 1, errors**2 / 2, abs(errors) - 0.5)) / count
    gradient = np.concatenate([np.clip(errors, -1, 1), _sigmoid(logits) - classes], axis=1) / count
    return float(value), gradient.astype(scores.dtype)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def train(n=1000, epochs=12):
    """A detector: a function of images (N, 3, SIZE, SIZE) whose result is (N, 4 + classes, GRID, GRID)."""
    spec = []
    for filters, stride in ((16, 2), (32, 2), (64, 2), (64, 1), (64, 1)):
        spec += [{"conv": filters, "stride": stride, "size": 3}, "batchnorm", "relu"]
    net = ConvNet([*spec, {"pixels": 4 + len(CLASSES)}], (3, SIZE, SIZE), seed=0)
    net.params["b6"][4:] = -3  # most cells belong to no object
    (X_train, y_train), (X_val, y_val) = targets(scenes(n, 0)), targets(scenes(100, 1))
    data = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 1e-2}, "schedule": "cosine"}
    options |= {"loss": loss, "metrics": loss_of_all, "monitor": "val_loss", "batch_size": 10}
    Solver(net, data, **options, num_epochs=epochs, seed=0, print_every=1000).train()
    predictor = cnnlib.prepare(net)

    def detector(images):
        cells = predictor(images)
        left, upper, right, lower = np.moveaxis(cells[:, :4], 1, 0) * CELL
        x1, y1, x2, y2 = CENTRES - left, CENTRES[:, None] - upper, CENTRES + right, CENTRES[:, None] + lower
        boxes = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=1)
        return np.concatenate([boxes, _sigmoid(cells[:, 4:])], axis=1)

    return detector


def loss_of_all(scores, y):
    """The loss as a metric."""
    return loss(scores, y)[0]


def compared(found, boxes, classes):
    """How many of the objects that were found are there: of the right class, and half of the box at least."""
    right, left = 0, set(range(len(boxes)))
    for box, kind in zip(found.boxes, found.classes, strict=True):
        shared = [_overlap(box, boxes[k]) if classes[k] == kind else 0 for k in left]
        if shared and max(shared) >= 0.5:
            left.remove(list(left)[int(np.argmax(shared))])
            right += 1
    return right


def _overlap(a, b):
    """The area that two boxes share, divided by what both cover."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def main(picture="detected.png", **options):
    """Find the things in new scenes; returns the shares of what is found that is there, and the other way."""
    from PIL import Image

    new, detector = scenes(100, 2), train(**options)
    head = DetectionHead(CLASSES, size=(SIZE, SIZE))
    found = cnnlib.detect(detector, [image for image, *_ in new], head=head)
    right = sum(compared(f, boxes, classes) for f, (_, boxes, classes) in zip(found, new, strict=True))
    scores = {"precision": right / max(sum(map(len, found)), 1)}
    scores["recall"] = right / sum(len(classes) for *_, classes in new)
    for name, score in scores.items():
        print(f"{name:10} {score:.3f}")
    if picture:
        drawn = [draw(image, f) for (image, *_), f in zip(new[:6], found, strict=False)]
        rows = [np.concatenate(drawn[k : k + 3], axis=2) for k in (0, 3)]
        Image.fromarray(np.concatenate(rows, axis=1).transpose(1, 2, 0)).save(picture)
    return scores


if __name__ == "__main__":
    main()
