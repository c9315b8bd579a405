"""The evidence: like-for-like comparisons of reduction methods on networks trained for the purpose.

Tasks (`tasks`), networks (`models`), their training (`train`), the grid of reductions (`methods`, `runs`), and the
tables and figures drawn from its stored results (`tables`, `figures`). ``python -m benchmarks.evidence --help`` lists
the commands.
"""
