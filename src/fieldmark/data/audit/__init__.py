"""What is wrong, or worth knowing, with a set of images before anything is trained on it."""
