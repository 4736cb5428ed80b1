"""Rounding errors of convolution by algorithm and dtype, next to PyTorch's, against long double.

    python bench/accuracy.py

Standard normal data. Each entry is the norm of the error over the norm of the result, then the largest
error over the largest result.
"""

import argparse
import itertools

import cnnlib
import numpy as np

KERNELS = ((3, 3, 1), (5, 5, 1), (1, 3, 1), (1, 5, 1), (1, 7, 1), (3, 3, 2))  # height, width, stride
# Of layers with 3 channels and so many filters, which take Winograd's method along rows.
FIRST_KERNELS = ((3, 3, 1), (5, 5, 1), (7, 7, 1), (7, 7, 2), (11, 11, 4))
FIRST_FILTERS = 32


def truth(x, w, dout, stride):
    """Forward, dx and dw of a convolution with pads of half a kernel, in long double."""
    x, w, dout = (a.astype(np.longdouble) for a in (x, w, dout))
    F, C, KH, KW = w.shape
    H, W = x.shape[2:]

    def columns(images):
        padded = np.pad(images, ((0, 0), (0, 0), (KH // 2, KH // 2), (KW // 2, KW // 2)))
        taps = [padded[:, :, i : i + H, j : j + W] for i in range(KH) for j in range(KW)]
        return np.stack(taps, 2).transpose(1, 2, 0, 3, 4).reshape(-1, len(images) * H * W)

    def planes(matrix):
        return matrix.reshape(len(matrix), len(x), H, W).swapaxes(0, 1)

    # The gradients of the outputs that a stride leaves out are zero.
    every = np.zeros((len(x), F, H, W), np.longdouble)
    every[:, :, ::stride, ::stride] = dout
    rows = every.swapaxes(0, 1).reshape(F, -1)
    back = w[:, :, ::-1, ::-1].swapaxes(0, 1).reshape(C, -1)
    return (
        planes(w.reshape(F, -1) @ columns(x))[:, :, ::stride, ::stride],
        planes(back @ columns(every)),
        (rows @ columns(x).T).reshape(w.shape),
    )


def errors(got, want):
    difference = np.abs(got - want)
    norm = np.sqrt((difference**2).sum() / (want**2).sum())
    return f"{float(norm):.1e} {float(difference.max() / np.abs(want).max()):.1e}"


def with_cnnlib(algorithm):
    def run(x, w, dout, stride):
        pads = (w.shape[2] // 2, w.shape[3] // 2)
        out, cache = cnnlib.conv_forward(x, w, None, {"stride": stride, "pad": pads, "algorithm": algorithm})
        return out, *cnnlib.conv_backward(dout, cache, needs=("dx", "dw"))[:2]

    return run


def with_torch(x, w, dout, stride):
    import torch

    x, w, dout = map(torch.from_numpy, (x, w, dout))
    pads = [w.shape[2] // 2, w.shape[3] // 2]
    out = torch.nn.functional.conv2d(x, w, stride=stride, padding=pads)
    options = (None, [stride, stride], pads, [1, 1], False, [0, 0], 1, [True, True, False])
    dx, dw, _ = torch.ops.aten.convolution_backward(dout, x, w, *options)
    return out.numpy(), dx.numpy(), dw.numpy()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 64, 256], help="C = F (16 64 256)")
    args = parser.parse_args()
    peers = {"direct": with_cnnlib("direct")}
    try:
        import torch  # noqa: F401

        peers["torch"] = with_torch
    except ImportError:
        print("torch is not installed: its rows are left out")
    cnnlib.show_config()
    print(f"{'channels':>8} {'kernel':8} {'dtype':8} {'':13} {'forward':17} {'dx':17} dw")
    rng = np.random.default_rng(0)
    sides = {**peers, "winograd": with_cnnlib("winograd")}
    for C, kernel in itertools.product(args.channels, KERNELS):
        print_errors(rng, C, C, 16 if C <= 64 else 8, kernel, sides)
    sides = {**peers, "winograd-rows": with_cnnlib("winograd-rows")}
    for kernel in FIRST_KERNELS:  # dx is that of 'auto'
        print_errors(rng, 3, FIRST_FILTERS, 64, kernel, sides)


def print_errors(rng, C, F, size, kernel, sides):
    """A line for each dtype and side of a layer with images of `size`."""
    KH, KW, stride = kernel
    shapes = (2, C, size, size), (F, C, KH, KW), (2, F, size // stride, size // stride)
    for dtype in (np.float32, np.float64):
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        want = truth(*arrays, stride)
        for name, run in sides.items():
            cells = [errors(got, exact) for got, exact in zip(run(*arrays, stride), want, strict=True)]
            text = f"{KH}x{KW}" + (f" s{stride}" if stride > 1 else "")
            print(f"{C:8} {text:8} {np.dtype(dtype).name:8} {name:13} {'   '.join(cells)}")


if __name__ == "__main__":
    main()
