"""Photographs as episodes: data sets and their records, folds, protocols, lists, augmentation, downloads, checks.

Must know nothing of networks, the method, or how a model is trained and scored.
"""
