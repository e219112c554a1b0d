"""Workloads, and the numbers that they defend."""
