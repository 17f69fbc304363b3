"""
Tests of catalogue files: the file, its entries, the comparison, and the operator that
compares.
"""
