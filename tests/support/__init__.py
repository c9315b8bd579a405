"""Oracles, model families, tables of systems and data of the tests."""
