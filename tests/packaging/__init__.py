"""
Tests of the distribution: provider information, wheel, constraints, and the cost of an
import.
"""
