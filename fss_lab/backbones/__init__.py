"""Pre-trained networks behind small, uniform interfaces. Nothing in here knows of few-shot segmentation."""
