"""The engine for NumPy arrays: fused loops of layers on vector registers; see `_engine`."""
