"""Arguments, arrays, optional imports, trees, whole files, threads, exact arithmetic: no idea of a system."""
