"""What is measured of a training and of an attack."""
