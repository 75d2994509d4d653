"""The fast path: what transformers' T5 computes, in fewer and larger operations."""
