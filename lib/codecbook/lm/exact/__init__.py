"""Language models in integers: the same logits on every machine; ``docs/exact-lm.md`` is the normative text."""
