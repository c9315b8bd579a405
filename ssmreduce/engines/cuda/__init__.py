"""The engine for CuPy arrays: CUDA kernels, compiled on use; see `_cupy`."""
