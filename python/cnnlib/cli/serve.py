"""``cnnlib serve``: a trained model behind HTTP."""

import logging
import warnings
from pathlib import Path

from cnnlib._system.packages import required
from cnnlib._system.text import shape_text
from cnnlib.cli.options.arguments import FORMS, add, add_model, add_prepared, add_setting, add_threads, port
from cnnlib.cli.options.objects import add_limits, limits_of, refuse_meaningless
from cnnlib.cli.output import say
from cnnlib.cli.run.trained import open_prepared
from cnnlib.cli.server.batching import Limits
from cnnlib.detection import Detector

_LIMITS, _TOP = Limits(), 5


def add_to(commands):
    serve = commands.add_parser(
        "serve",
        help="answer HTTP requests with the classes of images, or the objects in them",
        description="Answer HTTP requests: POST an image to /predict, get its classes, or the objects in it, "
        "as JSON; open / in a browser to drop images on a page. Images are treated as `cnnlib predict` does. "
        "Ctrl-C and SIGTERM stop the server when it has answered what it has begun.",
    )
    add_model(serve)
    add_prepared(serve)
    add(serve, "--host HOST", "default: 127.0.0.1, this machine alone", "127.0.0.1")
    add(serve, "--port N", "default: 8000; 0 for one that is free", 8000, type=port)
    for name, form, value, what in (
        ("top", "count", _TOP, "classes in an answer"),
        (
            "timeout",
            "positive number",
            _LIMITS.seconds,
            "seconds for a request's body, and for its answer",
        ),
        ("max_megabytes", "positive number", _LIMITS.body_bytes / 2**20, "of a request's body"),
        ("max_megapixels", "positive number", _LIMITS.pixels / 1e6, "of an image"),
        ("max_images", "count", _LIMITS.images, "of a request"),
        ("max_requests", "count", _LIMITS.requests, "answered at a time; more are refused with status 503"),
        ("batch", "count", _LIMITS.batch, "images that the model looks at together"),
    ):
        add_setting(serve, name, form, f"{what}; default: {value:g}", value)
    add_limits(serve)
    usual = f"{_LIMITS.waiting}, or those of a request"
    about = f"images that may wait; more are refused with status 503; default: {usual}"
    add_setting(serve, "queue", "count", about)
    about = "how long an image waits for others while the model is idle; default: 0"
    add(serve, "--batch-wait MS", about, 0.0, type=FORMS["number"]["type"])
    add(serve, "--log-requests", "print a line for each request")
    add_threads(serve)


def run(options):
    for module in ("PIL", "python_multipart", "starlette", "uvicorn"):
        required(module, "cnnlib serve", "Starlette, uvicorn, python-multipart and Pillow", "serve")
    from cnnlib.cli.server.app import Server
    from cnnlib.cli.server.listening import bound_socket, listen, uvicorn_server

    waiting = max(_LIMITS.waiting, options.max_images) if options.queue is None else options.queue
    if waiting < options.max_images:
        raise ValueError(f"--queue {waiting}: a request may have {options.max_images} images (--max-images)")
    trained = open_prepared(options)
    if trained.task not in ("classes", "objects"):
        raise ValueError(
            f"cnnlib serve answers with classes or objects; {options.run} is a model of {trained.task}"
        )
    refuse_meaningless(trained.task, options, ("--top", options.top != _TOP, ("classes",)))
    detector = Detector(trained.model, **limits_of(options)) if trained.task == "objects" else None
    limits = Limits(
        body_bytes=int(options.max_megabytes * 2**20),
        pixels=int(options.max_megapixels * 1e6),
        images=options.max_images,
        seconds=options.timeout,
        waiting=waiting,
        batch=options.batch,
        batch_seconds=options.batch_wait / 1000,
        requests=options.max_requests,
    )
    name = Path(options.run).resolve().name
    server = Server(trained, name, options.top, limits, detector=detector)
    server.warm_up()
    # What comes of damaged files and forms is for whoever sent them.
    warnings.filterwarnings("ignore", module="PIL")
    for library in ("PIL", "python_multipart"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with bound_socket(options.host, options.port) as listener:
        host, port = listener.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        count = len(trained.classes)
        about = f"{count} class{'es' * (count > 1)}, images of {shape_text(trained.shape)}"
        say(f"serving {options.run}: {about}", fold=False)
        say(f"http://{address}/ (Ctrl-C stops)", fold=False)
        listen(uvicorn_server(server.app(), limits, options.log_requests), listener)
    say(f"stopped; requests answered: {server.answered}")
    return 0
