"""Analysis transforms: from a picture to the cells of a small map."""
