"""An evaluator in plain Python, written from ``docs/exact-lm.md`` alone: the text is enough, and says the same."""

import math
from typing import Any

import pytest

from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.spec import ExactLM


def requantise(a: int, m: int, s: int) -> int:
    return (a * m + 2 ** (s - 1)) >> s


def clip(a: int, m: int) -> int:
    return max(-m, min(a, m))


def exp_entry(j: int) -> int:
    root = 2 ** (4352 - j % 256)
    for _ in range(8):
        root = math.isqrt(root)
    return 0 if j >= 4095 else ((root >> (j // 256)) + 1) >> 1


class FromTheText:
    def __init__(self, model: ExactLM) -> None:
        self.c = model.config
        self.arrays: dict[str, Any] = {name: array.tolist() for name, array in model.arrays.items()}
        self.past: list[list[tuple[list[int], list[int]]]] = [[] for _ in range(self.c.layers)]
        self.position = 0

    def get(self, name: str, layer: int | None) -> Any:
        return self.arrays[name] if layer is None else self.arrays[f"layers.{name}"][layer]

    def shift(self, name: str, layer: int | None) -> int:
        return self.arrays[f"{name}.shift"][0] if layer is None else self.arrays[f"layers.{name}.shift"][layer]

    def linear(self, name: str, q: list[int], layer: int | None = None) -> list[int]:
        rows, multipliers = self.get(f"{name}.weight", layer), self.get(f"{name}.multiplier", layer)
        sums = [sum(w * x for w, x in zip(row, q, strict=True)) for row in rows]
        return [requantise(a, m, self.shift(name, layer)) for a, m in zip(sums, multipliers, strict=True)]

    def row(self, name: str, r: int) -> list[int]:
        m, s = self.arrays[f"{name}.multiplier"][r], self.arrays[f"{name}.shift"][0]
        return [requantise(w, m, s) for w in self.arrays[f"{name}.weight"][r]]

    def norm(self, name: str, x: list[int], epsilon: str, layer: int | None = None) -> list[int]:
        reciprocal = 2**40 // math.isqrt(self.arrays[epsilon][0] + sum(a * a for a in x))
        units = [(a * reciprocal + 2**19) >> 20 for a in x]
        s = self.shift(name, layer)
        return [clip(requantise(u, g, s), 127) for u, g in zip(units, self.get(f"{name}.gain", layer), strict=True)]

    @staticmethod
    def gelu(values: list[int], table: list[int]) -> list[int]:
        return [table[max(-2048, min(a, 2047)) + 2048] for a in values]

    @staticmethod
    def added(x: list[int], y: list[int]) -> list[int]:
        return [clip(a + b, 2**20 - 1) for a, b in zip(x, y, strict=True)]

    def rotated(self, part: list[int]) -> list[int]:
        d = self.c.dim // self.c.heads
        out = [0] * len(part)
        for start in range(0, len(part), d):
            for i in range(d // 2):
                a, b = clip(part[start + i], 4095), clip(part[start + i + d // 2], 4095)
                c = self.arrays["rotation.cosine"][self.position][i]
                s = self.arrays["rotation.sine"][self.position][i]
                out[start + i] = clip((a * c - b * s + 2**17) >> 18, 127)
                out[start + i + d // 2] = clip((b * c + a * s + 2**17) >> 18, 127)
        return out

    def mixed(self, layer: int, query: list[int], h: int) -> list[int]:
        d = self.c.dim // self.c.heads
        places = range(h * d, h * d + d)
        m, s = self.arrays["layers.score.multiplier"][layer][h], self.shift("score", layer)
        scores = []
        for t, (key, _) in enumerate(self.past[layer]):
            score = requantise(sum(query[i] * key[i] for i in places), m, s)
            scores.append(score if self.c.rotary else score + self.arrays["layers.position_bias"][layer][h][t])
        powers = [exp_entry(min(max(scores) - z, 4095)) for z in scores]
        reciprocal = 2**40 // sum(powers)
        weights = [(e * reciprocal + 2**23) >> 24 for e in powers]
        sums = [sum(w * value[i] for w, (_, value) in zip(weights, self.past[layer], strict=True)) for i in places]
        mix, s = self.arrays["layers.mix.multiplier"][layer], self.shift("mix", layer)
        return [clip(requantise(a, mix[i], s), 127) for a, i in zip(sums, places, strict=True)]

    def read(self, codes: list[int]) -> list[int]:
        c = self.c
        rows = [self.row("embedding", k * (c.codebook_size + 1) + code) for k, code in enumerate(codes)]
        x = [clip(sum(column), 2**20 - 1) for column in zip(*rows, strict=True)]
        for layer in range(c.layers):
            y = self.linear("query_key_value", self.norm("attention_norm", x, "epsilon", layer), layer)
            query, key, value = y[: c.dim], y[c.dim : 2 * c.dim], [clip(a, 127) for a in y[2 * c.dim :]]
            if c.rotary:
                query, key = self.rotated(query), self.rotated(key)
            else:
                query, key = [clip(a, 127) for a in query], [clip(a, 127) for a in key]
            self.past[layer] = [(key, value), *self.past[layer]][: c.window_frames]
            o = [a for h in range(c.heads) for a in self.mixed(layer, query, h)]
            x = self.added(x, self.linear("output", o, layer))
            inner = self.linear("inner", self.norm("feed_forward_norm", x, "epsilon", layer), layer)
            x = self.added(x, self.linear("outer", self.gelu(inner, self.get("gelu", layer)), layer))
        self.position += 1
        return self.norm("norm", x, "epsilon")

    def logits(self, hidden: list[int], before: list[int]) -> list[int]:
        c, k = self.c, len(before)
        q = hidden
        if c.conditioned:
            rows = [self.linear("project", hidden)[k * c.head_dim : (k + 1) * c.head_dim]]
            rows += [self.row("frame_embedding", j * c.codebook_size + code) for j, code in enumerate(before)]
            x = [clip(sum(column), 2**20 - 1) for column in zip(*rows, strict=True)]
            inner = self.linear("head_inner", self.norm("head_norm", x, "head_epsilon"))
            x = self.added(x, self.linear("head_outer", self.gelu(inner, self.arrays["head_gelu"])))
            q = self.norm("logits_norm", x, "head_epsilon")
        rows, multipliers = self.arrays["logits.weight"][k], self.arrays["logits.multiplier"][k]
        s = self.arrays["logits.shift"][0]
        sums = [sum(w * a for w, a in zip(row, q, strict=True)) for row in rows]
        return [requantise(a, m, s) for a, m in zip(sums, multipliers, strict=True)]


@pytest.mark.parametrize("peaky", [False, True])
@pytest.mark.parametrize("kind", ["in_frame", "none", "single", "rotary"])
def test_the_text_is_what_is_computed(kind: str, peaky: bool, make_integer_model, draw_codes) -> None:
    model = make_integer_model(kind, seed=7, peaky=peaky)
    codes = draw_codes(model, 10)
    plain = FromTheText(model)
    hidden = plain.read([11] * model.num_codebooks)
    expected = reference_logits(model, codes)
    for t, frame in enumerate(codes.tolist()):
        for k in range(model.num_codebooks):
            assert plain.logits(hidden, frame[:k]) == expected[t, k].tolist()
        hidden = plain.read(frame)
