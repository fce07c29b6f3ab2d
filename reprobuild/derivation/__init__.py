"""Recipes, steps, predictors, pins, locks, and the derivation they come to: frozen data, pure functions."""
