"""Pre-trained networks behind small, uniform interfaces: SAM 2, dense features, their weights and what they compute.

Must know nothing of few-shot segmentation: no support, no shot, no fold, no data set.
"""
