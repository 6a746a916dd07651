#!/usr/bin/env python3
"""GPTQ of one matrix in PyTorch, f32: the published algorithm written plainly and well, as a yardstick for Ounce's solver.

H given; damping, Cholesky, inverse, Cholesky of the inverse, then a column loop with one rank-one update a column inside a batch of 128 and one
matrix product a batch.  4 bits, asymmetric min-max groups fitted when the sweep enters them, no reordering.

    OMP_NUM_THREADS=2 python3 bench/gptq_torch.py 4096 4096 [group]      prints seconds and GFLOP/s (out in^2 + 4/3 in^3), best of three
    bench/gptq.c says how to time the same matrix size in Ounce.

Needs torch, installed by hand; never run by the build or the tests."""
import sys
import time

import torch


@torch.no_grad()
def gptq(W, H, bits=4, group=128, block=128, damp=0.01):
    W = W.clone()
    out, n = W.shape
    H = H.clone()
    diag = torch.arange(n)
    H[diag, diag] += damp * H[diag, diag].mean()
    U = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True)
    factor = time.perf_counter()
    top = 2 ** bits - 1
    Q = torch.empty_like(W)
    loss = torch.zeros(out)
    for b0 in range(0, n, block):
        b1 = min(b0 + block, n)
        w = W[:, b0:b1].clone()
        err = torch.empty_like(w)
        u = U[b0:b1, b0:b1]
        for j in range(b1 - b0):
            if (b0 + j) % group == 0:  # fitted on current values (a group is at most a batch here)
                g = w[:, j:j + group]
                lo, hi = g.amin(1).clamp(max=0), g.amax(1).clamp(min=0)
                scale = ((hi - lo) / top).clamp(min=1e-8)
                zero = torch.round(-lo / scale)
            z = w[:, j]
            q = scale * (torch.clamp(torch.round(z / scale) + zero, 0, top) - zero)
            Q[:, b0 + j] = q
            e = (z - q) / u[j, j]
            loss += e * e
            w[:, j:].addr_(e, u[j, j:], alpha=-1)
            err[:, j] = e
        W[:, b1:].addmm_(err, U[b0:b1, b1:], alpha=-1)
    return Q, loss.sum().item(), factor


def main():
    out, n = int(sys.argv[1]), int(sys.argv[2])
    group = int(sys.argv[3]) if len(sys.argv) > 3 else 128
    torch.manual_seed(0)
    W = torch.randn(out, n)
    X = torch.randn(2 * n, n)
    X[:, 1:] += 0.7 * X[:, :-1].clone()
    H = X.T @ X / (2 * n)
    best = None
    for _ in range(3):
        t0 = time.perf_counter()
        _, loss, factor = gptq(W, H, group=group)
        t1 = time.perf_counter()
        if best is None or t1 - t0 < best[0]:
            best = (t1 - t0, factor - t0, loss)
    flops = out * n * n + 4 / 3 * n ** 3
    print(f"torch {torch.__version__} threads {torch.get_num_threads()}: {out} x {n} group {group}: {best[0]:.3f} s "
          f"(factor {best[1]:.3f}), {flops / best[0] / 1e9:.1f} GFLOP/s, loss {best[2]:.6g}")


if __name__ == "__main__":
    main()
