"""``cnnlib eval``: the accuracy of a run's model on a split of a data set."""

import cnnlib
from cnnlib.augment import TTA
from cnnlib.cli import networks
from cnnlib.cli.arguments import add_data, add_run, add_threads
from cnnlib.cli.runs import Run


def add_to(commands):
    """Add the command and its options."""
    evaluate = commands.add_parser("eval", help="accuracy of a run's model")
    evaluate.set_defaults(execute=run)
    add_run(evaluate)
    add_data(evaluate, "where the run's data set lies, if it has moved")
    evaluate.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: test")
    evaluate.add_argument(
        "--which", choices=("best", "last"), default="best", help="parameters; default: best"
    )
    evaluate.add_argument(
        "--tta", choices=("none", *TTA), help="average the scores over views; default: as the run did"
    )
    add_threads(evaluate)


def run(options):
    """Run the subcommand; returns the exit status."""
    if options.threads is not None:
        cnnlib.set_num_threads(options.threads)
    run = Run.open(options.run)
    model = run.load_model(options.run, options.which)
    data = run.load_data(options.data, (options.split,))
    X, y = run.preprocessing.apply(data[f"X_{options.split}"]), data[f"y_{options.split}"]
    tta = run.tta if options.tta is None else None if options.tta == "none" else options.tta
    right = networks.scores_of(model, X, tta=tta).argmax(axis=1) == y
    classes = run.data_set.classes
    width = max(map(len, classes))
    for k, name in enumerate(classes):
        of_class = right[y == k]
        share = of_class.sum() / max(len(of_class), 1)
        print(f"{name:{width}}  {of_class.sum():5d} of {len(of_class):5d}  {share:.4f}")
    print(f"{options.split} accuracy: {right.mean():.4f}")
    return 0
