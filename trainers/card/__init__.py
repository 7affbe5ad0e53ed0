"""Memory of a graphics card: what a training needs of it, and what its share is."""
