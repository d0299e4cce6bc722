"""What is found in a CT from the image alone: the lungs, the region between them, the carina."""
