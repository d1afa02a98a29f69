"""Weights from other libraries, and back."""
