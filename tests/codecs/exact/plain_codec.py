"""An independent exact codec in plain numpy, written from ``docs/exact-codec.md`` alone."""
# ruff: noqa: N802 (names of the text)

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

TOP = 2**23 - 1
GRID = np.arange(4097)
NODES = {
    "elu": np.rint(2.0**24 * -np.expm1(-GRID / 256)).astype(np.int64),
    "tanh": np.rint(2.0**24 * np.tanh(GRID / 256)).astype(np.int64),
    "sine": np.rint(2.0**24 * np.sin(np.pi * GRID / 4096) ** 2).astype(np.int64),
}


def R(a: Any, s: int) -> Any:
    return (a + 2 ** (s - 1)) // 2**s if s > 0 else a * 2**-s


def SAT(a: Any) -> np.ndarray:
    return np.minimum(np.maximum(a, -TOP), TOP)


def CURVE(name: str, a: np.ndarray, f: int, g: int) -> np.ndarray:
    N, h = NODES[name], f - 8
    a = np.minimum(a, 16 * 2**f)
    i = a // 2**h
    return R(N[i] * 2**h + (N[np.minimum(i + 1, 4096)] - N[i]) * (a - i * 2**h), 24 + h - g)


def TANH(a: np.ndarray, f: int) -> np.ndarray:
    y = CURVE("tanh", np.abs(a), f, 20)
    return np.where(a < 0, -y, y)


def SIG(a: np.ndarray) -> np.ndarray:
    return R(2**20 + TANH(a, 19), 1)


class PlainCodec:
    """Reads the configuration and the arrays by their paths."""

    def __init__(self, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        self.config = dict(config)
        self.arrays = {name: array.astype(np.int64) for name, array in arrays.items()}
        digest = hashlib.sha256()
        for name in sorted(arrays):
            array = arrays[name]
            digest.update(f"{name}:torch.{array.dtype.name}:{list(array.shape)};".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        text = json.dumps(self.config, sort_keys=True, separators=(",", ":"))
        self.sha256 = hashlib.sha256(f"codecbook exact codec 1\n{text}\n{digest.hexdigest()}".encode()).hexdigest()

    def encode(self, x: np.ndarray) -> list[np.ndarray]:
        z = self.sequence("encoder", x.T)
        if self.config["quantizer.kind"] == "ScalarQuantizer":
            e, code, place = self.sequence("quantizer.project", z), 0, 1
            for k, radix in enumerate(self.arrays["quantizer.radix"]):
                code = code + place * sum(e[:, k] >= edge for edge in self.arrays["quantizer.thresholds"][k])
                place *= int(radix)
            return [np.asarray(code)]
        codes, level = [], 0
        while f"quantizer.levels.{level}.stride" in self.config:
            path = f"quantizer.levels.{level}"
            e, table = self.sequence(f"{path}.project", z), self.arrays[f"{path}.table"]
            directions = self.arrays[f"{path}.directions"]
            scores = 2 * (e @ (directions if len(directions) else table).T) - self.arrays[f"{path}.norms"]
            codes.append(np.array([min(np.flatnonzero(row == row.max())) for row in scores]))
            z = SAT(z - np.repeat(table[codes[-1]], self.config[f"{path}.stride"], axis=0))
            level += 1
        return codes

    def decode(self, codes: list[np.ndarray]) -> np.ndarray:
        if self.config["quantizer.kind"] == "ScalarQuantizer":
            digits, rest = [], codes[0]
            for radix in self.arrays["quantizer.radix"]:
                digits.append(rest % radix)
                rest = rest // radix
            z = self.sequence("quantizer.expand", np.stack(digits, axis=1))
        else:
            z = SAT(
                sum(
                    np.repeat(self.arrays[f"quantizer.levels.{k}.table"][code],
                              self.config[f"quantizer.levels.{k}.stride"], axis=0)
                    for k, code in enumerate(codes)
                )
            )  # fmt: skip
        return self.sequence("decoder", z).T

    def sequence(self, path: str, x: np.ndarray) -> np.ndarray:
        i = 0
        while f"{path}.{i}.kind" in self.config:
            step = f"{path}.{i}"
            x = SAT(getattr(self, self.config[f"{step}.kind"])(step, x))
            i += 1
        return x

    def get(self, step: str, *names: str) -> list[Any]:
        return [self.arrays.get(f"{step}.{name}", self.config.get(f"{step}.{name}")) for name in names]

    def Conv(self, step: str, x: np.ndarray) -> np.ndarray:
        names = ("weight", "bias", "stride", "dilation", "before", "reflect", "shift")
        weight, bias, stride, dilation, before, reflect, shift = self.get(step, *names)
        T, rows = len(x), []
        for t in range(math.ceil(T / stride)):
            total = bias.copy()
            for j in range(weight.shape[1]):
                place = t * stride - before + j * dilation
                if reflect and place < 0:
                    place = -place
                elif reflect and place >= T:
                    place = T - 1 - (place - (T - 1))
                if 0 <= place < T:
                    row = x[place]
                    total += weight[:, j, 0] * row if weight.shape[2] == 1 < len(row) else weight[:, j] @ row
            rows.append(total)
        return R(np.stack(rows), shift)

    def UpConv(self, step: str, x: np.ndarray) -> np.ndarray:
        weight, bias, crop, shift = self.get(step, "weight", "bias", "crop", "shift")
        S, rows = len(weight), []
        for t in range(len(x) * S):
            q, p = divmod(t + crop, S)
            total = bias.copy()
            for j in range(weight.shape[2]):
                if 0 <= q - j < len(x):
                    total += weight[p, :, j] @ x[q - j]
            rows.append(total)
        return R(np.stack(rows), shift)

    def Curve(self, step: str, x: np.ndarray) -> np.ndarray:
        name, input_unit, unit = self.get(step, "name", "input_unit", "unit")
        if name == "tanh":
            return TANH(x, input_unit)
        return np.where(x > 0, x, -CURVE("elu", np.maximum(-x, 0), unit, unit))

    def Snake(self, step: str, x: np.ndarray) -> np.ndarray:
        turns, inverse, inverse_unit, u = self.get(step, "turns", "inverse", "inverse_unit", "unit")
        p = (x * turns) // 2 ** (u - 4) % 2**28
        i, r, Q = p // 2**16, p % 2**16, NODES["sine"]
        q = R(Q[i] * 2**16 + (Q[i + 1] - Q[i]) * r, 16)
        return x + R(q * inverse, 24 + inverse_unit - u)

    def GroupNorm(self, step: str, x: np.ndarray) -> np.ndarray:
        gain, offset, epsilon, unit = self.get(step, "gain", "offset", "epsilon", "unit")
        n, A, B = x.size, sum(x.ravel().tolist()), sum(v * v for v in x.ravel().tolist())
        d = math.isqrt(2**20 * (n * B - A * A) + n * n * epsilon)
        m = [min(max(g * n * 2 ** (unit + 10) // d, -(2**28)), 2**28) for g in gain.tolist()]
        b = [o * 2**unit - m_c * A // n for o, m_c in zip(offset.tolist(), m, strict=True)]
        return R(x * np.array(m) + np.array(b), 20)

    def Lstm(self, step: str, x: np.ndarray) -> np.ndarray:
        inward, hidden, bias, shift = self.get(step, "input_weight", "hidden_weight", "bias", "shift")
        h = c = np.zeros(hidden.shape[1], dtype=np.int64)
        rows = []
        for frame in x:
            i, f, g, o = SAT(R(inward @ frame + hidden @ h + bias, shift)).reshape(4, -1)
            c = np.clip(R(SIG(f) * c + SIG(i) * TANH(g, 18), 20), -(2**28), 2**28)
            h = R(SIG(o) * TANH(c, 20), 20)
            rows.append(h)
        return np.stack(rows)

    def Residual(self, step: str, x: np.ndarray) -> np.ndarray:
        block_shift, shortcut_shift = self.get(step, "block_shift", "shortcut_shift")
        block, shortcut = self.sequence(f"{step}.block", x), self.sequence(f"{step}.shortcut", x)
        return R(block, -block_shift) + R(shortcut, -shortcut_shift)
