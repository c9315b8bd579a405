"""How fast networks run with drop-in layers: whole networks, layers alone, steps, exports, memory."""
