"""Hyper-parameters searched with Optuna."""
